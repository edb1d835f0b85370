"""The scores of a data set on disk, so that what needs all of them (the exact curve, the ROC and its area) stays small in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import Literal

import numpy as np

EXACT_SCORES = 100_000  # as many distinct scores as a 16-bit map can hold, and a curve file of a few megabytes
_BITS = 8  # significant bits of the thresholds where a set has more distinct scores than that


class Spool:
    """Scores [H, W] (float32 or float64, finite) and truths [H, W] (bool) of images, in a temporary file, and whether they are at most
    ``limit`` distinct scores.

    Iterating gives them back in order, as often as wanted. The file has no name and goes with the object.

    >>> spool = Spool(limit=10)
    >>> spool.add(np.array([[0.5, 2.0]], np.float32), np.array([[False, True]]))
    >>> [(score.tolist(), gt.tolist()) for score, gt in spool], spool.distinct
    ([([[0.5, 2.0]], [[False, True]])], 2)
    """

    def __init__(self, limit: int) -> None:
        self._file = tempfile.TemporaryFile(prefix="irstd-scores-")
        self._images: list[tuple[tuple[int, ...], np.dtype]] = []
        self._limit, self._levels, self._new, self._count = limit, np.empty(0), [], 0

    def add(self, score: np.ndarray, gt: np.ndarray) -> None:
        """Appends an image."""
        self._file.write(np.ascontiguousarray(score).tobytes())
        self._file.write(np.packbits(gt).tobytes())
        self._images.append((score.shape, score.dtype))
        if len(self._levels) <= self._limit:
            self._new.append(np.unique(score).astype(np.float64))
            self._count += len(self._new[-1])
            if self._count > self._limit:  # merged only when there is enough to merge, so that the cost stays linear
                self._merge()

    def _merge(self) -> None:
        self._levels, self._new, self._count = np.unique(np.concatenate([self._levels, *self._new])), [], 0

    @property
    def distinct(self) -> int | None:
        """Number of distinct scores, None above ``limit``."""
        if self._new:
            self._merge()
        return len(self._levels) if len(self._levels) <= self._limit else None

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        self._file.seek(0)
        for shape, dtype in self._images:
            pixels = int(np.prod(shape))
            score = np.frombuffer(self._file.read(pixels * dtype.itemsize), dtype).reshape(shape)
            bits = np.frombuffer(self._file.read((pixels + 7) // 8), np.uint8)
            yield score, np.unpackbits(bits, count=pixels).astype(bool).reshape(shape)


def coarsen(score: np.ndarray, input: Literal["logits", "scores"], cut: float) -> np.ndarray:
    """Scores rounded up to a grid of 8 significant bits, float64: a few thousand thresholds in place of millions.

    A rounded score is above a threshold of the grid exactly when the score is, so every point of the curve is a point of
    the exact one. ``cut``, the threshold of the headline figures, belongs to the grid. Logits are rounded in their own
    size, scores in that of the nearer end of [0, 1].

    >>> coarsen(np.array([-1.001, 1.0, 1.001, 0.1]), "logits", cut=0.1).tolist()
    [-1.0, 1.0, 1.0078125, 0.1]
    """
    score = score.astype(np.float64)
    if input == "scores":
        up = np.where(score > 0.5, 1 - _round(1 - score, np.floor), _round(score, np.ceil))
    else:
        up = _round(score, np.ceil)
    return np.where((score <= cut) & (up > cut), cut, up) + 0.0  # + 0.0: no negative zero


def _round(x: np.ndarray, rule: np.ufunc) -> np.ndarray:
    mantissa, exponent = np.frexp(x)
    return np.ldexp(rule(mantissa * 2**_BITS), exponent - _BITS)
