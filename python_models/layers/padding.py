"""Padding to the grid a network needs."""
from torch import Tensor
from torch.nn import functional as F


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Zero-pad x (B, C, H, W) at the bottom and right to the next multiple in both sizes; x itself where nothing is missing.

    >>> import torch
    >>> pad_to_multiple(torch.zeros(1, 3, 250, 333), 16).shape
    torch.Size([1, 3, 256, 336])
    """
    bottom, right = -x.shape[-2] % multiple, -x.shape[-1] % multiple
    return F.pad(x, (0, right, 0, bottom)) if bottom or right else x
