"""From network outputs and masks to boolean images, by the one rule of every metric here."""
from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field
from typing import Any, Iterator

import numpy as np
import torch
from torch import Tensor

from python_models.data.errors import DataWarning

GT_RULES = ("half", "full", "nonzero")


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


def truth(mask: Tensor, op: str = "metrics", rule: str = "half") -> Tensor:
    """Foreground of ground truth [B, H, W], image by image: value > half of full scale (``half``), value >= full scale
    (``full``: what code that casts a scaled mask to int64 does, so that 254 is background) or value > 0 (``nonzero``).

    Full scale is 1 for boolean, float and 0/1 integer images, 255 for other integers up to 255, else 65535.
    """
    if rule not in GT_RULES:
        raise ValueError(f"{op}: gt_rule must be one of {', '.join(GT_RULES)}, got {rule!r}")
    if mask.dtype == torch.bool:
        return mask
    if mask.is_complex():
        raise ValueError(f"{op}: mask must be real, got {mask.dtype}")
    if mask.is_floating_point():
        wrong = mask[~((mask >= 0) & (mask <= 1))]
        if wrong.numel():
            raise ValueError(f"{op}: mask must lie in [0, 1] where it is float, got {wrong[0].item():g}")
        return mask > 0.5 if rule == "half" else mask >= 1 if rule == "full" else mask > 0
    mask = mask.long()
    if not mask.numel():
        return mask.bool()
    if mask.min() < 0 or mask.max() > 65535:
        raise ValueError(f"{op}: mask must lie in 0 .. 65535 where it is integer, got {mask.min().item()} .. {mask.max().item()}")
    if rule == "nonzero":
        return mask > 0
    top = mask.amax(dim=(-2, -1), keepdim=True)
    scale = torch.where(top <= 1, 1, torch.where(top <= 255, 255, 65535))
    return 2 * mask > scale if rule == "half" else mask >= scale


@dataclass(frozen=True)
class Reading:
    """How predictions and masks are read as boolean images: the options that the metrics share, checked in the name of ``op``."""

    op: str
    input: str = "logits"
    threshold: float = 0.5
    maxnorm: bool = False
    gt_rule: str = "half"
    _warned: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, known in (("input", ("logits", "scores")), ("gt_rule", GT_RULES)):
            if getattr(self, name) not in known:
                raise ValueError(f"{self.op}: {name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"{self.op}: threshold must lie in [0, 1], got {self.threshold}")
        if self.maxnorm and self.input != "scores":
            raise ValueError(f'{self.op}: maxnorm must be used with input="scores", got input="logits"')

    def values(self, prediction: Any, mask: Any) -> tuple[Tensor, Tensor]:
        """Checked predictions, floating point, and boolean truth, both [B, H, W] of one shape."""
        values, gt = pairs(prediction, mask, self.op, self.gt_rule)
        check_predictions(values, self.op, self.input, bounded=not self.maxnorm)
        if self.input == "logits" and "logits" not in self._warned and _look_like_probabilities(values, gt):
            self._warn("logits", 'every logit lies in [0, 1], so probabilities were probably given; input="scores" takes them')
        if self.gt_rule != "nonzero" and "mask" not in self._warned and (top := _faint(as_images(mask, self.op, "mask"))):
            self._warn("mask", f"a mask whose largest value is {top} holds no target, none is above half of full scale {255 if top <= 255 else 65535}; "
                               'give 0 and 1, or gt_rule="nonzero"')
        return values, gt

    def _warn(self, about: str, text: str) -> None:
        """Once for each object."""
        self._warned.add(about)
        warnings.warn(f"{self.op}: {text}", DataWarning, stacklevel=5)

    def planes(self, prediction: Any, mask: Any) -> Iterator[tuple[np.ndarray, ...]]:
        """(predicted, true), boolean [H, W], image by image."""
        values, gt = self.values(prediction, mask)
        if self.maxnorm and values.numel():
            peak = values.double().amax(dim=(-2, -1), keepdim=True)
            pred = values.double() > self.threshold * peak  # no division: nothing is rounded, an empty score stays empty
        else:
            pred = above(values, cut(self.input, self.threshold))
        return planes(pred, gt)


def _look_like_probabilities(values: Tensor, gt: Tensor) -> bool:
    """Whether all lie in [0, 1] and some between, in a batch with targets; 0 and 1 alone are masks, which logits may be."""
    if not values.numel() or values.min() < 0 or values.max() > 1:
        return False
    return bool(((values > 0) & (values < 1)).any()) and bool(gt.any())


def _faint(mask: Tensor) -> int:
    """Largest value of the first integer image [B, H, W] with values, all of them at or below half of full scale; 0: none is."""
    if mask.dtype == torch.bool or mask.is_floating_point() or not mask.numel():
        return 0
    top = mask.long().amax(dim=(-2, -1))
    faint = top[((top > 1) & (top <= 127)) | ((top > 255) & (top <= 32767))]
    return int(faint[0]) if len(faint) else 0


def pairs(values: Any, mask: Any, op: str, rule: str = "half") -> tuple[Tensor, Tensor]:
    """Predictions, floating point, and boolean truth, both [B, H, W] of one shape."""
    values, mask = as_images(values, op, "prediction"), as_images(mask, op, "mask")
    if values.shape != mask.shape:
        raise ValueError(f"{op}: prediction and mask must have one shape, got {tuple(values.shape)} and {tuple(mask.shape)}")
    if not (values.is_floating_point() or values.is_complex()):
        values = values.double()
    return values, truth(mask, op, rule)


def planes(*stacks: Tensor) -> Iterator[tuple[np.ndarray, ...]]:
    """Image by image, as NumPy."""
    return zip(*(stack.cpu().numpy() for stack in stacks))


def ratio(part: Any, whole: Any) -> Any:
    """part / whole of integers, or of arrays of one shape; NaN where ``whole`` is 0."""
    if isinstance(whole, np.ndarray):
        return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole != 0)
    return part / whole if whole else math.nan
