from irstd_ext.specs.pixel_difference_scan import SPEC

from baselines_scan import pscan
from harness import OpBench


class BenchPixelDifferenceScan(OpBench):
    """The reference, a scan by chunks, is itself the fastest composition of ready-made operators known here; beside it the parallel scan in common use."""

    spec = SPEC
    native = pscan
    compiled = False  # torch.compile unrolls the reference to some 1000 operators: four minutes for forward alone, to gain a quarter
    rounds = 3  # of seconds each, mostly the baselines'

    def extra(self, info):
        """floor_ms of forward: 12 vector instructions for the decay and the update of a vector of states, as many a second as the matrix product does
        fused multiply-adds. Neither softplus nor the neighbour term nor memory is in it."""
        s = info["sizes"]
        elements = 4 * s["B"] * s["D"] * s["H"] * s["W"] * s["N"]
        return {"floor_ms": 1e3 * 2 * 12 * elements / info["gemm_flops_per_s"]}
