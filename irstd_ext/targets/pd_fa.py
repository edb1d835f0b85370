"""The exact Pd-Fa curve of an image, of a list, or of a set that arrives image by image."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Sequence

import numpy as np

from .inputs import compute, score_pair


@dataclass(frozen=True, eq=False)
class Curve:
    """Set-level counts at every threshold ``thr`` (descending, then -inf; rule score > thr). See :func:`curve`.

    Arrays [T]: ``thr`` float64; ``n_hit``, ``fa_pixels``, ``fp_objects`` (protocol ``exact``), ``tp``, ``fp``
    int64. Neither Pd nor Fa is monotone in the threshold: components merge and centroids move.
    """

    thr: np.ndarray
    n_hit: np.ndarray
    fa_pixels: np.ndarray
    fp_objects: np.ndarray
    tp: np.ndarray
    fp: np.ndarray
    n_gt: int
    gt_pixels: int
    pixels: int
    n_images: int

    @property
    def pd(self) -> np.ndarray:
        """n_hit / n_gt, NaN without true targets."""
        return self.n_hit / self.n_gt if self.n_gt else np.full(len(self.thr), np.nan)

    @property
    def fa(self) -> np.ndarray:
        """fa_pixels / pixels, NaN without pixels."""
        return self.fa_pixels / self.pixels if self.pixels else np.full(len(self.thr), np.nan)

    def at(self, threshold: float) -> int:
        """Index of the point that equals ``score > threshold`` for any finite or infinite threshold."""
        if np.isnan(threshold):
            raise ValueError("Curve.at: threshold must not be NaN")
        return int(np.argmax(self.thr <= threshold))

    def pd_at_fa(self, budgets: float | Sequence[float]) -> float | np.ndarray:
        """Largest Pd among the points with Fa <= budget; a float for a float, else float64 [len(budgets)].

        Fa is a fraction of pixels (1e-6 = one pixel per million). NaN without true targets or pixels.
        """
        wanted = np.asarray(budgets, np.float64)
        if wanted.ndim > 1 or not (wanted >= 0).all():
            raise ValueError(f"Curve.pd_at_fa: budgets must be numbers >= 0, got {budgets}")
        best = [self.pd[self.fa <= b].max() if self.n_gt else np.nan for b in wanted.reshape(-1)]
        return float(best[0]) if wanted.ndim == 0 else np.array(best)


def _union(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Two blocks (levels [L] ascending, changes [5, L]) as one: changes at the same level add up."""
    levels = np.concatenate((a[0], b[0]))
    order = np.argsort(levels, kind="stable")  # linear on two sorted runs
    levels = levels[order]
    starts = np.flatnonzero(np.append(True, levels[1:] != levels[:-1]))
    return levels[starts], np.add.reduceat(np.concatenate((a[1], b[1]), axis=1)[:, order], starts, axis=1)


