"""Edge-preserving diffusion of IRSAM: Perona-Malik steps on the high bands of an undecimated Haar transform."""
import torch
from torch import Tensor

from .._register import accum_dtype, check_dim, check_floating, check_parameter_dtype, check_same_device, check_same_dtype, check_size, loop_vmap, refuse_forward_mode, register, widened


def wavelet_diffusion(u: Tensor, k: Tensor, steps: int, all_high: bool = False) -> Tensor:
    r"""Smooths flat regions of every channel and keeps its edges: ``steps`` unit steps of a nonlinear diffusion.

    .. math::
        u \leftarrow u - W^T g\, W u, \qquad g = \frac{1}{1 + (p^2 + q^2) / k_c^2}, \qquad
        p = \tfrac14 (b + d - a - c), \quad q = \tfrac14 (c + d - a - b), \quad r = \tfrac14 (a - b - c + d)

    for every cell of 2 x 2 pixels (a b / c d) that lies inside the image: W u = (p, q) are the undecimated Haar bands LH and HL with taps 1/4, and with
    ``all_high`` also HH, r, which the same g weighs. All cells of a step read the image before it. Nothing is padded: no flux crosses the border.
    "IRSAM: Advancing Segment Anything Model for Infrared Small Target Detection", ECCV 2024, Eq. 1-4. The authors released no code of it, and Eq. 4 as printed is
    unstable (it applies the same filter twice with a plus sign): the adjoint form, the taps, the border and ``all_high`` are this project's reading, under which a
    step never increases the L2 norm or the range of a channel, and keeps its mean. An image of height or width 1 has no cell and stays as it is.

    Args:
        u: [B, C, H, W] maps, in any unit. Any strides; contiguous and channels_last are fast.
        k: [C] contrast, in the unit of u / 2: differences well below it are smoothed, those above kept. Must be > 0, which is not checked (0 gives NaN in flat
            regions, a sign does nothing); with half precision u
            it may be float32.
        steps: number of steps, >= 0; each reaches one pixel further. 0 returns a copy.
        all_high: whether the band HH is diffused as well. Without it, as in Eq. 4, the pattern of a chessboard stays.

    Returns:
        [B, C, H, W] in the dtype and memory format of u.

    Dtypes: float16, bfloat16, float32, float64 for u; half precision computes in float32 and rounds once, after the last step. Under autocast everything is
    computed and returned in float32 (float64 stays).
    Memory: backward computes the steps again. Several are one sweep over the image, and more than one sweep keeps a float32 (or float64) copy of u for each: 8
        steps are a sweep on the CPU, 3 on CUDA (2 with all_high or in float64), 1 in Triton. Forward, more than one sweep (of 8 steps on the CPU, 4 on CUDA, 3 in
        float64, 1 in Triton) takes one or two copies. The CPU also takes a copy of what it reads and writes in half precision, of channels_last maps of fewer than
        8 channels, and of a gradient that does not lie as u does.
    Errors: RuntimeError in one line for a wrong shape, dtype, device or number of steps. There is no second and no forward-mode derivative.

    Example:
        >>> import torch, irstd_ext
        >>> u = torch.zeros(1, 1, 5, 5)
        >>> u[..., 2, 2] = 1
        >>> out = irstd_ext.wavelet_diffusion(u, torch.tensor([1e3]), steps=1)
        >>> print(f"{out[0, 0, 2, 2]:.3f} {out[0, 0, 1, 1]:.3f} {out[0, 0, 1, 2]:.3f} {out.sum():.3f}")
        0.500 0.125 0.000 1.000
    """
    refuse_forward_mode("wavelet_diffusion", u, k)
    return torch.ops.irstd_ext.wavelet_diffusion(u, k, steps, all_high)


def _check(op, u, k, steps):
    check_dim(op, "u", u, 4, "[B, C, H, W]")
    check_dim(op, "k", k, 1, "[C]")
    check_size(op, "k", k, 0, u.shape[1], "C of u")
    if steps < 0:
        raise RuntimeError(f"{op}: steps must be >= 0, got {steps}")
    check_floating(op, "u", u)
    check_parameter_dtype(op, "k", k, u, "u")
    check_same_device(op, "k", k, "u", u)


def _fake(u, k, steps, all_high=False):
    _check("wavelet_diffusion", u, k, steps)
    return torch.empty_like(u)


def _fake_backward(grad, u, k, steps, all_high):
    op = "wavelet_diffusion_backward"
    _check(op, u, k, steps)
    check_dim(op, "grad", grad, 4, "[B, C, H, W]")
    for axis, what in enumerate(("B of u", "C of u", "H of u", "W of u")):
        check_size(op, "grad", grad, axis, u.shape[axis], what)
    check_same_dtype(op, "grad", grad, "u", u)
    check_same_device(op, "grad", grad, "u", u)
    return torch.empty_like(u), k.new_empty(k.shape)


def _setup_context(ctx, inputs, output):
    u, k, ctx.steps, ctx.all_high = inputs
    ctx.save_for_backward(u, k)


def _backward(ctx, need, grad):
    u, k = ctx.saved_tensors
    grads = torch.ops.irstd_ext.wavelet_diffusion_backward(grad.to(u.dtype), u, k, ctx.steps, ctx.all_high)
    return *(g if n else None for g, n in zip(grads, need)), None, None


def _cells(u):
    return u[0] * u[1] * max(u[2] - 1, 0) * max(u[3] - 1, 0)


def _flops(u, k, steps, all_high=False, *args, out_shape=None, **kwargs):
    return _cells(u) * steps * (24 if all_high else 15)


def _backward_flops(grad, u, k, steps, all_high=False, *args, out_shape=None, **kwargs):
    return _cells(u) * (max(steps - 1, 0) * (24 if all_high else 15) + steps * (48 if all_high else 32))


def _autocast(dtype, u, k, steps, all_high=False):
    wide = accum_dtype(u)
    return widened(u, wide), widened(k, wide), steps, all_high


def _vmap(info, in_dims, u, k, steps, all_high):
    if in_dims[1] is not None:  # contrasts of their own for each element
        return loop_vmap(torch.ops.irstd_ext.wavelet_diffusion, info, in_dims, (u, k, steps, all_high))
    return torch.ops.irstd_ext.wavelet_diffusion(u.movedim(in_dims[0], 0).flatten(0, 1), k, steps, all_high).unflatten(0, (info.batch_size, -1)), 0


register("wavelet_diffusion", fake=_fake, backward_fake=_fake_backward, setup_context=_setup_context, backward=_backward, flops=_flops,
         backward_flops=_backward_flops, autocast=_autocast, vmap=_vmap)
