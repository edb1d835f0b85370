"""Bilinear attention of SGEM U-Net: a per-channel softmax of an outer product, applied to the rows of a map."""
from typing import Optional

import torch
from torch import Tensor

from .._register import accum_dtype, check_dim, check_floating, check_parameter_dtype, check_same_device, check_same_dtype, check_size, loop_vmap, refuse_forward_mode, register


def bilinear_attention(q: Tensor, k: Tensor, weight: Tensor, value: Tensor, gamma: Tensor, residual: Optional[Tensor] = None,
                       bias: Optional[Tensor] = None) -> Tensor:
    r"""Rows of `value` mixed by a rank-one attention of each channel, scaled and added to a residual.

    .. math:: out_{bci} = residual_{bci} + \gamma \sum_j softmax_j(w_c q_{bi} k_{bj} + \beta_c)\, value_{bcj}

    "High-Precision and Fast Inference for Infrared Small Target Detection through Semantic Gap Reduction", ACSS 9(1), 2025, Eq. 1-3; softmax axis and
    residual form are this project's reading. The [L, M] attention matrix is never stored, and logits of any size stay finite.

    Args:
        q: [B, L] queries. k: [B, M] keys. weight: [C] one slope per channel.
        value: [B, C, M, E], M >= 1, any strides. gamma: one number, shape [] or [1]; 0 returns the residual bit for bit.
        residual: [B, C, L, E]; None means `value`, which needs L == M.
        bias: [C], accepted because networks carry it: it cancels in the softmax, and its gradient is exactly 0.

    Returns:
        [B, C, L, E], contiguous, in the dtype of `value`.

    Dtypes: float16, bfloat16, float32, float64 for `value` (and `residual`); the others in the same dtype or, for half precision, float32. Half precision
    accumulates in float32 and rounds once. Under autocast the dtypes stay as they come; a residual of another dtype is cast to that of `value`.
    Errors: RuntimeError in one line for a wrong shape, dtype or device. There is no second and no forward-mode derivative.

    Example:
        >>> import torch, irstd_ext
        >>> value = torch.randn(2, 8, 16, 16)
        >>> out = irstd_ext.bilinear_attention(torch.randn(2, 16), torch.randn(2, 16), torch.randn(8), value, torch.tensor(0.5))
        >>> out.shape
        torch.Size([2, 8, 16, 16])
    """
    refuse_forward_mode("bilinear_attention", q, k, weight, value, gamma, *(t for t in (residual,) if t is not None))
    return torch.ops.irstd_ext.bilinear_attention(q, k, weight, value, gamma, residual, bias)


def _check(op, q, k, weight, value, gamma):
    check_dim(op, "q", q, 2, "[B, L]")
    check_dim(op, "k", k, 2, "[B, M]")
    check_dim(op, "weight", weight, 1, "[C]")
    check_dim(op, "value", value, 4, "[B, C, M, E]")
    if gamma.dim() > 1 or gamma.numel() != 1:
        raise RuntimeError(f"{op}: gamma must hold one number, got shape {list(gamma.shape)}")
    check_size(op, "q", q, 0, value.shape[0], "B of value")
    check_size(op, "k", k, 0, value.shape[0], "B of value")
    check_size(op, "k", k, 1, value.shape[2], "M of value")
    check_size(op, "weight", weight, 0, value.shape[1], "C of value")
    if value.shape[2] == 0:
        raise RuntimeError(f"{op}: value must have M >= 1 rows to attend to, got M=0")
    check_floating(op, "value", value)
    for name, t in (("q", q), ("k", k), ("weight", weight), ("gamma", gamma)):
        check_same_device(op, name, t, "value", value)
        check_parameter_dtype(op, name, t, value)


def _check_out_like(op, name, t, q, value):
    check_dim(op, name, t, 4, "[B, C, L, E]")
    check_size(op, name, t, 0, value.shape[0], "B of value")
    check_size(op, name, t, 1, value.shape[1], "C of value")
    check_size(op, name, t, 2, q.shape[1], "L of q")
    check_size(op, name, t, 3, value.shape[3], "E of value")
    check_same_dtype(op, name, t, "value", value)
    check_same_device(op, name, t, "value", value)


