"""SGEM U-Net (doi 10.23977/acss.2025.090115): a five-level U-Net whose third skip connection is a semantic-gap module."""
from __future__ import annotations

from collections.abc import Sequence
from math import log

from torch import Tensor, cat, nn

from python_models.layers import ConvBlock, IRSTDNet, UpConv, pad_to_multiple
from python_models.losses import SoftIoULoss
from python_models.sgem_unet.presets import PRESETS
from python_models.sgem_unet.sgem import BilinearSGEM, LinearSGEM

_STRIDE = 16  # of the deepest level
_PRIOR = 0.001  # probability of a target pixel before training; the real sets have about 0.0006


class SGEMUNet(IRSTDNet):
    """x (B, 1 or 3, H, W) -> {"logits": (B, 1, H, W)}.

    attention: "bilinear", the paper's outer-product attention (Eq. 1-3), whose Linear layers fix the input to input_size x input_size
    (256 unless given, a multiple of 16); or "linear", linear cross-attention for any size from 16x16 up: the input is zero-padded at the
    bottom and right to a multiple of 16 and the logits are cropped.
    widths: channels of the five levels. upsample: "nearest" or "bilinear". heads: of the linear attention, must divide widths[2].
    For "bilinear" only: value_proj puts a 1x1 convolution on the values; resolution "d1" attends on the decoder's first map (stride 8),
    "d2" on the second (stride 4); attention_mode "flat" and "add" are other readings of the paper, with backend="reference".
    Raises ValueError for options that are unknown or belong to the other attention.

    >>> import torch
    >>> net = SGEMUNet(attention="linear", widths=(4, 8, 16, 16, 16), backend="reference")
    >>> net(torch.zeros(1, 1, 50, 33))["logits"].shape
    torch.Size([1, 1, 50, 33])
    """

    name = "sgem_unet"
    presets = PRESETS
    default_preset = "paper"
    stride = _STRIDE
    size_hint = '; attention="linear" takes any size'

    def __init__(self, attention: str = "bilinear", input_size: int | None = None, widths: Sequence[int] = (32, 64, 128, 256, 512),
                 in_channels: int = 3, upsample: str = "nearest", value_proj: bool = False, resolution: str = "d1",
                 attention_mode: str = "row", heads: int = 4, backend: str = "ext") -> None:
        _check_choice("attention", attention, ("bilinear", "linear"))
        _check_choice("upsample", upsample, ("nearest", "bilinear"))
        _check_choice("resolution", resolution, ("d1", "d2"))
        _check_choice("attention_mode", attention_mode, ("row", "flat", "add"))
        widths = tuple(widths)
        if len(widths) != 5 or not all(isinstance(w, int) and w > 0 for w in widths):
            raise ValueError(f"sgem_unet: widths must be five integers > 0, got {widths}")
        bilinear = attention == "bilinear"
        if bilinear:
            input_size = 256 if input_size is None else input_size
            if input_size <= 0 or input_size % _STRIDE:
                raise ValueError(f"sgem_unet: input_size must be a multiple of {_STRIDE}, got {input_size}")
            if attention_mode != "row" and backend != "reference":
                raise ValueError(f'sgem_unet: attention_mode={attention_mode!r} exists only with backend="reference", got backend={backend!r}')
        elif input_size is not None or value_proj or resolution != "d1" or attention_mode != "row":
            raise ValueError('sgem_unet: input_size, value_proj, resolution and attention_mode belong to attention="bilinear", got attention="linear"')
        elif heads < 1 or widths[2] % heads:
            raise ValueError(f"sgem_unet: heads must divide widths[2] = {widths[2]}, got {heads}")
        options = {"attention": attention, "input_size": input_size, "widths": list(widths), "in_channels": in_channels, "upsample": upsample,
                   "value_proj": value_proj, "resolution": resolution, "attention_mode": attention_mode, "heads": heads}
        super().__init__(options, in_channels, input_size, min_size=_STRIDE)

        w1, w2, w3, w4, w5 = widths
        self.attention, self.resolution = attention, resolution
        self.enc1, self.enc2, self.enc3 = ConvBlock(in_channels, w1), ConvBlock(w1, w2), ConvBlock(w2, w3)
        self.enc4, self.enc5 = ConvBlock(w3, w4), ConvBlock(w4, w5)
        self.pool = nn.MaxPool2d(2)
        self.up1, self.dec1 = UpConv(w5, w4, upsample), ConvBlock(2 * w4, w4)
        self.up2, self.dec2 = UpConv(w4, w3, upsample), ConvBlock(w3, w3)  # no concatenation: the SGEM brings E3 in
        self.up3, self.dec3 = UpConv(w3, w2, upsample), ConvBlock(2 * w2, w2)
        self.up4, self.dec4 = UpConv(w2, w1, upsample), ConvBlock(2 * w1, w1)
        self.head = nn.Conv2d(w1, 1, 1)
        # targets cover well under a percent of the pixels: from 0.5 everywhere soft-IoU spends its first epochs on the background
        nn.init.constant_(self.head.bias, log(_PRIOR / (1 - _PRIOR)))
        if not bilinear:
            self.sgem: nn.Module = LinearSGEM(w3, w4, heads=heads, backend=backend)
        elif resolution == "d1":
            self.sgem = BilinearSGEM(w3, w4, input_size // 8, value_proj=value_proj, mode=attention_mode, backend=backend)
        else:
            self.sgem = BilinearSGEM(w3, w4, input_size // 8, w3, input_size // 4, value_proj, attention_mode, backend)

    def forward_maps(self, x: Tensor) -> dict[str, Tensor]:
        height, width = x.shape[-2:]
        e1 = self.enc1(pad_to_multiple(x, _STRIDE))
        e2 = self.enc2(self.pool(e1))
        e3 = self.enc3(self.pool(e2))
        e4 = self.enc4(self.pool(e3))
        e5 = self.enc5(self.pool(e4))
        d1 = self.dec1(cat((e4, self.up1(e5)), 1))
        if self.attention == "bilinear" and self.resolution == "d1":
            u = self.up2(self.sgem(e3, d1))
        else:  # the attention's result lies on the grid of the second decoder map, so its input is upsampled first
            u = self.sgem(e3, d1, self.up2(d1))
        d2 = self.dec2(u)
        d3 = self.dec3(cat((e2, self.up3(d2)), 1))
        d4 = self.dec4(cat((e1, self.up4(d3)), 1))
        return {"logits": self.head(d4)[..., :height, :width]}

    def criterion(self) -> nn.Module:
        """The paper's loss (Eq. 4), over the whole batch."""
        return SoftIoULoss()


def _check_choice(option: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"sgem_unet: {option} must be one of {', '.join(map(repr, choices))}, got {value!r}")
