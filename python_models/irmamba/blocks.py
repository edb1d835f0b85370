"""The blocks between the Mamba blocks: convolutional encoder and decoder, gates, and the steps between the scales."""
from __future__ import annotations

import torch
from torch import Tensor, nn

from python_models.layers.in_place import add, relu


class ResBlock(nn.Module):
    """ReLU(conv3x3-BN-ReLU-conv3x3-BN(x) + shortcut(x)), (B, in_channels, H, W) -> (B, out_channels, H, W).

    The shortcut is the identity, or conv1x1-BN where the widths differ.

    >>> ResBlock(1, 8)(torch.zeros(1, 1, 16, 16)).shape
    torch.Size([1, 8, 16, 16])
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False), nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False), nn.BatchNorm2d(out_channels))
        self.shortcut = nn.Identity() if in_channels == out_channels else nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        return relu(add(self.residual(x), self.shortcut(x)))


class Gate(nn.Module):
    """Exchange between the encoders: (F_c, F_v), both (B, C, H, W) -> (F_c + g_c F_v, F_v + g_v F_c), with (g_c, g_v) = sigmoid(conv1x1([F_c; F_v])).

    >>> x = torch.zeros(1, 8, 4, 4)
    >>> [y.shape for y in Gate(8)(x, x)]
    [torch.Size([1, 8, 4, 4]), torch.Size([1, 8, 4, 4])]
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2 * channels, 2 * channels, 1)

    def forward(self, fc: Tensor, fv: Tensor) -> tuple[Tensor, Tensor]:
        gc, gv = self.conv(torch.cat((fc, fv), 1)).sigmoid().chunk(2, 1)
        return torch.addcmul(fc, gc, fv), torch.addcmul(fv, gv, fc)


class PatchMerging(nn.Module):
    """Tokens (B, H, W, in_channels) -> (B, H/2, W/2, out_channels): 2x2 pixels side by side, LayerNorm, Linear. H and W even.

    >>> PatchMerging(8, 16)(torch.zeros(1, 6, 4, 8)).shape
    torch.Size([1, 3, 2, 16])
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * in_channels)
        self.reduction = nn.Linear(4 * in_channels, out_channels, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        pixels = tokens.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).permute(0, 1, 3, 4, 2, 5)  # [B, H/2, W/2, column, row, C]: VM-UNet's order
        return self.reduction(self.norm(pixels.flatten(3)))


class PatchExpand(nn.Module):
    """Tokens (B, H, W, in_channels) -> (B, 2H, 2W, out_channels): Linear to four pixels, LayerNorm over each.

    >>> PatchExpand(16, 8)(torch.zeros(1, 3, 2, 16)).shape
    torch.Size([1, 6, 4, 8])
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.expand = nn.Linear(in_channels, 4 * out_channels, bias=False)
        self.norm = nn.LayerNorm(out_channels)

    def forward(self, tokens: Tensor) -> Tensor:
        pixels = self.expand(tokens).unflatten(3, (2, 2, -1)).permute(0, 1, 3, 2, 4, 5)  # [B, H, row, W, column, C]
        return self.norm(pixels.flatten(3, 4).flatten(1, 2))
