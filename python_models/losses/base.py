"""What the losses share: how they read a network's result and the target."""
from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Criterion(nn.Module):
    """Base of the losses: `criterion(out, target)` -> scalar; `set_epoch` for losses with a schedule.

    out: a network's dict with "logits" (B, 1, H, W), or the logits. target: a mask (B, 1, H, W) or (B, H, W) with values in [0, 1],
    any dtype, or a dict that holds it as "mask".
    """

    def set_epoch(self, epoch: int) -> None:
        """Tells the loss the epoch that begins; losses without a schedule do nothing."""

    def after_validation(self, figures: Mapping[str, float]) -> None:
        """Tells the loss the figures of a judgement on the validation list; losses without a gate on them do nothing."""

    def read(self, out: Mapping[str, Tensor] | Tensor, target: Mapping[str, Tensor] | Tensor) -> tuple[Tensor, Tensor]:
        """Logits and mask, both (B, 1, H, W), in float64 where the logits are, else float32. Raises ValueError for other shapes."""
        op = type(self).__name__
        logits = out["logits"] if isinstance(out, Mapping) else out
        mask = target["mask"] if isinstance(target, Mapping) else target
        if logits.ndim != 4 or logits.shape[1] != 1:
            raise ValueError(f"{op}: logits must be (B, 1, H, W), got {tuple(logits.shape)}")
        if mask.ndim == 3:
            mask = mask.unsqueeze(1)
        if mask.shape != logits.shape:
            raise ValueError(f"{op}: mask must be {tuple(logits.shape)} or without the channel, got {tuple(mask.shape)}")
        dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
        return logits.to(dtype), mask.to(dtype)
