"""Labelling of one mask and matching of two."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .inputs import as_mask, compute, mask_pair

PROTOCOLS = ("exact", "legacy", "overlap", "shooting")
SHOOTING_HIT, SHOOTING_FREE = 1, 4  # Chebyshev radii r1, r2 of the protocol "shooting"


@dataclass(frozen=True)
class Region:
    """A component: centroid (row, col) in pixels, box (x, y, w, h), area in pixels, its label (from 1)."""

    row: float
    col: float
    box: tuple[int, int, int, int]
    area: int
    label: int


@dataclass(frozen=True, eq=False)
class Match:
    """Result of :func:`match` for one image; areas in pixels.

    ``hit`` [n_gt] tells which true targets were found. ``pred_of_gt`` [n_gt] is the index of the matched
    prediction or -1, and ``fp_objects`` the number of unmatched predictions; both are None for ``overlap``
    and ``shooting``, which match pixels. ``fa_pixels`` follows the protocol; ``exact`` and ``legacy`` share
    one matching, so each carries both of their areas.
    """

    protocol: str
    hit: np.ndarray
    fa_pixels: int
    pixels: int
    background_pixels: int
    pred_of_gt: np.ndarray | None = None
    fp_objects: int | None = None
    fa_pixels_exact: int | None = None
    fa_pixels_legacy: int | None = None

    @property
    def n_gt(self) -> int:
        return len(self.hit)

    @property
    def n_hit(self) -> int:
        return int(np.count_nonzero(self.hit))


def label(mask: Any) -> tuple[np.ndarray, int]:
    """8-connected components of ``mask`` [H, W]: (labels int32 [H, W], 0 = background, and their number).

    Raises ValueError for anything but a 2-D mask of fewer than 2^31 pixels.

    >>> label(np.eye(3, dtype=bool))[1]
    1
    """
    labels, stats = compute().label(as_mask(mask, "label", "mask"))
    return labels, len(stats)


def regions(mask: Any) -> list[Region]:
    """The components of ``mask`` [H, W] with centroid, box and area, in the order of :func:`label`.

    The centroid is the mean (row, col) of the pixels, in float64.

    >>> mask = np.zeros((5, 6), bool); mask[1:3, 2:5] = True
    >>> regions(mask)
    [Region(row=1.5, col=3.0, box=(2, 1, 3, 2), area=6, label=1)]
    """
    stats = compute().regions(as_mask(mask, "regions", "mask")).tolist()
    return [Region(row / area, col / area, (left, top, right - left, bottom - top), area, k)
            for k, (area, row, col, top, left, bottom, right) in enumerate(stats, 1)]


def _grow(mask: np.ndarray, radius: int) -> np.ndarray:
    """Pixels within Chebyshev distance ``radius`` of ``mask``; rows, then columns."""
    for _ in range(2):
        grown = mask.copy()
        for d in range(1, radius + 1):
            grown[d:] |= mask[:-d]
            grown[:-d] |= mask[d:]
        mask = grown.T
    return mask


def match(pred: Any, gt: Any, protocol: str = "exact") -> Match:
    """Found targets and false-alarm pixels of one predicted mask against the true one, both [H, W].

    Protocols:

    * ``exact`` (BasicIRSTD, 2024): each true component in order takes the first unused prediction in order
      whose centroid is less than 3 px away; false alarms are the pixels of unmatched predictions. The
      distance is compared exactly (on integers), so the answer does not depend on where a target lies.
    * ``legacy`` (DNANet, 2022, bug compatible): same matching; a prediction is a false alarm only if its area
      differs from every matched area of the image.
    * ``overlap``: a component is hit by one predicted pixel; false alarms are predicted background pixels.
    * ``shooting`` (r1=1, r2=4): hit by a predicted pixel within Chebyshev distance 1; false alarms are
      predicted pixels farther than 4 from every true pixel.

    Raises ValueError for an unknown protocol, masks that are not 2-D or of two shapes.

    >>> gt = np.zeros((9, 9), bool); gt[2, 2] = True
    >>> match(np.roll(gt, 2, axis=1), gt).n_hit, match(np.roll(gt, 3, axis=1), gt).n_hit
    (1, 0)
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"match: protocol must be one of {', '.join(PROTOCOLS)}, got {protocol!r}")
    p, g = mask_pair(pred, gt, "match")
    size = {"pixels": g.size, "background_pixels": g.size - int(np.count_nonzero(g))}
    form = compute()
    if protocol in ("exact", "legacy"):
        p_stats, g_stats = form.regions(p), form.regions(g)
        pred_of_gt, exact, legacy = form.match(p_stats, g_stats)
        hit = pred_of_gt >= 0
        return Match(protocol, hit, exact if protocol == "exact" else legacy, **size, pred_of_gt=pred_of_gt,
                     fp_objects=len(p_stats) - int(np.count_nonzero(hit)), fa_pixels_exact=exact, fa_pixels_legacy=legacy)
    p, near = p != 0, g != 0
    labels, stats = form.label(g)
    reached = p
    if protocol == "shooting":
        reached, near = _grow(p, SHOOTING_HIT), _grow(near, SHOOTING_FREE)
    hit = np.zeros(len(stats) + 1, bool)
    hit[labels[reached]] = True
    return Match(protocol, hit[1:], int(np.count_nonzero(p & ~near)), **size)
