"""Soft intersection over union."""
from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from python_models.losses.base import Criterion


class SoftIoULoss(Criterion):
    """1 - (I + smooth) / (U + smooth), with p = sigmoid(logits), I = sum y p, U = sum (y + p - y p).

    Eq. 4 of the SGEM U-Net paper (doi 10.23977/acss.2025.090115) is this with smooth=0, minus 1: the same gradients. The sums run over the
    whole batch; per_image=True takes them per image and averages the losses, which weighs images equally whatever their targets' area.
    Computed in float32 (float64 for float64 logits), also under autocast. Finite everywhere: without any target and with smooth=1 it is
    1 - 1 / (1 + sum p). Arguments and errors as `Criterion`; smooth < 0 raises ValueError.

    >>> loss = SoftIoULoss()({"logits": torch.full((2, 1, 4, 4), 20.0)}, torch.ones(2, 4, 4))
    >>> round(loss.item(), 4)
    0.0
    """

    def __init__(self, smooth: float = 1.0, per_image: bool = False) -> None:
        super().__init__()
        if not smooth >= 0:
            raise ValueError(f"SoftIoULoss: smooth must be >= 0, got {smooth}")
        self.smooth, self.per_image = smooth, per_image

    def forward(self, out: Mapping[str, Tensor] | Tensor, target: Mapping[str, Tensor] | Tensor) -> Tensor:
        logits, mask = self.read(out, target)
        p = torch.sigmoid(logits)
        dims = (1, 2, 3) if self.per_image else (0, 1, 2, 3)
        intersection = (mask * p).sum(dims)
        union = (mask + p - mask * p).sum(dims)
        # only with smooth = 0 and nothing in mask or p is the denominator 0; the ratio is then 0 instead of 0/0
        denominator = (union + self.smooth).clamp_min(torch.finfo(union.dtype).tiny)
        loss = 1 - (intersection + self.smooth) / denominator
        return loss.sum() / max(loss.numel(), 1)

    def extra_repr(self) -> str:
        return f"smooth={self.smooth}, per_image={self.per_image}"
