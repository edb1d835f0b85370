"""Reference of pixel_difference; its formula is in _neighbours.py."""
import torch
from torch import Tensor

from ._neighbours import neighbour_term


def pixel_difference(u: Tensor, W: Tensor, gamma: float = 1.0) -> Tensor:
    """p = f G of [B, D, H, W] images and [2, n, D] weights. Shapes as `irstd_ext.pixel_difference`."""
    if W.shape[1] == 0:
        raise ValueError("pixel_difference: W must have n >= 1 windows, got n=0")
    wide = torch.float64 if u.dtype == torch.float64 else torch.float32
    image, W = u.to(wide), W.to(wide)
    if u.numel() == 0:
        return (image * W[0, 0, :, None, None]).to(u.dtype)
    return neighbour_term(image, W, gamma).to(u.dtype)