def _fake(q, k, weight, value, gamma, residual=None, bias=None):
    op = "bilinear_attention"
    _check(op, q, k, weight, value, gamma)
    if residual is not None:
        _check_out_like(op, "residual", residual, q, value)
    elif q.shape[1] != value.shape[2]:
        raise RuntimeError(f"{op}: residual is required unless L == M, got L={q.shape[1]}, M={value.shape[2]}")
    if bias is not None:
        check_dim(op, "bias", bias, 1, "[C]")
        check_size(op, "bias", bias, 0, value.shape[1], "C of value")
        check_same_device(op, "bias", bias, "value", value)
        check_parameter_dtype(op, "bias", bias, value)
    return value.new_empty(value.shape[0], value.shape[1], q.shape[1], value.shape[3])


def _fake_backward(grad, q, k, weight, value, gamma, add_grad):
    op = "bilinear_attention_backward"
    _check(op, q, k, weight, value, gamma)
    _check_out_like(op, "grad", grad, q, value)
    if add_grad and q.shape[1] != value.shape[2]:
        raise RuntimeError(f"{op}: add_grad needs L == M, got L={q.shape[1]}, M={value.shape[2]}")
    return q.new_empty(q.shape), k.new_empty(k.shape), weight.new_empty(weight.shape), value.new_empty(value.shape), gamma.new_empty(gamma.shape)


def _setup_context(ctx, inputs, output):
    q, k, weight, value, gamma, residual, bias = inputs
    ctx.save_for_backward(q, k, weight, value, gamma, bias)
    ctx.has_residual = residual is not None


def _backward(ctx, need, grad):
    q, k, weight, value, gamma, bias = ctx.saved_tensors
    grads = (None,) * 5
    if any(need[:5]):
        grads = torch.ops.irstd_ext.bilinear_attention_backward(grad.to(value.dtype), q, k, weight, value, gamma, not ctx.has_residual)
    grads = tuple(g if n else None for g, n in zip(grads, need))
    return *grads, grad if need[5] else None, torch.zeros_like(bias) if need[6] else None


def _flops(q, k, weight, value, gamma, *args, out_shape=None, **kwargs):
    return 2 * value[0] * value[1] * q[1] * value[2] * value[3]


def _backward_flops(grad, q, k, weight, value, gamma, *args, out_shape=None, **kwargs):
    return 2 * _flops(q, k, weight, value, gamma)


def _autocast(dtype, q, k, weight, value, gamma, residual=None, bias=None):
    wide = accum_dtype(value)
    q, k, weight, gamma = (t if t.dtype == value.dtype else t.to(wide) for t in (q, k, weight, gamma))
    return q, k, weight, value, gamma, None if residual is None else residual.to(value.dtype), bias


def _vmap(info, in_dims, *args):
    q, k, weight, value, gamma, residual, bias = args
    if any(d is not None for d in (in_dims[2], in_dims[4], in_dims[6])):  # parameters of their own for each element
        return loop_vmap(torch.ops.irstd_ext.bilinear_attention, info, in_dims, args)

    def fold(t, d):
        return None if t is None else (t.unsqueeze(0).expand(info.batch_size, *t.shape) if d is None else t.movedim(d, 0)).flatten(0, 1)

    q, k, value, residual = (fold(t, in_dims[i]) for t, i in ((q, 0), (k, 1), (value, 3), (residual, 5)))
    return torch.ops.irstd_ext.bilinear_attention(q, k, weight, value, gamma, residual, bias).unflatten(0, (info.batch_size, -1)), 0


register("bilinear_attention", fake=_fake, backward_fake=_fake_backward, setup_context=_setup_context, backward=_backward, flops=_flops,
         backward_flops=_backward_flops, autocast=_autocast, vmap=_vmap)
