"""Selective scan of an image along four directions, with the neighbour term of IRMamba in its state."""
from typing import Optional

import torch
from torch import Tensor

from .._register import accum_dtype, check_dim, check_floating, check_parameter_dtype, check_same_device, check_same_dtype, check_size, loop_vmap, refuse_forward_mode, register, widened
from .pixel_difference import check_counts


def pixel_difference_scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D_skip: Optional[Tensor] = None, delta_bias: Optional[Tensor] = None,
                          W: Optional[Tensor] = None, gamma: float = 1.0, delta_softplus: bool = True) -> Tensor:
    r"""The sum of four selective scans of an image; `W=None` is the plain 2-D scan (SS2D) of VMamba, cross-scan and cross-merge included.

    .. math::
        h_j(t) = e^{\delta_t A_j} h_j(t-1) + \delta_t B_j(t) u(t) + p(t),\quad y_k(t) = \sum_j C_j(t) h_j(t) + D_k u(t),\quad y = \sum_k y_k,\quad
        \delta = softplus(\delta_{raw} + bias)

    p = `pixel_difference(u, W, gamma)`, the same for all states and directions; h starts from 0. With L = H W, direction k visits at step t the pixel (row, column)

        0: (t div W, t mod W), row by row        1: (t mod H, t div H), column by column        2: 0 reversed        3: 1 reversed

    "IRMamba: Pixel Difference Mamba with Layer Restoration for Infrared Small Target Detection", AAAI 2025, Eq. 5-10. That p is scaled by neither delta nor
    B and shared by the states is this project's reading of Eq. 8. Hold of zero order for A, Euler for B, as in Mamba (Gu and Dao, 2023).

    Args:
        u: [B, D, H, W] input. delta: [B, 4, D, H, W] step sizes before bias and softplus. A: [4 D, N], N >= 1; row k D + d is direction k, channel d.
        B, C: [B, 4, N, H, W] input and output maps. Element [b, k, :, r, c] of delta, B and C is used when direction k visits pixel (r, c): all are in
            image order for every direction, nothing is flattened or reversed (`irstd_ext.compat.vmamba` takes sequences).
        D_skip, delta_bias: [4 D] or None for zero. W: [2, n, D] weights of the neighbour term, n >= 1, or None for no such term.
        gamma: see `pixel_difference`; a constant. delta_softplus: False takes delta + bias as it is.

    Returns:
        [B, D, H, W] in the dtype and memory format of u. Fast where channels are innermost in memory: u channels_last, delta as (B, 4, H, W, D) or
        (B, H, W, 4, D), B and C as (B, 4, H, W, N), (B, H, W, 4, N) or a slice of a joint projection; any other strides cost a copy.

    Dtypes: float16, bfloat16, float32, float64, the same for u, delta, B and C; the others in that or, for half precision, float32. Half precision computes
    and keeps states in float32 and rounds once. Under autocast everything is computed and returned in float32 (float64 stays).
    Errors: RuntimeError in one line for a wrong shape, dtype or device; the CUDA kernels also refuse more than 2^30 pixels an image and n > 2^14. There is no
    second and no forward-mode derivative.

    Example:
        >>> import torch, irstd_ext
        >>> u, delta = torch.randn(2, 8, 16, 12), torch.randn(2, 4, 8, 16, 12)
        >>> B, C = torch.randn(2, 4, 3, 16, 12), torch.randn(2, 4, 3, 16, 12)
        >>> A = -torch.arange(1.0, 4.0).repeat(4 * 8, 1)
        >>> irstd_ext.pixel_difference_scan(u, delta, A, B, C, W=torch.zeros(2, 2, 8)).shape
        torch.Size([2, 8, 16, 12])
    """
    refuse_forward_mode("pixel_difference_scan", u, delta, A, B, C, *(t for t in (D_skip, delta_bias, W) if t is not None))
    return torch.ops.irstd_ext.pixel_difference_scan(u, delta, A, B, C, D_skip, delta_bias, W, gamma, delta_softplus)


def _check_maps(op, name, t, u, rows, what):
    for axis, (want, of) in enumerate(((u.shape[0], "B of u"), (4, "directions"), (rows, what), (u.shape[2], "H of u"), (u.shape[3], "W of u"))):
        check_size(op, name, t, axis, want, of)


