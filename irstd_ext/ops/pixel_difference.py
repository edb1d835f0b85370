"""Neighbour term of IRMamba: smoothed differences along four arms, weighted, and raised where a pixel stands out of its window."""
import torch
from torch import Tensor

from .. import _load
from .._register import accum_dtype, check_dim, check_floating, check_parameter_dtype, check_same_device, check_same_dtype, check_size, loop_vmap, refuse_forward_mode, register, widened


def pixel_difference(u: Tensor, W: Tensor, gamma: float = 1.0) -> Tensor:
    r"""Weighted differences of every pixel to its neighbours, per channel, times a gate that opens on bright spots.

    .. math::
        p = f\,G,\quad G = \sum_{i=1}^{n} W_{0i} (\Delta^{(i)}_{+x} + \Delta^{(i)}_{-x}) + W_{1i} (\Delta^{(i)}_{+y} + \Delta^{(i)}_{-y}),\quad
        \Delta^{(i)}_e(t) = \sum_{k=0}^{i-1} \frac{u(t + k e) - u(t + (k+1) e)}{2k + 1}

        f = \gamma + \tanh(m / \Theta - 1) \text{ where all four } \Delta^{(n)}_e > \Theta > 0, \quad f = \gamma \text{ elsewhere}, \quad
        m = \tfrac14 \sum_e \Delta^{(n)}_e

    Theta is the population standard deviation of the (2n+1) x (2n+1) window; x runs along columns, y along rows; pixels outside the image are those at its
    border. "IRMamba: Pixel Difference Mamba with Layer Restoration for Infrared Small Target Detection", AAAI 2025, Eq. 6-10. The paper leaves open or
    misprints the sign of Eq. 7, the place of 1/(2k+1), what an axis difference is composed of, the border and the shape of W: these are this project's reading.
    f lies in [gamma, gamma + 1). It jumps at the threshold; its derivative is that of the branch taken. In an outermost row or column f = gamma. The squares
    of differences that Theta is made of must neither overflow nor underflow: in float32 (and half precision) magnitudes of about 1e-18 to 1e18; beyond, f = gamma.

    Args:
        u: [B, D, H, W] images, in any unit: p scales with u and ignores a constant added to it. Any strides; channels_last is fast.
        W: [2, n, D] weights: axis (0 = x, 1 = y), window i = 1..n, channel. n >= 1; the paper has 2.
        gamma: the gate's value where it is closed; a constant, without gradient.

    Returns:
        [B, D, H, W] in the dtype and memory format of u.

    Dtypes: float16, bfloat16, float32, float64 for u; W in the same or, for half precision, float32. Half precision computes in float32 and rounds once.
    Under autocast everything is computed and returned in float32 (float64 stays).
    Errors: RuntimeError in one line for a wrong shape, dtype or device; the CUDA kernels also refuse more than 2^30 pixels an image and n > 2^14. There is no
    second and no forward-mode derivative.

    Example:
        >>> import torch, irstd_ext
        >>> u = torch.zeros(1, 1, 11, 11)
        >>> u[..., 5, 5] = 1
        >>> p = irstd_ext.pixel_difference(u, torch.ones(2, 2, 1))
        >>> print(f"{p[0, 0, 5, 5]:.3f} {p[0, 0, 5, 6]:.3f}")
        15.996 -1.667
    """
    refuse_forward_mode("pixel_difference", u, W)
    return torch.ops.irstd_ext.pixel_difference(u, W, gamma)


def check_counts(op, u, n):
    """What the CUDA kernels count in 31 bits, as in cuda_checks.h; no other backend has such a limit. n: windows, 0 without W."""
    if u.device.type != "cuda" or _load.cuda_backend != "cuda":
        return
    H, W = u.shape[2:]
    if H > 2**30 or W > 2**30 or H * W > 2**30:
        raise RuntimeError(f"{op}: u must have at most 2^30 pixels on CUDA, got {H} x {W}")
    if n > 2**14:
        raise RuntimeError(f"{op}: W must have at most 2^14 windows on CUDA, got {n}")


def _check(op, u, W):
    check_dim(op, "u", u, 4, "[B, D, H, W]")
    check_dim(op, "W", W, 3, "[2, n, D]")
    check_size(op, "W", W, 0, 2, "axes")
    check_size(op, "W", W, 2, u.shape[1], "D of u")
    if W.shape[1] == 0:
        raise RuntimeError(f"{op}: W must have n >= 1 windows, got n=0")
    check_floating(op, "u", u)
    check_parameter_dtype(op, "W", W, u, "u")
    check_same_device(op, "W", W, "u", u)


def _fake(u, W, gamma=1.0):
    _check("pixel_difference", u, W)
    check_counts("pixel_difference", u, W.shape[1])
    return torch.empty_like(u)


def _fake_backward(grad, u, W, gamma):
    op = "pixel_difference_backward"
    _check(op, u, W)
    check_dim(op, "grad", grad, 4, "[B, D, H, W]")
    for axis, what in enumerate(("B of u", "D of u", "H of u", "W of u")):
        check_size(op, "grad", grad, axis, u.shape[axis], what)
    check_same_dtype(op, "grad", grad, "u", u)
    check_same_device(op, "grad", grad, "u", u)
    check_counts(op, u, W.shape[1])
    return torch.empty_like(u), W.new_empty(W.shape)


def _setup_context(ctx, inputs, output):
    u, W, ctx.gamma = inputs
    ctx.save_for_backward(u, W)


def _backward(ctx, need, grad):
    u, W = ctx.saved_tensors
    grads = torch.ops.irstd_ext.pixel_difference_backward(grad.to(u.dtype), u, W, ctx.gamma)
    return *(g if n else None for g, n in zip(grads, need)), None


def _per_site(W):
    """Of one pixel of one channel: the four arms with their windows, the weighted sum, mean and deviation of the window."""
    return 18 * W[1] + 2 * (2 * W[1] + 1) ** 2


def _flops(u, W, *args, out_shape=None, **kwargs):
    return u[0] * u[1] * u[2] * u[3] * _per_site(W)


def _backward_flops(grad, u, W, *args, out_shape=None, **kwargs):
    return 2 * _flops(u, W)  # the forward again, and its adjoint


def _autocast(dtype, u, W, gamma=1.0):
    wide = accum_dtype(u)
    return widened(u, wide), widened(W, wide), gamma


def _vmap(info, in_dims, u, W, gamma):
    if in_dims[1] is not None:  # weights of their own for each element
        return loop_vmap(torch.ops.irstd_ext.pixel_difference, info, in_dims, (u, W, gamma))
    return torch.ops.irstd_ext.pixel_difference(u.movedim(in_dims[0], 0).flatten(0, 1), W, gamma).unflatten(0, (info.batch_size, -1)), 0


register("pixel_difference", fake=_fake, backward_fake=_fake_backward, setup_context=_setup_context, backward=_backward, flops=_flops,
         backward_flops=_backward_flops, autocast=_autocast, vmap=_vmap)