class CurveBuilder:
    """The exact Pd-Fa curve of a set that arrives image by image: :meth:`result` equals :func:`curve` of the lists.

    Keeps no image, only the changes of the counts at each distinct score of the set: 48 bytes per distinct score,
    at most twice that while images arrive (:attr:`nbytes`), some four times that for a moment in :meth:`result`.
    Any number of 8-bit score maps thus ends at 12 KiB or less, of 16-bit ones at 3 MiB; float maps have up to one
    distinct score per pixel, so a large set of them is better quantised first. All counts are
    integers: neither the order of the images nor the way builders are merged changes a result. Builders can be
    pickled, e.g. to merge those of several processes.

    >>> score = np.zeros((16, 16)); score[2, 2] = 0.9; score[12, 12] = 0.4
    >>> builder = CurveBuilder()
    >>> builder.add(score, score > 0.5)
    >>> builder.add(score[:8], score[:8] > 0.5)
    >>> c = builder.result()
    >>> c.thr.tolist(), c.n_hit.tolist(), c.fa_pixels.tolist(), c.n_images
    ([0.9, 0.4, 0.0, -inf], [0, 2, 2, 0], [0, 0, 1, 384], 2)
    """

    def __init__(self) -> None:
        self._blocks: list[tuple[np.ndarray, np.ndarray]] = []  # each more than twice as long as the next
        self._size = np.zeros(4, np.int64)  # targets, their pixels, pixels, images

    def add(self, score: Any, gt: Any) -> None:
        """Adds one image; ``score`` and ``gt`` [H, W] and errors as in :func:`curve`, after which nothing is added."""
        self._add(compute(), *score_pair(score, gt, "CurveBuilder.add"))

    def _add(self, form: Any, score: np.ndarray, gt: np.ndarray) -> None:
        levels, counts, n_gt = form.sweep(score, gt)
        if len(levels):
            self._push((levels[::-1], np.diff(counts, axis=1, prepend=0)[:, ::-1]))
        self._size += (n_gt, np.count_nonzero(gt), gt.size, 1)

    def _push(self, block: tuple[np.ndarray, np.ndarray]) -> None:
        while self._blocks and len(self._blocks[-1][0]) <= 2 * len(block[0]):
            block = _union(self._blocks.pop(), block)
        self._blocks.append(block)

    def merge(self, other: "CurveBuilder") -> "CurveBuilder":
        """Adds the images of another builder, which stays as it is; returns self."""
        if not isinstance(other, CurveBuilder):
            raise ValueError(f"CurveBuilder.merge: other must be a CurveBuilder, got {type(other).__name__}")
        for block in list(other._blocks):
            self._push(block)
        self._size = self._size + other._size
        return self

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return sum(levels.nbytes + changes.nbytes for levels, changes in self._blocks)

    def result(self) -> Curve:
        """The curve of all images so far; more may be added afterwards. Raises ValueError without an image."""
        n_gt, gt_pixels, pixels, n_images = self._size.tolist()
        if not n_images:
            raise ValueError("CurveBuilder.result: there must be an image, got none")
        while len(self._blocks) > 1:
            last = self._blocks.pop()
            self._blocks[-1] = _union(self._blocks[-1], last)
        levels, changes = self._blocks[0] if self._blocks else (np.empty(0), np.empty((5, 0), np.int64))
        totals = np.zeros((5, len(levels) + 1), np.int64)
        np.cumsum(changes[:, ::-1], axis=1, out=totals[:, 1:])
        return Curve(np.append(levels[::-1], -np.inf), *totals, n_gt, gt_pixels, pixels, n_images)


def curve(score: Any, gt: Any) -> Curve:
    """Exact Pd-Fa curve of one image or of a set (two lists of images, whose sizes may differ).

    ``score`` [H, W] is finite, on any scale, of any dtype whose values are exact in float64, in which they are
    compared; ``gt`` [H, W] is a mask. Every distinct score of the set is a threshold, then -inf. Matching is that
    of the protocol ``exact``. One pass per image: pixels join in descending score by union-find, and only the
    targets near a component that changed are matched again. The NumPy form labels anew at every threshold.
    Raises ValueError for non-finite or inexact scores, shapes that differ, lists of two lengths or no image.

    >>> score = np.zeros((16, 16)); score[2, 2] = 0.9; score[12, 12] = 0.4
    >>> c = curve(score, score > 0.5)
    >>> c.thr.tolist(), c.n_hit.tolist(), c.fa_pixels.tolist()
    ([0.9, 0.4, 0.0, -inf], [0, 1, 1, 0], [0, 0, 1, 256])
    """
    many = isinstance(score, (list, tuple)), isinstance(gt, (list, tuple))
    if many[0] != many[1]:
        raise ValueError("curve: score and gt must both be one image or both be lists of images")
    scores, masks = (score, gt) if many[0] else ([score], [gt])
    if len(scores) != len(masks) or not scores:
        raise ValueError(f"curve: score and gt must be lists of one length >= 1, got {len(scores)} and {len(masks)}")
    form, builder = compute(), CurveBuilder()
    for s, g in zip(scores, masks):
        builder._add(form, *score_pair(s, g, "curve"))
    return builder.result()
