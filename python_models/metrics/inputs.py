"""From network outputs and masks to boolean images, by the one rule of every metric here."""
from __future__ import annotations

import math
from typing import Any, Iterator

import numpy as np
import torch
from torch import Tensor


def as_images(x: Any, op: str, name: str) -> Tensor:
    """[H, W], [B, H, W] or [B, 1, H, W] -> [B, H, W], still on its device."""
    if not isinstance(x, Tensor):
        x = torch.from_numpy(np.require(x, requirements=["C", "W"]))  # torch takes no negative strides, warns on read-only
    x = x.detach()
    if x.ndim == 4 and x.shape[1] == 1:
        return x[:, 0]
    if x.ndim in (2, 3):
        return x if x.ndim == 3 else x[None]
    raise ValueError(f"{op}: {name} must be [H, W], [B, H, W] or [B, 1, H, W], got {tuple(x.shape)}")


def above(values: Tensor, threshold: float) -> Tensor:
    """values > threshold, strict and exact: the threshold is never rounded to a narrower dtype."""
    if math.isfinite(threshold):
        if torch.tensor(threshold, dtype=values.dtype).double().item() != threshold:
            values = values.double()
    return values > threshold


def check_predictions(values: Tensor, op: str, kind: str, bounded: bool = True) -> None:
    """Finite numbers, and scores inside [0, 1] (only >= 0 where not ``bounded``)."""
    if values.is_complex():
        raise ValueError(f"{op}: {kind} must be real, got {values.dtype}")
    if not values.numel():
        return
    if not torch.isfinite(values).all():
        raise ValueError(f"{op}: {kind} must be finite, got {values[~torch.isfinite(values)][0].item()}")
    if kind == "scores":
        low, high = values.min().item(), values.max().item()
        if low < 0 or (bounded and high > 1):
            raise ValueError(f"{op}: scores must lie in {'[0, 1]' if bounded else '[0, inf)'}, got {low:g} .. {high:g}"
                             " (input=\"logits\" takes logits)")


def cut(kind: str, threshold: float) -> float:
    """The score threshold on the scale of the input: itself, or its logit (0.5 is exactly 0)."""
    if kind == "scores":
        return threshold
    if threshold <= 0 or threshold >= 1:
        return -math.inf if threshold <= 0 else math.inf
    return math.log(threshold / (1 - threshold))


def truth(mask: Tensor, op: str = "metrics") -> Tensor:
    """Foreground of ground truth [B, H, W]: value > half of full scale, image by image.

    Full scale is 1 for boolean, float and 0/1 integer images, 255 for other integers up to 255, else 65535.
    """
    if mask.dtype == torch.bool:
        return mask
    if mask.is_complex():
        raise ValueError(f"{op}: mask must be real, got {mask.dtype}")
    if mask.is_floating_point():
        wrong = mask[~((mask >= 0) & (mask <= 1))]
        if wrong.numel():
            raise ValueError(f"{op}: mask must lie in [0, 1] where it is float, got {wrong[0].item():g}")
        return mask > 0.5
    mask = mask.long()
    if not mask.numel():
        return mask.bool()
    if mask.min() < 0 or mask.max() > 65535:
        raise ValueError(f"{op}: mask must lie in 0 .. 65535 where it is integer, got {mask.min().item()} .. {mask.max().item()}")
    top = mask.amax(dim=(-2, -1), keepdim=True)
    scale = torch.where(top <= 1, 1, torch.where(top <= 255, 255, 65535))
    return 2 * mask > scale


def pairs(values: Any, mask: Any, op: str) -> tuple[Tensor, Tensor]:
    """Predictions, floating point, and boolean truth, both [B, H, W] of one shape."""
    values, mask = as_images(values, op, "prediction"), as_images(mask, op, "mask")
    if values.shape != mask.shape:
        raise ValueError(f"{op}: prediction and mask must have one shape, got {tuple(values.shape)} and {tuple(mask.shape)}")
    if not (values.is_floating_point() or values.is_complex()):
        values = values.double()
    return values, truth(mask, op)


def planes(*stacks: Tensor) -> Iterator[tuple[np.ndarray, ...]]:
    """Image by image, as NumPy."""
    return zip(*(stack.cpu().numpy() for stack in stacks))


def ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
