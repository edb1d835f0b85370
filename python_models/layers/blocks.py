"""Convolution blocks of the U-Nets."""
from torch import nn


class ConvBlock(nn.Sequential):
    """Two times conv3x3, BatchNorm, ReLU. (B, in_channels, H, W) -> (B, out_channels, H, W).

    >>> import torch
    >>> ConvBlock(3, 8)(torch.zeros(1, 3, 16, 16)).shape
    torch.Size([1, 8, 16, 16])
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, padding=1), nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1), nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


class UpConv(nn.Sequential):
    """Upsampling by 2 (mode "nearest" or "bilinear"), conv3x3, BatchNorm, ReLU. (B, C, H, W) -> (B, out_channels, 2H, 2W).

    PyTorch's backward of bilinear upsampling sums with atomics on CUDA; nearest gives the same gradients on every run.

    >>> import torch
    >>> UpConv(8, 4)(torch.zeros(1, 8, 16, 16)).shape
    torch.Size([1, 4, 32, 32])
    """

    def __init__(self, in_channels: int, out_channels: int, mode: str = "nearest") -> None:
        align = None if mode == "nearest" else False
        super().__init__(nn.Upsample(scale_factor=2, mode=mode, align_corners=align), nn.Conv2d(in_channels, out_channels, 3, padding=1),
                         nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))
