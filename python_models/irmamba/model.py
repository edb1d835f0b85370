"""IRMamba (AAAI 2025): a convolutional and a Mamba encoder side by side, and a decoder that restores two layers at every scale."""
from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, log

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from python_models.irmamba.blocks import Gate, PatchExpand, PatchMerging, ResBlock
from python_models.irmamba.lrm import LRM
from python_models.irmamba.presets import PRESETS
from python_models.irmamba.ss2d import VSSBlock, to_map, to_tokens
from python_models.layers import IRSTDNet, pad_to_multiple
from python_models.losses.bce_soft_iou import BCESoftIoULoss

_LEVELS = 5
_STRIDE = 16  # of the deepest level
_PRIOR = 0.001  # probability of a target pixel before training; the real sets have about 0.0006


class IRMamba(IRSTDNet):
    """x (B, 1 or 3, H, W) -> {"logits": (B, 1, H, W)}, for any H and W: zero-padded at the bottom and right to a multiple of 16, cropped at the end.

    widths: channels of the five levels (strides 1, 2, 4, 8, 16). d_state: states of a scan for each channel. pdmamba: the neighbour term with
    differences over up to `window` pixels, gated by f + `gamma` (False: the plain scan). lrm: layer restoration with lrm_stages stages at
    strides 1, 2, 4 and 8 (False: the sum of decoder map and skip). checkpoint: compute Mamba blocks and restoration stages again in the
    backward pass, which takes time and saves memory. Raises ValueError for options out of range.

    >>> net = IRMamba(widths=(4, 4, 8, 8, 8), d_state=2, lrm_stages=(1, 1, 1, 1), backend="reference")
    >>> net(torch.zeros(1, 1, 20, 33))["logits"].shape
    torch.Size([1, 1, 20, 33])
    """

    name = "irmamba"
    presets = PRESETS
    default_preset = "paper"
    stride = _STRIDE

    def __init__(self, widths: Sequence[int] = (32, 64, 128, 256, 256), d_state: int = 16, window: int = 2, gamma: float = 1.0, pdmamba: bool = True,
                 lrm: bool = True, lrm_stages: Sequence[int] = (4, 3, 2, 1), checkpoint: bool = False, in_channels: int = 1, backend: str = "ext") -> None:
        widths = _counts("widths", widths, "five", _LEVELS)
        lrm_stages = _counts("lrm_stages", lrm_stages, "four", _LEVELS - 1)
        _check_count("d_state", d_state)
        _check_count("window", window)
        if isinstance(gamma, bool) or not isinstance(gamma, (int, float)) or not isfinite(gamma):
            raise ValueError(f"irmamba: gamma must be a finite number, got {gamma!r}")
        options = {"widths": list(widths), "d_state": d_state, "window": window, "gamma": gamma, "pdmamba": pdmamba, "lrm": lrm,
                   "lrm_stages": list(lrm_stages), "checkpoint": checkpoint, "in_channels": in_channels}
        super().__init__(options, in_channels)
        self.checkpoint = checkpoint

        steps = list(zip(widths, widths[1:]))
        self.conv_encoder = nn.ModuleList(ResBlock(a, b) for a, b in [(in_channels, widths[0]), *steps])
        self.pool = nn.MaxPool2d(2)
        self.stem, self.stem_norm = nn.Conv2d(in_channels, widths[0], 3, padding=1), nn.LayerNorm(widths[0])
        self.merge = nn.ModuleList(PatchMerging(a, b) for a, b in steps)
        self.vss = nn.ModuleList(nn.ModuleList(VSSBlock(c, d_state, window, gamma, pdmamba, backend) for _ in range(2)) for c in widths)
        self.gates = nn.ModuleList(Gate(c) for c in widths)
        self.expand = nn.ModuleList(PatchExpand(b, a) for a, b in steps)
        self.decoder = nn.ModuleList(ResBlock(c, c) for c in widths[:-1])
        self.lrm = nn.ModuleList(LRM(c, n, checkpoint) for c, n in zip(widths, lrm_stages)) if lrm else None
        self.head = nn.Conv2d(widths[0], 1, 1)
        # targets cover well under a percent of the pixels: from 0.5 everywhere the loss spends its first epochs on the background
        nn.init.constant_(self.head.bias, log(_PRIOR / (1 - _PRIOR)))

    def forward_maps(self, x: Tensor) -> dict[str, Tensor]:
        height, width = x.shape[-2:]
        *skips, deepest = self._encode(pad_to_multiple(x, _STRIDE))
        d = deepest
        for level in reversed(range(_LEVELS - 1)):
            d = self.decoder[level](to_map(self.expand[level](to_tokens(d))))
            d = d + skips[level] if self.lrm is None else self.lrm[level](d, skips[level])
        return {"logits": self.head(d)[..., :height, :width]}

    def _encode(self, x: Tensor) -> list[Tensor]:
        """The sum of both encoders' gated maps at every level, the finest first."""
        # from here on channels are innermost, in maps and tokens alike, so that no step between the two copies
        conv = self.conv_encoder[0](x).contiguous(memory_format=torch.channels_last)
        tokens = self.stem_norm(to_tokens(self.stem(x)))
        sums = []
        for level in range(_LEVELS):
            if level:
                conv, tokens = self.conv_encoder[level](self.pool(conv)), self.merge[level - 1](tokens)
            for block in self.vss[level]:
                if self.checkpoint and torch.is_grad_enabled():
                    tokens = recompute(block, tokens, use_reentrant=False, preserve_rng_state=False)
                else:
                    tokens = block(tokens)
            conv, mamba = self.gates[level](conv, to_map(tokens))
            sums.append(conv + mamba)
            tokens = to_tokens(mamba)
        return sums

    def criterion(self) -> nn.Module:
        """Cross-entropy plus soft IoU for each image; the paper names no loss."""
        return BCESoftIoULoss()


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _check_count(option: str, value: object) -> None:
    if not _is_count(value):
        raise ValueError(f"irmamba: {option} must be an integer > 0, got {value!r}")


def _counts(option: str, values: Sequence[int], word: str, count: int) -> tuple[int, ...]:
    if isinstance(values, str) or not isinstance(values, Sequence) or len(values) != count or not all(map(_is_count, values)):
        raise ValueError(f"irmamba: {option} must be {word} integers > 0, got {values!r}")
    return tuple(values)
