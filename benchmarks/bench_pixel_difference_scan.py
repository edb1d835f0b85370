from irstd_ext.specs.pixel_difference_scan import SPEC

from baselines_scan import pscan
from harness import OpBench


class BenchPixelDifferenceScan(OpBench):
    """The reference, a scan by chunks, is itself the fastest composition of ready-made operators known here; beside it the parallel scan in common use."""

    spec = SPEC
    native = pscan
    compiled = False  # torch.compile unrolls the reference to some 1000 operators: four minutes for forward alone, to gain a quarter
