"""Targets of binary masks: labelling, regions, matching and the exact Pd-Fa curve.

Masks are 2-D ``[H, W]`` NumPy arrays or torch tensors (any device), boolean or numeric, non-zero =
foreground; a float mask may hold 0 and 1 only, so that a score map is never taken for a mask.
Components are 8-connected and numbered by the raster order of their first pixel. Counts are exact
integers. The compiled module ``irstd_ext._targets`` does the work with the GIL released; where it is
absent a NumPy form gives the same results and says so in one warning.
"""
from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass
from typing import Any, Sequence

import numpy as np
import torch

__all__ = ["Curve", "Match", "Region", "PROTOCOLS", "as_array", "backend", "curve", "label", "match", "regions"]

PROTOCOLS = ("exact", "legacy", "overlap", "shooting")
SHOOTING_HIT, SHOOTING_FREE = 1, 4  # Chebyshev radii r1, r2 of the protocol "shooting"

try:
    _form: Any = importlib.import_module("irstd_ext._targets")
except ImportError as error:
    _form = importlib.import_module("irstd_ext._targets_numpy")
    _missing: str | None = str(error)
else:
    _missing = None
_warned = False


def backend() -> str:
    """``"native"`` where the compiled module is in use, else ``"numpy"``."""
    return "native" if _missing is None else "numpy"


def _compute() -> Any:
    global _warned
    if _missing is not None and not _warned:
        _warned = True
        warnings.warn(f"irstd_ext.targets: compiled module not loaded ({_missing}); using the slower NumPy form",
                      RuntimeWarning, stacklevel=3)
    return _form


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


def as_array(x: Any) -> np.ndarray:
    """NumPy view or copy of an array or of a torch tensor of any device and dtype (bfloat16 as float32)."""
    if isinstance(x, torch.Tensor):
        x = x.detach().cpu()
        return (x.float() if x.dtype == torch.bfloat16 else x).numpy()
    return np.asarray(x)


def _plane(x: Any, op: str, name: str) -> np.ndarray:
    x = as_array(x)
    if x.ndim != 2:
        raise ValueError(f"{op}: {name} must be 2-D [H, W], got {x.ndim}-D")
    if x.dtype.kind not in "buif":
        raise ValueError(f"{op}: {name} must be boolean, integer or float, got {x.dtype}")
    return x


def _mask(x: Any, op: str, name: str) -> np.ndarray:
    """Contiguous uint8 form of a mask, a view where it can be."""
    x = _plane(x, op, name)
    if x.size >= 2**31:
        raise ValueError(f"{op}: {name} must have fewer than 2^31 pixels, got {x.shape[0]} x {x.shape[1]}")
    if x.dtype.kind == "f":
        wrong = x[(x != 0) & (x != 1)]
        if wrong.size:
            raise ValueError(f"{op}: {name} must hold only 0 and 1 where it is float, got {wrong[0]:g}; threshold it first")
    if x.dtype != np.uint8:
        x = (x if x.dtype == bool else x != 0).view(np.uint8)
    return np.ascontiguousarray(x)


def _pair(pred: Any, gt: Any, op: str, names: tuple[str, str], score: bool = False) -> tuple[np.ndarray, np.ndarray]:
    first = _plane(pred, op, names[0]) if score else _mask(pred, op, names[0])
    second = _mask(gt, op, names[1])
    if first.shape != second.shape:
        raise ValueError(f"{op}: {names[0]} and {names[1]} must have one shape, got {first.shape} and {second.shape}")
    return first, second


def label(mask: Any) -> tuple[np.ndarray, int]:
    """8-connected components of ``mask`` [H, W]: (labels int32 [H, W], 0 = background, and their number).

    Raises ValueError for anything but a 2-D mask of fewer than 2^31 pixels.

    >>> label(np.eye(3, dtype=bool))[1]
    1
    """
    labels, stats = _compute().label(_mask(mask, "label", "mask"))
    return labels, len(stats)


def regions(mask: Any) -> list[Region]:
    """The components of ``mask`` [H, W] with centroid, box and area, in the order of :func:`label`.

    The centroid is the mean (row, col) of the pixels, in float64.

    >>> mask = np.zeros((5, 6), bool); mask[1:3, 2:5] = True
    >>> regions(mask)
    [Region(row=1.5, col=3.0, box=(2, 1, 3, 2), area=6, label=1)]
    """
    stats = _compute().regions(_mask(mask, "regions", "mask")).tolist()
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
    p, g = _pair(pred, gt, "match", ("pred", "gt"))
    size = {"pixels": g.size, "background_pixels": g.size - int(np.count_nonzero(g))}
    form = _compute()
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


def curve(score: Any, gt: Any) -> Curve:
    """Exact Pd-Fa curve of one image or of a set (two lists of images, whose sizes may differ).

    ``score`` [H, W] is finite, on any scale, compared in float64; ``gt`` [H, W] is a mask. Every distinct score
    of the set is a threshold, then -inf; each image is labelled and matched anew wherever it changes.
    Raises ValueError for non-finite scores, shapes that differ, lists of two lengths or no image.

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
    images = []
    for s, g in zip(scores, masks):
        s, g = _pair(s, g, "curve", ("score", "gt"), score=True)
        if not np.isfinite(s).all():
            raise ValueError(f"curve: score must be finite, got {s[~np.isfinite(s)][0]}")
        images.append((s.astype(np.float64), g))
    levels = [np.unique(s)[::-1] for s, _ in images]
    thr = np.append(np.unique(np.concatenate(levels))[::-1] + 0.0, -np.inf)  # + 0.0: no negative zero
    totals = np.zeros((5, len(thr)), np.int64)
    n_gt = gt_pixels = 0
    for (s, g), own in zip(images, levels):
        truth = _compute().regions(g)
        states = np.array([_judge(s >= low, g, truth) for low in own], np.int64).reshape(-1, 5)
        states = np.concatenate([np.zeros((1, 5), np.int64), states])  # state k: the k highest levels are foreground
        totals += states[np.searchsorted(-own, -thr, side="left")].T
        n_gt, gt_pixels = n_gt + len(truth), gt_pixels + int(np.count_nonzero(g))
    return Curve(thr, *totals, n_gt, gt_pixels, sum(g.size for _, g in images), len(images))


def _judge(mask: np.ndarray, gt: np.ndarray, truth: np.ndarray) -> tuple[int, int, int, int, int]:
    stats = _compute().regions(mask.view(np.uint8))
    pred_of_gt, fa_pixels, _ = _compute().match(stats, truth)
    n_hit = int(np.count_nonzero(pred_of_gt >= 0))
    tp = int(np.count_nonzero(mask & (gt != 0)))
    return n_hit, fa_pixels, len(stats) - n_hit, tp, int(np.count_nonzero(mask)) - tp
