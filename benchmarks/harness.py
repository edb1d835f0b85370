"""One benchmark per (case, mode, threads): the native op is timed by pytest-benchmark; before each of its rounds the baselines run once, so that all share the machine's mood."""
import time

import torch
from irstd_ext import bench
from irstd_ext.testing import OpSpec

ROUNDS = 15


class OpBench:
    spec: OpSpec
    native = None  # the best composition of ready-made PyTorch operators, same signature
    compiled = True  # whether torch.compile of the reference is a baseline
    rounds = ROUNDS

    def extra(self, info: dict) -> dict:
        """More figures for a row of results, from those it has."""
        return {}

    def pytest_generate_tests(self, metafunc):
        metafunc.parametrize("threads", [1, 2], ids=lambda t: f"{t}thread")
        metafunc.parametrize("mode", ["forward", "forward+backward"])
        metafunc.parametrize("case", list(self.spec.bench))

    def test_speed(self, benchmark, case, mode, threads):
        spec, sizes = self.spec, self.spec.bench[case]
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        torch._dynamo.reset()  # compiled code keeps the number of threads that it was made for
        try:
            errors, args, g = bench.gate(spec, sizes)
            baselines = {"reference": spec.reference}
            if self.compiled:
                baselines["compiled"] = torch.compile(spec.reference, dynamic=False)
            if self.native:
                baselines["composition"] = type(self).native
            calls = {name: bench.modes(f, args, spec.grads, g)[mode] for name, f in baselines.items()}
            calls["again"] = ext = bench.modes(spec.native, args, spec.grads, g)[mode]  # the same op once more: A/A
            for call in calls.values():
                call(), call()
            times = {name: [] for name in calls}

            def others():
                for name, call in calls.items():
                    start = time.perf_counter()
                    call()
                    times[name].append(time.perf_counter() - start)

            benchmark.pedantic(ext, setup=others, rounds=self.rounds, warmup_rounds=2)
            own = list(benchmark.stats.stats.data)
            flops = spec.flops(sizes) + (spec.backward_flops(sizes) if mode != "forward" else 0)
            info = dict(op=spec.op, case=case, mode=mode, threads=threads, sizes=dict(sizes), dtype="float32", flops=flops, bytes=spec.bytes(sizes, 4), ext=bench.summary(own),
                        gemm_flops_per_s=bench.gemm_rate(), copy_bytes_per_s=bench.copy_rate(), **{n: bench.summary(t[-self.rounds:]) for n, t in times.items()}, **errors)
            benchmark.extra_info.update(info, **self.extra(info))
        finally:
            torch.set_num_threads(before)

