"""The coarse sweep of papers: pixel ROC and target counts at 11 thresholds."""
from __future__ import annotations

from typing import Any

import numpy as np

from irstd_ext import targets

from .inputs import Reading, above, cut, planes

THRESHOLDS = tuple(i / 10 for i in range(11))
_FIELDS = ("roc_tp", "roc_fp", "sweep_n_hit", "sweep_fa_pixels_exact", "sweep_fa_pixels_legacy")


class CoarseSweep:
    """Pixel ROC and target counts at thresholds i/10, i = 0..10, score > threshold, compared exactly.

    ``input`` is ``"scores"`` in [0, 1] or ``"logits"`` (each threshold's logit is used); ``gt_rule`` as in
    :class:`IRSTDMetrics`. Counts are int64 and mergeable. :meth:`compute` gives arrays [11]: ``roc_tp``, ``roc_fp``,
    ``roc_tpr`` = TP/P, ``roc_fpr`` = FP/N, the same with ``_eps`` (1e-3 added to P and N, as in ABC and SCTransNet),
    ``sweep_n_hit``, ``sweep_fa_pixels_exact``, ``sweep_fa_pixels_legacy``; undefined ratios are NaN.

    >>> sweep = CoarseSweep()
    >>> sweep.update(np.full((4, 4), 0.45), np.eye(4))
    >>> sweep.compute()["roc_tp"].tolist()
    [4, 4, 4, 4, 4, 0, 0, 0, 0, 0, 0]
    """

    def __init__(self, input: str = "scores", *, gt_rule: str = "half") -> None:
        self._reading = Reading("CoarseSweep", input, gt_rule=gt_rule)
        self.options = {"input": input, "gt_rule": gt_rule}
        self.reset()

    def reset(self) -> None:
        """Clears every count."""
        self.load_counts(np.zeros((len(_FIELDS), len(THRESHOLDS)), np.int64), np.zeros(4, np.int64))

    def update(self, prediction: Any, mask: Any) -> None:
        """Adds a batch; shapes and masks as in :meth:`IRSTDMetrics.update`."""
        counts, size = self.count(prediction, mask)
        self.load_counts(self._counts + counts, self._size + size)

    def count(self, prediction: Any, mask: Any) -> tuple[np.ndarray, np.ndarray]:
        """Counts int64 [5, 11] and sizes int64 [4] of one batch alone, without adding them."""
        values, gt = self._reading.values(prediction, mask)
        counts, size = np.zeros_like(self._counts), np.zeros_like(self._size)
        for (g,) in planes(gt):
            positive = int(np.count_nonzero(g))
            size += (positive, g.size - positive, len(targets.regions(g)), 1)
        for k, threshold in enumerate(THRESHOLDS):
            for p, g in planes(above(values, cut(self.options["input"], threshold)), gt):
                m = targets.match(p, g, "exact")
                tp = int(np.count_nonzero(p & g))
                counts[:, k] += (tp, int(np.count_nonzero(p)) - tp, m.n_hit, m.fa_pixels_exact, m.fa_pixels_legacy)
        return counts, size

    def load_counts(self, counts: np.ndarray, size: np.ndarray) -> None:
        """Replaces the counts by those of :meth:`count`, or sums of them."""
        self._counts, self._size = counts, size  # size: target pixels, background pixels, targets, images

    def merge(self, other: "CoarseSweep") -> "CoarseSweep":
        """Adds the counts of another sweep with the same options; returns self."""
        if not isinstance(other, CoarseSweep) or other.options != self.options:
            raise ValueError(f"CoarseSweep.merge: options must be equal, got {self.options} and {getattr(other, 'options', other)}")
        self.load_counts(self._counts + other._counts, self._size + other._size)
        return self

    def compute(self) -> dict[str, Any]:
        """Arrays [11] by field name, ``thresholds``, and the integers ``n_gt``, ``n_images``, ``pixels``."""
        out: dict[str, Any] = {"thresholds": np.array(THRESHOLDS), **dict(zip(_FIELDS, self._counts.copy()))}
        positive, negative, n_gt, n_images = self._size.tolist()
        for rate, part, whole in (("tpr", "roc_tp", positive), ("fpr", "roc_fp", negative)):
            out[f"roc_{rate}"] = out[part] / whole if whole else np.full(len(THRESHOLDS), np.nan)
            out[f"roc_{rate}_eps"] = out[part] / (whole + 1e-3)
        return out | {"n_gt": n_gt, "n_images": n_images, "pixels": positive + negative}
