"""Timing of operators against their references: interleaved rounds, a correctness gate, and the noise of the machine beside every ratio."""
import statistics
import time
from collections.abc import Callable
from typing import Optional

import torch
from torch import Tensor

from .testing import OpSpec, all_specs, bound, cast, error, with_grads


def interleaved(functions: dict[str, Callable[[], object]], rounds: int = 15, warmup: int = 2) -> dict[str, list[float]]:
    """Seconds of each function in each round; a round calls every function once, so that all see the same machine."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for r in range(warmup + rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if r >= warmup:
                times[name].append(time.perf_counter() - start)
    return times


def summary(seconds: list[float]) -> dict[str, float]:
    low, middle, high = statistics.quantiles(seconds, n=4)
    return dict(min_ms=1e3 * min(seconds), median_ms=1e3 * middle, iqr_ms=1e3 * (high - low))


def gate(spec: OpSpec, sizes, dtype: torch.dtype = torch.float32) -> tuple[dict, list, Tensor]:
    """Errors of op and reference against float64 for output and gradients; raises where the op would fail its tests. Also the arguments."""
    args = spec.args(sizes, dtype)
    wide = cast(args, torch.float64)
    exact = spec.reference(*wide)
    g = torch.randn(exact.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    exact, exact_grads = with_grads(spec.reference, wide, spec.grads, g)
    worst = {}
    for name, function in (("ext", spec.native), ("reference", spec.reference)):
        out, grads = with_grads(function, args, spec.grads, g)
        kept = [(a, b) for a, b in zip(grads, exact_grads) if b.numel() and b.abs().max() > 1e-12 * max(x.abs().max() for x in exact_grads)]
        worst[name] = error(out, exact), max(error(a, b) for a, b in kept)
    for which, ulp in ((0, spec.ulp), (1, spec.grad_ulp)):
        limit = bound(worst["reference"][which], dtype, ulp)
        if not worst["ext"][which] <= limit:
            raise RuntimeError(f"{spec.op}: {'output' if which == 0 else 'gradient'} error {worst['ext'][which]:.3g} exceeds {limit:.3g}; not timed")
    names = ("forward", "gradient")
    return {f"{n}_error_{w}": worst[w][i] for i, n in enumerate(names) for w in worst}, args, g


def modes(function: Callable, args: list, grads: tuple[int, ...], g: Tensor) -> dict[str, Callable[[], object]]:
    """Forward alone, and forward with backward, as calls without arguments."""
    leaves = [a.detach().requires_grad_(i in grads) if isinstance(a, Tensor) else a for i, a in enumerate(args)]
    wanted = [a for i, a in enumerate(leaves) if i in grads and isinstance(a, Tensor)]

    def forward():
        with torch.no_grad():
            return function(*args)

    def both():
        return torch.autograd.grad(function(*leaves), wanted, g, allow_unused=True)

    return {"forward": forward, "forward+backward": both}


def gemm_rate(n: int = 1024) -> float:
    """Flop/s of torch's own float32 matrix product with the present number of threads: the arithmetic floor that percentages refer to."""
    a, b = torch.randn(n, n), torch.randn(n, n)
    return 2 * n**3 / min(interleaved({"mm": lambda: a @ b}, rounds=15)["mm"])


def copy_rate(megabytes: int = 256) -> float:
    """Bytes/s, read plus written, of a copy much larger than the caches."""
    a = torch.zeros(megabytes << 18)
    b = torch.zeros_like(a)
    return 2 * a.numel() * 4 / min(interleaved({"copy": lambda: b.copy_(a)}, rounds=9)["copy"])


def quick(ops: Optional[list[str]] = None, rounds: int = 11) -> list[dict]:
    """The first benchmark shape of every op: op, case, mode, ext_ms, reference_ms, speedup, error_ext, error_reference, threads. Medians of interleaved rounds."""
    rows = []
    for name, spec in all_specs().items():
        if ops and name not in ops:
            continue
        case, sizes = next(iter(spec.bench.items()))
        errors, args, g = gate(spec, sizes)
        ext, reference = modes(spec.native, args, spec.grads, g), modes(spec.reference, args, spec.grads, g)
        for mode, what in zip(ext, ("forward", "gradient")):
            times = interleaved({"ext": ext[mode], "reference": reference[mode]}, rounds)
            a, b = (statistics.median(times[k]) for k in ("ext", "reference"))
            rows.append(dict(op=name, case=case, mode=mode, ext_ms=1e3 * a, reference_ms=1e3 * b, speedup=b / a, error_ext=errors[f"{what}_error_ext"],
                             error_reference=errors[f"{what}_error_reference"], threads=torch.get_num_threads()))
    return rows
