"""Convolution and BatchNorm as one layer, which in evaluation is one convolution."""
from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from python_models.irsam.kept import Keeping
from python_models.irsam.streaming import channels_last


class ConvBN(Keeping):
    """Convolution without bias, padded by kernel // 2, and BatchNorm (eps 1e-5): (B, in_channels, H, W) -> (B, out_channels, H', W').

    start: the norm's weight at the beginning. rewrites: with the norm in evaluation mode, fold it into the convolution,

        w' = w gamma / sqrt(var + eps),   b' = beta - mean gamma / sqrt(var + eps),

    computed once for each state of the weights (`kept.py`). Hooks on the parts `c` and `bn` see nothing then. False: one after the other.

    >>> ConvBN(4, 8, kernel=3, stride=2)(torch.zeros(2, 4, 9, 6)).shape
    torch.Size([2, 8, 5, 3])
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, groups: int = 1, start: float = 1.0,
                 rewrites: bool = True) -> None:
        super().__init__()
        self.c = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)
        nn.init.constant_(self.bn.weight, start)
        self.rewrites = rewrites

    @property
    def folds(self) -> bool:
        """Whether the norm is part of the convolution now. By its own mode: a frozen norm in a network that trains folds too."""
        return self.rewrites and not self.bn.training

    def kernel(self) -> Tensor:
        """The convolution's kernel before folding."""
        return self.c.weight

    def folded(self) -> tuple[Tensor, Tensor]:
        """Kernel and bias with the norm folded in."""
        bn = self.bn
        # BatchNorm itself writes running_mean and running_var without counting up their versions; num_batches_tracked tells
        sources = (self.c.weight, bn.weight, bn.bias, bn.running_mean, bn.running_var, bn.num_batches_tracked)
        return self.kept(self._fold, sources, bn.eps)

    def _fold(self) -> tuple[Tensor, Tensor]:
        bn, kernel = self.bn, self.kernel()
        wide = torch.promote_types(kernel.dtype, torch.float32)  # rounded once, at the end
        scale = bn.weight.to(wide) * (bn.running_var.to(wide) + bn.eps).rsqrt()
        bias = bn.bias.to(wide) - bn.running_mean.to(wide) * scale
        return (kernel.to(wide) * scale[:, None, None, None]).to(kernel.dtype), bias.to(kernel.dtype)

    def convolve(self, x: Tensor, padding: tuple[int, int] | None = None) -> Tensor:
        """The folded convolution, with another padding if given."""
        return F.conv2d(x, *self.folded(), self.c.stride, self.c.padding if padding is None else padding, 1, self.c.groups)

    def forward(self, x: Tensor) -> Tensor:
        return self.convolve(x) if self.folds else self.bn(self.c(x))


class DoubledConvBN(ConvBN):
    """ConvBN 3x3 with stride 2 of an image doubled by nearest neighbours: (B, in_channels, H, W) -> (B, out_channels, H, W).

    rewrites: one 2x2 convolution of the image itself, padded by 1 at the top and left, in training too: each of its taps is the sum of the
    taps that would fall on the same pixel. False: double, then convolve.

    >>> DoubledConvBN(3, 8)(torch.zeros(1, 3, 5, 7)).shape
    torch.Size([1, 8, 5, 7])
    """

    def __init__(self, in_channels: int, out_channels: int, rewrites: bool = True) -> None:
        super().__init__(in_channels, out_channels, kernel=3, stride=2, rewrites=rewrites)

    def kernel(self) -> Tensor:
        columns = _pair(self.c.weight, 3)
        return _pair(columns, 2)

    def convolve(self, x: Tensor, padding: tuple[int, int] | None = None) -> Tensor:
        return F.conv2d(x, *self.folded())

    def forward(self, x: Tensor) -> Tensor:
        if not self.rewrites:
            return super().forward(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        x = F.pad(x, (1, 0, 1, 0))
        if not torch.is_grad_enabled():  # twice as fast forward, but the gradient of the strided convolution after it is slower for it
            x = channels_last(x)
        return self.convolve(x) if self.folds else self.bn(F.conv2d(x, self.kernel()))


def _pair(weight: Tensor, axis: int) -> Tensor:
    """Three taps (w0, w1, w2) along an axis as two, (w0, w1 + w2)."""
    first, second, third = weight.split(1, axis)
    return torch.cat((first, second + third), axis)