def _check(op, u, delta, A, B, C, D_skip, delta_bias, W):
    check_dim(op, "u", u, 4, "[B, D, H, W]")
    check_dim(op, "delta", delta, 5, "[B, K, D, H, W]")
    check_dim(op, "A", A, 2, "[K*D, N]")
    check_dim(op, "B", B, 5, "[B, K, N, H, W]")
    check_dim(op, "C", C, 5, "[B, K, N, H, W]")
    _check_maps(op, "delta", delta, u, u.shape[1], "D of u")
    check_size(op, "A", A, 0, 4 * u.shape[1], "4 D of u")
    if A.shape[1] == 0:
        raise RuntimeError(f"{op}: A must have N >= 1 states, got N=0")
    _check_maps(op, "B", B, u, A.shape[1], "N of A")
    _check_maps(op, "C", C, u, A.shape[1], "N of A")
    for name, t in (("D_skip", D_skip), ("delta_bias", delta_bias)):
        if t is not None:
            check_dim(op, name, t, 1, "[K*D]")
            check_size(op, name, t, 0, 4 * u.shape[1], "4 D of u")
    if W is not None:
        check_dim(op, "W", W, 3, "[2, n, D]")
        check_size(op, "W", W, 0, 2, "axes")
        check_size(op, "W", W, 2, u.shape[1], "D of u")
        if W.shape[1] == 0:
            raise RuntimeError(f"{op}: W must have n >= 1 windows, got n=0")
    check_floating(op, "u", u)
    for name, t in (("delta", delta), ("B", B), ("C", C)):
        check_same_dtype(op, name, t, "u", u)
        check_same_device(op, name, t, "u", u)
    for name, t in (("A", A), ("D_skip", D_skip), ("delta_bias", delta_bias), ("W", W)):
        if t is not None:
            check_parameter_dtype(op, name, t, u, "u")
            check_same_device(op, name, t, "u", u)


def _fake(u, delta, A, B, C, D_skip=None, delta_bias=None, W=None, gamma=1.0, delta_softplus=True):
    _check("pixel_difference_scan", u, delta, A, B, C, D_skip, delta_bias, W)
    check_counts("pixel_difference_scan", u, 0 if W is None else W.shape[1])
    return torch.empty_like(u)


def _fake_backward(grad, u, delta, A, B, C, D_skip, delta_bias, W, gamma, delta_softplus):
    op = "pixel_difference_scan_backward"
    _check(op, u, delta, A, B, C, D_skip, delta_bias, W)
    check_dim(op, "grad", grad, 4, "[B, D, H, W]")
    for axis, what in enumerate(("B of u", "D of u", "H of u", "W of u")):
        check_size(op, "grad", grad, axis, u.shape[axis], what)
    check_same_dtype(op, "grad", grad, "u", u)
    check_same_device(op, "grad", grad, "u", u)
    check_counts(op, u, 0 if W is None else W.shape[1])
    optional = (u.new_empty(0, dtype=accum_dtype(u)) if t is None else t.new_empty(t.shape) for t in (D_skip, delta_bias, W))
    return torch.empty_like(u), torch.empty_like(delta), A.new_empty(A.shape), torch.empty_like(B), torch.empty_like(C), *optional


def _setup_context(ctx, inputs, output):
    *tensors, ctx.gamma, ctx.delta_softplus = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx, need, grad):
    u, *others = ctx.saved_tensors
    grads = torch.ops.irstd_ext.pixel_difference_scan_backward(grad.to(u.dtype), u, *others, ctx.gamma, ctx.delta_softplus)
    return *(g if n and t is not None else None for g, n, t in zip(grads, need, (u, *others))), None, None


def _sites(u):
    return u[0] * u[1] * u[2] * u[3]


def _neighbour_flops(u, W):
    return 0 if W is None else _sites(u) * (18 * W[1] + 2 * (2 * W[1] + 1) ** 2)


def _flops(u, delta, A, B, C, D_skip=None, delta_bias=None, W=None, *args, out_shape=None, **kwargs):
    return 9 * 4 * _sites(u) * A[1] + _neighbour_flops(u, W)  # VMamba's count of 9 per step, channel and state


def _backward_flops(grad, u, delta, A, B, C, D_skip=None, delta_bias=None, W=None, *args, out_shape=None, **kwargs):
    return 23 * 4 * _sites(u) * A[1] + 2 * _neighbour_flops(u, W)  # the states again, 7, and 16 of their adjoint


def _autocast(dtype, u, delta, A, B, C, D_skip=None, delta_bias=None, W=None, gamma=1.0, delta_softplus=True):
    return *(None if t is None else widened(t, accum_dtype(u)) for t in (u, delta, A, B, C, D_skip, delta_bias, W)), gamma, delta_softplus


def _vmap(info, in_dims, u, delta, A, B, C, *others):
    parameters = (in_dims[2], *in_dims[5:])
    if any(d is not None for d in parameters):  # parameters of their own for each element
        return loop_vmap(torch.ops.irstd_ext.pixel_difference_scan, info, in_dims, (u, delta, A, B, C, *others))

    def fold(t, d):
        return (t.unsqueeze(0).expand(info.batch_size, *t.shape) if d is None else t.movedim(d, 0)).flatten(0, 1)

    u, delta, B, C = (fold(t, in_dims[i]) for t, i in ((u, 0), (delta, 1), (B, 3), (C, 4)))
    return torch.ops.irstd_ext.pixel_difference_scan(u, delta, A, B, C, *others).unflatten(0, (info.batch_size, -1)), 0


register("pixel_difference_scan", fake=_fake, backward_fake=_fake_backward, setup_context=_setup_context, backward=_backward, flops=_flops,
         backward_flops=_backward_flops, autocast=_autocast, vmap=_vmap)
