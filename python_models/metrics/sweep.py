"""The coarse sweep of papers (11 thresholds) and the exact area under the pixel ROC."""
from __future__ import annotations

import math
from typing import Any, Sequence

import numpy as np

from irstd_ext import targets

from .inputs import above, check_predictions, cut, pairs, planes

THRESHOLDS = tuple(i / 10 for i in range(11))
_FIELDS = ("roc_tp", "roc_fp", "sweep_n_hit", "sweep_fa_pixels_exact", "sweep_fa_pixels_legacy")


class CoarseSweep:
    """Pixel ROC and target counts at thresholds i/10, i = 0..10, score > threshold, compared exactly.

    ``input`` is ``"scores"`` in [0, 1] or ``"logits"`` (each threshold's logit is used). Counts are int64 and
    mergeable. :meth:`compute` gives arrays [11]: ``roc_tp``, ``roc_fp``, ``roc_tpr`` = TP/P, ``roc_fpr`` = FP/N, the
    same with ``_eps`` (1e-3 added to P and N, as in ABC and SCTransNet), ``sweep_n_hit``,
    ``sweep_fa_pixels_exact``, ``sweep_fa_pixels_legacy``; undefined ratios are NaN.

    >>> sweep = CoarseSweep()
    >>> sweep.update(np.full((4, 4), 0.45), np.eye(4))
    >>> sweep.compute()["roc_tp"].tolist()
    [4, 4, 4, 4, 4, 0, 0, 0, 0, 0, 0]
    """

    def __init__(self, input: str = "scores") -> None:
        if input not in ("logits", "scores"):
            raise ValueError(f"CoarseSweep: input must be one of logits, scores, got {input!r}")
        self.input = input
        self.reset()

    def reset(self) -> None:
        """Clears every count."""
        self._counts = np.zeros((len(_FIELDS), len(THRESHOLDS)), np.int64)
        self._size = np.zeros(4, np.int64)  # target pixels, background pixels, targets, images

    def update(self, prediction: Any, mask: Any) -> None:
        """Adds a batch; shapes and masks as in :meth:`IRSTDMetrics.update`."""
        values, gt = pairs(prediction, mask, "CoarseSweep")
        check_predictions(values, "CoarseSweep", self.input)
        counts, size = np.zeros_like(self._counts), np.zeros_like(self._size)
        for (g,) in planes(gt):
            positive = int(np.count_nonzero(g))
            size += (positive, g.size - positive, len(targets.regions(g)), 1)
        for k, threshold in enumerate(THRESHOLDS):
            for p, g in planes(above(values, cut(self.input, threshold)), gt):
                m = targets.match(p, g, "exact")
                tp = int(np.count_nonzero(p & g))
                counts[:, k] += (tp, int(np.count_nonzero(p)) - tp, m.n_hit, m.fa_pixels_exact, m.fa_pixels_legacy)
        self._counts, self._size = self._counts + counts, self._size + size

    def merge(self, other: "CoarseSweep") -> "CoarseSweep":
        """Adds the counts of another sweep of the same input; returns self."""
        if not isinstance(other, CoarseSweep) or other.input != self.input:
            raise ValueError("CoarseSweep.merge: input must be equal")
        self._counts, self._size = self._counts + other._counts, self._size + other._size
        return self

    def compute(self) -> dict[str, Any]:
        """Arrays [11] by field name, ``thresholds``, and the integers ``n_gt``, ``n_images``, ``pixels``."""
        out: dict[str, Any] = {"thresholds": np.array(THRESHOLDS), **dict(zip(_FIELDS, self._counts.copy()))}
        positive, negative, n_gt, n_images = self._size.tolist()
        for rate, part, whole in (("tpr", "roc_tp", positive), ("fpr", "roc_fp", negative)):
            out[f"roc_{rate}"] = out[part] / whole if whole else np.full(len(THRESHOLDS), np.nan)
            out[f"roc_{rate}_eps"] = out[part] / (whole + 1e-3)
        return out | {"n_gt": n_gt, "n_images": n_images, "pixels": positive + negative}


def pixel_auc(predictions: Sequence[Any], masks: Sequence[Any]) -> float:
    """Area under the exact pixel ROC of a set of images: every distinct value is a threshold, trapezoid rule.

    Images are [H, W], [B, H, W] or [B, 1, H, W], finite, on any one scale (only the order of the values counts).
    The area is an exact ratio of integers; NaN without target pixels or without background.

    >>> pixel_auc([np.array([[0.1, 0.4], [0.35, 0.8]])], [np.array([[0, 0], [1, 1]])])
    0.75
    """
    if len(predictions) != len(masks):
        raise ValueError(f"pixel_auc: predictions and masks must be lists of one length, got {len(predictions)} and {len(masks)}")
    values, truths = [np.empty(0)], [np.empty(0, bool)]
    for prediction, mask in zip(predictions, masks):
        v, g = pairs(prediction, mask, "pixel_auc")
        check_predictions(v, "pixel_auc", "predictions")
        values.append(v.double().cpu().numpy().ravel())
        truths.append(g.cpu().numpy().ravel())
    truth = np.concatenate(truths)
    levels, index = np.unique(np.concatenate(values), return_inverse=True)
    tp = np.bincount(index[truth], minlength=len(levels))[::-1].astype(np.int64)
    fp = np.bincount(index[~truth], minlength=len(levels))[::-1].astype(np.int64)
    positive, negative = int(tp.sum()), int(fp.sum())
    twice = int((fp * (2 * np.cumsum(tp) - tp)).sum())  # trapezoids, doubled to stay integers
    return twice / (2 * positive * negative) if positive and negative else math.nan
