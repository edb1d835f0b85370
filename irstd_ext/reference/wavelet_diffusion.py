"""Reference of wavelet_diffusion: one unit step of nonlinear diffusion after the other, on all 2x2 cells at once, in plain PyTorch."""
import torch
from torch import Tensor
from torch.nn.functional import pad


def _step(u: Tensor, k: Tensor, all_high: bool) -> Tensor:
    """u - W^T g W u, every cell from the old u. u: [B, C, H, W], k: [C, 1, 1]."""
    a, b, c, d = u[..., :-1, :-1], u[..., :-1, 1:], u[..., 1:, :-1], u[..., 1:, 1:]  # the corners (a b / c d) of each cell
    e, f = d - a, b - c
    # not k^2 / (k^2 + m2): autograd through that cancels for large k; nor m2 / k^2, which is 0 / 0 where k^2 underflows
    g = 1 / (1 + ((e / k).square() + (f / k).square()) / 8)
    if all_high:
        mean = ((a + b) + (c + d)) / 4  # in pairs: exact for four equal corners
        flows = [g * (mean - corner) / 4 for corner in (a, b, c, d)]
    else:
        flows = [g * e / 8, -g * f / 8, g * f / 8, -g * e / 8]
    places = [(0, 1, 0, 1), (1, 0, 0, 1), (0, 1, 1, 0), (1, 0, 1, 0)]
    return u + sum(pad(flow, place) for flow, place in zip(flows, places))


def wavelet_diffusion(u: Tensor, k: Tensor, steps: int, all_high: bool = False) -> Tensor:
    """`steps` times u <- u - W^T g W u, W the undecimated Haar bands of each cell, g = 1 / (1 + |W u|^2 / k^2). Shapes as `irstd_ext.wavelet_diffusion`."""
    if u.dim() != 4 or k.shape != u.shape[1:2]:
        raise ValueError(f"wavelet_diffusion: u must be [B, C, H, W] and k [C], got {list(u.shape)} and {list(k.shape)}")
    if steps < 0:
        raise ValueError(f"wavelet_diffusion: steps must be >= 0, got {steps}")
    wide = torch.float64 if u.dtype == torch.float64 else torch.float32
    scale = k.to(wide)[:, None, None]
    if min(u.shape[2:]) < 2:  # no cell: a copy, and k has the gradient 0
        return (u.to(wide) + torch.where(torch.zeros_like(scale, dtype=torch.bool), scale, 0)).to(u.dtype)
    out = u.to(wide, copy=True)
    for _ in range(steps):
        out = _step(out, scale, all_high)
    return out.to(u.dtype)
