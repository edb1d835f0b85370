"""Gives an operator that C++ defined its fake kernel, autograd, autocast, vmap and FLOP formulas. Every ops/<op>.py ends with one call of `register`."""
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Optional

import torch
from torch import Tensor
from torch.autograd import forward_ad

from . import _flops, _load

_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def check_dim(op: str, name: str, t: Tensor, dim: int, layout: str) -> None:
    if t.dim() != dim:
        raise RuntimeError(f"{op}: {name} must be {dim}-D {layout}, got {t.dim()}-D")


def check_size(op: str, name: str, t: Tensor, axis: int, want: int, what: str) -> None:
    if t.shape[axis] != want:
        raise RuntimeError(f"{op}: {name} must have size {want} ({what}) in dimension {axis}, got {t.shape[axis]}")


def check_floating(op: str, name: str, t: Tensor) -> None:
    if t.dtype not in _FLOATS:
        raise RuntimeError(f"{op}: {name} must be float16, bfloat16, float32 or float64, got {name_of(t.dtype)}")


def check_same_dtype(op: str, name: str, t: Tensor, other: str, u: Tensor) -> None:
    if t.dtype != u.dtype:
        raise RuntimeError(f"{op}: {name} must have the dtype of {other}, {name_of(u.dtype)}, got {name_of(t.dtype)}")


def check_same_device(op: str, name: str, t: Tensor, other: str, u: Tensor) -> None:
    if t.device != u.device:
        raise RuntimeError(f"{op}: {name} must be on the device of {other}, {u.device}, got {t.device}")


def check_parameter_dtype(op: str, name: str, t: Tensor, u: Tensor, other: str = "value") -> None:
    """A small argument: in the dtype of `u`, which the message calls `other`, or in the one that is computed in."""
    wide = accum_dtype(u)
    if t.dtype not in (u.dtype, wide):
        allowed = name_of(u.dtype) if wide == u.dtype else f"{name_of(u.dtype)}, or {name_of(wide)}"
        raise RuntimeError(f"{op}: {name} must have the dtype of {other}, {allowed}, got {name_of(t.dtype)}")


def refuse_forward_mode(op: str, *tensors: Tensor) -> None:
    """torch would drop the tangents of an operator that has none, without a word."""
    if not torch.compiler.is_compiling() and any(forward_ad.unpack_dual(t).tangent is not None for t in tensors):
        raise RuntimeError(f"{op}: forward-mode derivatives are not implemented; use backend='reference' for them")


def accum_dtype(t: Tensor) -> torch.dtype:
    return torch.float64 if t.dtype == torch.float64 else torch.float32


def widened(t: Tensor, wide: torch.dtype) -> Tensor:
    """t as autocast takes it into a computation in `wide`: integers, which are errors, stay, and double is not narrowed, as outside of it."""
    return t.to(wide) if t.is_floating_point() and t.dtype != torch.float64 else t


def register(op: str, *, fake: Callable, backward_fake: Callable, setup_context: Callable, backward: Callable, flops: Callable, backward_flops: Callable,
             autocast: Callable, vmap: Callable) -> None:
    """`op` and `<op>_backward`. `backward(ctx, need, grad)` gets a flag for, and returns a gradient of, every argument of the schema;
    `autocast(dtype, *args)` returns the arguments to call with; the flop functions take shapes."""
    if _load.cpu_reason:
        return
    gradient = f"{op}_backward"
    torch.library.register_fake(f"irstd_ext::{op}", fake)
    torch.library.register_fake(f"irstd_ext::{gradient}", backward_fake)
    torch.library.register_autograd(f"irstd_ext::{op}", _all_arguments(op, backward), setup_context=setup_context)

    def no_double_backward(ctx, *grads):
        raise RuntimeError(f"{op}: second derivatives are not implemented; use backend='reference' for them")

    torch.library.register_autograd(f"irstd_ext::{gradient}", no_double_backward)
    _flops.register(getattr(torch.ops.irstd_ext, op), flops)
    _flops.register(getattr(torch.ops.irstd_ext, gradient), backward_flops)
    torch.library.register_vmap(f"irstd_ext::{op}", _with_defaults(op, vmap))
    for device in ("CPU", "CUDA"):
        _library(f"Autocast{device}").impl(op, _with_autocast_off(getattr(torch.ops.irstd_ext, op), autocast, device.lower()))
    if _load.cuda_backend == "triton":
        for name in (op, gradient):
            _library("CUDA").impl(name, _lazy_triton(op, name))
    elif _load.cuda_backend is None:
        for name in (op, gradient):
            _library("CUDA").impl(name, _no_cuda(name))


def _all_arguments(op: str, backward: Callable) -> Callable:
    """torch drops trailing arguments that have their default value; the formulas are written for all of them."""
    count = len(getattr(torch.ops.irstd_ext, op).default._schema.arguments)

    def run(ctx, grad):
        need = ctx.needs_input_grad
        return tuple(backward(ctx, (*need, *[False] * (count - len(need))), grad))[: len(need)]

    return run


def _with_defaults(op: str, vmap: Callable) -> Callable:
    """The same for batching rules."""
    arguments = getattr(torch.ops.irstd_ext, op).default._schema.arguments

    def run(info, in_dims, *args):
        missing = arguments[len(args) :]
        return vmap(info, (*in_dims, *[None] * len(missing)), *args, *[a.default_value for a in missing])

    return run


_libraries: dict[str, torch.library.Library] = {}


def _library(key: str) -> torch.library.Library:
    return _libraries.setdefault(key, torch.library.Library("irstd_ext", "IMPL", key))


def _with_autocast_off(op: Callable, policy: Callable, device: str) -> Callable:
    keys = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU if device == "cpu" else torch._C.DispatchKey.AutocastCUDA)

    def run(*args, **kwargs):
        with torch._C._ExcludeDispatchKeyGuard(keys):
            return op(*policy(torch.get_autocast_dtype(device), *args, **kwargs))

    return run


def _lazy_triton(op: str, name: str) -> Callable:
    def run(*args, **kwargs):
        return getattr(import_module(f"irstd_ext.triton.{op}"), name)(*args, **kwargs)

    return run


def _no_cuda(name: str) -> Callable:
    def run(*args, **kwargs):
        raise RuntimeError(f"{name}: nothing serves CUDA tensors: {_load.cuda_reason}, and there is no Triton")

    return run


def loop_vmap(call: Callable, info, in_dims: Sequence[Optional[int]], args: Sequence) -> tuple[Tensor, int]:
    """One call per element of the batched dimension: where it cannot be folded into B."""
    pieces = [call(*(a if d is None else a.select(d, i) for a, d in zip(args, in_dims))) for i in range(info.batch_size)]
    return torch.stack(pieces), 0
