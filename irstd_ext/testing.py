"""What is proved and measured of an operator: one `OpSpec` in irstd_ext/specs/<op>.py feeds the tests, the benchmarks and `python -m irstd_ext`."""
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import torch
from torch import Tensor

Sizes = Mapping[str, Any]


@dataclass(frozen=True)
class Invalid:
    """A call that must fail: `change(args)` returns the arguments, `message` is a part of the one-line error."""

    name: str
    change: Callable[[list], list]
    message: str


def replaced(index: int, function: Callable[[Any], Any]) -> Callable[[list], list]:
    """A change of one argument: for `OpSpec.invalid` and `OpSpec.hot`."""

    def change(args: list) -> list:
        return [*args[:index], function(args[index]), *args[index + 1 :]]

    return change


def poked(index: int, value: float, every: int) -> Callable[[list], list]:
    """One argument with `value` at every so many elements; None stays None."""

    def function(t):
        if t is None:
            return None
        t = t.clone()
        t.view(-1)[::every] = value
        return t

    return replaced(index, function)


@dataclass(frozen=True)
class OpSpec:
    """`inputs(sizes, generator)` draws float64 arguments in the order of the schema, exactly representable in float32; None and numbers pass through."""

    op: str
    inputs: Callable[[Sizes, torch.Generator], list]
    cases: Mapping[str, Sizes]  # small shapes for the tests: odd, tile edges, one element, empty
    split: Sizes  # large enough for the CPU kernels to use several threads
    control: str  # the case on which tolerances must reject wrong results
    bench: Mapping[str, Sizes]  # shapes that are timed
    grads: tuple[int, ...]  # arguments that get a gradient
    gradients: Callable[[Callable, list, Tensor], list[Tensor]]  # (backward op, arguments, upstream) -> gradients of the tensors among `grads`
    flops: Callable[[Sizes], int]  # of forward
    backward_flops: Callable[[Sizes], int]
    bytes: Callable[[Sizes, int], int]  # read and written by forward, given the element size
    invalid: tuple[Invalid, ...] = ()
    hot: Mapping[str, Callable[[list], list]] = field(default_factory=dict)  # name -> arguments with extreme or non-finite values
    ulp: float = 4  # forward tolerance in units of the dtype's epsilon, of the largest value
    grad_ulp: float = 16

    def args(self, sizes: Sizes, dtype: torch.dtype = torch.float64, device: str = "cpu", seed: int = 0) -> list:
        g = torch.Generator().manual_seed(seed)
        return cast(self.inputs(sizes, g), dtype, device)

    @property
    def native(self) -> Callable:
        return getattr(import_module("irstd_ext.ops"), self.op)

    @property
    def reference(self) -> Callable:
        return getattr(import_module("irstd_ext.reference"), self.op)


def cast(args: list, dtype: torch.dtype, device: str = "cpu") -> list:
    return [a.to(device, dtype) if isinstance(a, Tensor) else a for a in args]


def load_spec(op: str) -> OpSpec:
    return import_module(f"irstd_ext.specs.{op}").SPEC


def all_specs() -> dict[str, OpSpec]:
    package = import_module("irstd_ext.specs")
    return {m.name: load_spec(m.name) for m in iter_modules(package.__path__)}


def with_grads(function: Callable, args: list, grads: tuple[int, ...], upstream: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The output of function(*args) and the gradients of <output, upstream> for the arguments `grads` that are tensors."""
    args = [a.detach().requires_grad_(i in grads) if isinstance(a, Tensor) else a for i, a in enumerate(args)]
    wanted = [args[i] for i in grads if isinstance(args[i], Tensor)]
    out = function(*args)
    return out.detach(), list(torch.autograd.grad(out, wanted, upstream.to(out.dtype), allow_unused=True, materialize_grads=True))


def error(got: Tensor, exact: Tensor) -> float:
    """max |got - exact| / max |exact|; where `exact` is not finite `got` must agree, else the error is infinite."""
    got, exact = got.detach().double().cpu(), exact.detach().double().cpu()
    if got.shape != exact.shape:
        return float("inf")
    finite = exact.isfinite()
    if not torch.equal(got[~finite].nan_to_num(nan=7.0), exact[~finite].nan_to_num(nan=7.0)) or not bool(got[finite].isfinite().all()):
        return float("inf")
    if not finite.any():
        return 0.0
    difference, scale = (got[finite] - exact[finite]).abs().max().item(), exact[finite].abs().max().item()
    return difference / scale if scale else (0.0 if difference == 0 else float("inf"))


def bound(reference_error: float, dtype: torch.dtype, ulp: float) -> float:
    """The largest error that passes: 1.5 times that of the reference in the same dtype, or `ulp` epsilons (2 for half precision, which rounds once)."""
    return max(1.5 * reference_error, min(ulp, 2 if dtype.itemsize == 2 else ulp) * torch.finfo(dtype).eps)


def verdict(got: Tensor, exact: Tensor, reference: Tensor, ulp: float, scale: float = 0.0, slack: float = 1.0) -> str:
    """Why `got` is not good enough; empty if it is. `scale` is the size of the terms of a sum that may cancel: 4 epsilons of it, in the type
    accumulated in, are rounding whatever the size of the result."""
    dtype = reference.dtype
    limit = slack * bound(error(reference, exact), dtype, ulp)
    found = error(got, exact)
    floor = 4 * torch.finfo(torch.float64 if dtype == torch.float64 else torch.float32).eps * scale
    if found <= limit or (floor and got.shape == exact.shape and (got.double() - exact).abs().max().item() <= floor):
        return ""
    return f"error {found:.3g}, allowed {limit:.3g}"
