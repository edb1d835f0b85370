"""The image encoder: TinyViT as in MobileSAM, with WPMD blocks at the inputs of its stages."""
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from python_models.irsam.conv_bn import ConvBN, DoubledConvBN
from python_models.irsam.norm import LayerNorm2d
from python_models.irsam.streaming import bands, channels_last, fits, pieces
from python_models.irsam.window_attention import WinAttn
from python_models.irsam.wpmd import WPMD
from python_models.layers.in_place import add, gelu, streams

_TAP = 1  # the stage whose output feeds the decoder's shallow branch
_CLASSES = 1000  # of the classifier that checkpoints carry along


class PatchEmbed(nn.Module):
    """Image (B, 3, H, W), H and W even, -> (B, channels, H/2, W/2): nearest x2 to the internal size, ConvBN 3x3 s2, GELU, ConvBN 3x3 s2.

    >>> PatchEmbed(8)(torch.zeros(1, 3, 16, 24)).shape
    torch.Size([1, 8, 8, 12])
    """

    def __init__(self, channels: int, rewrites: bool = True) -> None:
        super().__init__()
        self.seq = nn.Sequential(DoubledConvBN(3, channels // 2, rewrites), nn.GELU(),
                                 ConvBN(channels // 2, channels, kernel=3, stride=2, rewrites=rewrites))
        self.rewrites = rewrites

    def forward(self, x: Tensor) -> Tensor:
        if not self.rewrites:
            return self.seq(x)
        first, _, second = self.seq
        return second(gelu(first(x)))


class Bottleneck(nn.Module):
    """ConvBN 1x1, GELU, depthwise ConvBN 3x3 with stride, GELU, ConvBN 1x1: (B, in_channels, H, W) -> (B, out_channels, H', W').

    start: weight of the last norm at the beginning. rewrites: inference on the CPU goes through bands of rows, so that the hidden maps, four
    times the rest, stay in the cache; the arithmetic is the same.

    >>> Bottleneck(4, 8, 6, stride=2)(torch.zeros(1, 4, 5, 8)).shape
    torch.Size([1, 6, 3, 4])
    """

    def __init__(self, in_channels: int, hidden: int, out_channels: int, stride: int = 1, start: float = 1.0, rewrites: bool = True) -> None:
        super().__init__()
        self.conv1 = ConvBN(in_channels, hidden, rewrites=rewrites)
        self.conv2 = ConvBN(hidden, hidden, kernel=3, stride=stride, groups=hidden, rewrites=rewrites)
        self.conv3 = ConvBN(hidden, out_channels, start=start, rewrites=rewrites)
        self.stride, self.rewrites = stride, rewrites

    def forward(self, x: Tensor) -> Tensor:
        if not self.rewrites:
            return self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))
        hidden = self.conv1.c.out_channels
        # a norm in training mode takes its statistics over the whole batch
        folded = self.conv1.folds and self.conv2.folds and self.conv3.folds
        if folded and streams(x) and not fits(hidden * x.numel() // x.shape[1], x.itemsize):
            return self._by_bands(x, hidden)
        return self.conv3(gelu(self.conv2(gelu(self.conv1(x)))))

    def _by_bands(self, x: Tensor, hidden: int) -> Tensor:
        batch, _, height, width = x.shape
        size = batch, (height - 1) // self.stride + 1, (width - 1) // self.stride + 1, self.conv3.c.out_channels
        out = x.new_empty(size).permute(0, 3, 1, 2)
        for image, result in zip(x.split(1), out.split(1)):
            for first, end, low, high in bands(height, hidden * width * x.itemsize, self.stride):
                rows = gelu(self.conv1(image[:, :, max(low, 0):high]))
                above, below = max(-low, 0), max(high - height, 0)
                if above or below:  # padding is of the hidden map: conv1 of zeros is not zero
                    rows = F.pad(rows, (0, 0, above, below))
                result[:, :, first:end] = self.conv3(gelu(self.conv2.convolve(rows, (0, 1))))
        return out


class MBConv(Bottleneck):
    """GELU(x + Bottleneck(x)), four times the channels within: (B, channels, H, W) to the same. Starts as GELU(x).

    >>> MBConv(4)(torch.zeros(1, 4, 5, 8)).shape
    torch.Size([1, 4, 5, 8])
    """

    def __init__(self, channels: int, rewrites: bool = True) -> None:
        super().__init__(channels, 4 * channels, channels, start=0.0, rewrites=rewrites)

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        return gelu(add(out, x)) if self.rewrites else F.gelu(x + out)


class PatchMerging(Bottleneck):
    """The step between two stages: a Bottleneck of the new width, (B, in_channels, H, W) -> (B, channels, H / stride, W / stride), rounded up.

    >>> PatchMerging(4, 8, stride=2)(torch.zeros(1, 4, 5, 8)).shape
    torch.Size([1, 8, 3, 4])
    """

    def __init__(self, in_channels: int, channels: int, stride: int, rewrites: bool = True) -> None:
        super().__init__(in_channels, channels, channels, stride, rewrites=rewrites)


class Mlp(nn.Module):
    """Tokens (B, H, W, channels) -> tokens + Linear(GELU(Linear(LayerNorm(tokens)))), four times the channels within.

    rewrites: inference on the CPU goes through pieces of the tokens.

    >>> Mlp(8)(torch.zeros(1, 4, 5, 8)).shape
    torch.Size([1, 4, 5, 8])
    """

    def __init__(self, channels: int, rewrites: bool = True) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.fc1, self.fc2 = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)
        self.rewrites = rewrites

    def forward(self, tokens: Tensor) -> Tensor:
        if not self.rewrites:
            return tokens + self.fc2(F.gelu(self.fc1(self.norm(tokens))))
        if not streams(tokens):
            return tokens + self.fc2(gelu(self.fc1(self.norm(tokens))))
        rows = tokens.flatten(0, 2)
        out = torch.empty_like(rows)
        for piece in pieces(len(rows), self.fc1.out_features * rows.itemsize):
            out[piece] = self.fc2(gelu(self.fc1(self.norm(rows[piece])))).add_(rows[piece])
        return out.view_as(tokens)


class Block(nn.Module):
    """x + WinAttn(x), depthwise ConvBN 3x3 without a shortcut, x + MLP(x): (B, channels, H, W) to the same.

    >>> Block(16, heads=2, window=7)(torch.zeros(1, 16, 5, 9)).shape
    torch.Size([1, 16, 5, 9])
    """

    def __init__(self, channels: int, heads: int, window: int, rewrites: bool = True) -> None:
        super().__init__()
        self.attn = WinAttn(channels, heads, window, rewrites)
        self.mlp = Mlp(channels, rewrites)
        self.local_conv = ConvBN(channels, channels, kernel=3, groups=channels, rewrites=rewrites)

    def forward(self, x: Tensor) -> Tensor:
        # channels are innermost in maps and tokens alike: nothing is copied between the two
        x = self.local_conv(self.attn(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
        return self.mlp(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Stage(nn.Module):
    """Blocks one after the other, then the step to the next stage, if there is one."""

    def __init__(self, blocks: Sequence[nn.Module], downsample: nn.Module | None) -> None:
        super().__init__()
        self.blocks, self.downsample = nn.ModuleList(blocks), downsample

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)


class TinyViT(nn.Module):
    """Normalised image (B, 3, H, W), H and W multiples of 8, -> (X (B, neck, H/8, W/8), tap (B, dims[2], H/8, W/8) or None).

        nearest x2, patch embedding                                       dims[0] at H/2
        stage 0: MBConv;  stages 1-3: attention blocks                    dims[1] at H/4, dims[2] and dims[3] at H/8
        neck: conv1x1, LayerNorm2d, conv3x3, LayerNorm2d                  X

    depths, heads, windows: of the four stages; stage 0 has no attention. The tap, returned where shallow is true, is the output of stage 1.
    wpmd_blocks, steps, all_high: the first wpmd_blocks stages begin with a `WPMD` block [ours: where they stand, the paper leaves open].
    norm_head and head are the classifier of the checkpoints: loaded and saved, never run. Linear weights start from a normal distribution of
    deviation 0.02 [ours]; what is trained starts from MobileSAM. backend: of the WPMD blocks.

    rewrites: the exact and quicker forms of all parts. False: the plain ones. The weights are the same. Raises ValueError for sizes that do
    not fit together.

    >>> net = TinyViT(dims=(8, 16, 16, 32), depths=(1, 1, 1, 1), heads=(1, 2, 2, 4), neck=8, wpmd_blocks=0)
    >>> x, tap = net(torch.zeros(1, 3, 24, 40), shallow=True)
    >>> x.shape, tap.shape
    (torch.Size([1, 8, 3, 5]), torch.Size([1, 16, 3, 5]))
    """

    def __init__(self, dims: Sequence[int] = (64, 128, 160, 320), depths: Sequence[int] = (2, 2, 6, 2), heads: Sequence[int] = (2, 4, 5, 10),
                 windows: Sequence[int] = (7, 7, 14, 7), neck: int = 256, wpmd_blocks: int = 0, steps: int = 3, all_high: bool = False,
                 rewrites: bool = True, backend: str = "ext") -> None:
        super().__init__()
        for name, sizes in (("dims", dims), ("depths", depths), ("heads", heads), ("windows", windows)):
            if len(sizes) != 4 or not all(isinstance(s, int) and s > 0 for s in sizes):
                raise ValueError(f"TinyViT: {name} must be four integers > 0, got {sizes!r}")
        if dims[0] % 2:
            raise ValueError(f"TinyViT: dims[0] must be even, got {dims[0]}")
        if isinstance(wpmd_blocks, bool) or wpmd_blocks not in range(5):
            raise ValueError(f"TinyViT: wpmd_blocks must be 0 to 4, got {wpmd_blocks!r}")
        self.rewrites = rewrites
        self.patch_embed = PatchEmbed(dims[0], rewrites)
        self.layers = nn.ModuleList()
        for i, (channels, depth) in enumerate(zip(dims, depths)):
            blocks = [Block(channels, heads[i], windows[i], rewrites) if i else MBConv(channels, rewrites) for _ in range(depth)]
            self.layers.append(Stage(blocks, PatchMerging(channels, dims[i + 1], 2 if i < 2 else 1, rewrites) if i < 3 else None))
        self.wpmd = nn.ModuleList(WPMD(channels, steps, all_high, backend) for channels in dims[:wpmd_blocks])
        self.norm_head, self.head = nn.LayerNorm(dims[3]), nn.Linear(dims[3], _CLASSES)
        self.neck = nn.Sequential(nn.Conv2d(dims[3], neck, 1, bias=False), LayerNorm2d(neck),
                                  nn.Conv2d(neck, neck, 3, padding=1, bias=False), LayerNorm2d(neck))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def unused(self) -> list[nn.Module]:
        """The modules that never take part in a result."""
        return [self.norm_head, self.head]

    def forward(self, x: Tensor, shallow: bool = False) -> tuple[Tensor, Tensor | None]:
        x, tap = self.patch_embed(x), None
        for i, stage in enumerate(self.layers):
            if i < len(self.wpmd):
                x = self.wpmd[i](x)
            x = stage(channels_last(x) if self.rewrites else x)
            if shallow and i == _TAP:
                tap = x
        return self.neck(x), tap
