"""The exact area under the pixel ROC, in two passes over a set, so that memory holds its target pixels and one image."""
from __future__ import annotations

import math
from typing import Any, Sequence

import numpy as np

from .inputs import GT_RULES, check_predictions, pairs


class PixelAUC:
    """Area under the exact pixel ROC of a set: every distinct value is a threshold, trapezoid rule.

    The area is the share of pairs (target pixel, background pixel) in which the target pixel has the higher value, ties
    half. So a first pass collects the values of the target pixels, few in these images, and a second counts, image by
    image, where each background pixel falls among them. The count is an exact integer; order and merging change nothing.

    Args:
        positives: values of every target pixel of the set, in any order, as :meth:`positives` gives them.
        gt_rule: as in :class:`IRSTDMetrics`.

    Predictions are finite and on any one scale: only the order of the values counts.

    >>> score, mask = np.array([[0.1, 0.4], [0.35, 0.8]]), np.array([[0, 0], [1, 1]])
    >>> auc = PixelAUC(PixelAUC.positives(score, mask))
    >>> auc.update(score, mask)
    >>> auc.compute()
    0.75
    """

    def __init__(self, positives: Any, *, gt_rule: str = "half") -> None:
        if gt_rule not in GT_RULES:
            raise ValueError(f"PixelAUC: gt_rule must be one of {', '.join(GT_RULES)}, got {gt_rule!r}")
        self._positives, self.gt_rule = np.sort(np.asarray(positives, np.float64).ravel()), gt_rule
        self._twice = self._seen = self._negatives = 0

    @staticmethod
    def positives(prediction: Any, mask: Any, *, gt_rule: str = "half") -> np.ndarray:
        """Values float64 [number of target pixels] of one image or batch, [H, W], [B, H, W] or [B, 1, H, W]."""
        values, truth = _read(prediction, mask, gt_rule)
        return values[truth]

    def update(self, prediction: Any, mask: Any) -> None:
        """Counts the background pixels of one image or batch of the same set."""
        values, truth = _read(prediction, mask, self.gt_rule)
        negatives = np.sort(values[~truth])
        below = (np.searchsorted(self._positives, negatives, side).sum(dtype=np.int64) for side in ("left", "right"))
        self._twice += 2 * len(self._positives) * len(negatives) - sum(map(int, below))  # a win counts 2, a tie 1
        self._negatives += len(negatives)
        self._seen += int(truth.sum())

    def merge(self, other: "PixelAUC") -> "PixelAUC":
        """Adds the counts of another part of the set, made with the same positives; returns self."""
        if not isinstance(other, PixelAUC) or not np.array_equal(other._positives, self._positives) or other.gt_rule != self.gt_rule:
            raise ValueError("PixelAUC.merge: both must be made with the positives of the whole set and one gt_rule")
        self._twice, self._seen, self._negatives = self._twice + other._twice, self._seen + other._seen, self._negatives + other._negatives
        return self

    def compute(self) -> float:
        """The area, NaN without target pixels or without background. ValueError where the passes saw different sets."""
        if self._seen != len(self._positives):
            raise ValueError(f"PixelAUC: both passes must see one set, got {len(self._positives)} and {self._seen} target pixels")
        pairs_twice = 2 * self._seen * self._negatives
        return self._twice / pairs_twice if pairs_twice else math.nan


def _read(prediction: Any, mask: Any, gt_rule: str) -> tuple[np.ndarray, np.ndarray]:
    values, truth = pairs(prediction, mask, "pixel_auc", gt_rule)
    check_predictions(values, "pixel_auc", "predictions")
    return values.double().cpu().numpy(), truth.cpu().numpy()


def pixel_auc(predictions: Sequence[Any], masks: Sequence[Any], *, gt_rule: str = "half") -> float:
    """:class:`PixelAUC` of two lists of images, or of two objects like lists that read a score map and a mask when asked.

    >>> pixel_auc([np.array([[0.1, 0.4], [0.35, 0.8]])], [np.array([[0, 0], [1, 1]])])
    0.75
    """
    if len(predictions) != len(masks):
        raise ValueError(f"pixel_auc: predictions and masks must be lists of one length, got {len(predictions)} and {len(masks)}")
    found = [PixelAUC.positives(p, m, gt_rule=gt_rule) for p, m in zip(predictions, masks)]
    auc = PixelAUC(np.concatenate([np.empty(0), *found]), gt_rule=gt_rule)
    for prediction, mask in zip(predictions, masks):
        auc.update(prediction, mask)
    return auc.compute()
