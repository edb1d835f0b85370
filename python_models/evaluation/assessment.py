"""Everything an evaluation says about a scorer, from one pass over the images."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from irstd_ext import targets
from python_models.metrics import Breakdown, CoarseSweep, PixelAUC, ProtocolMetrics, target_scr
from python_models.metrics.inputs import cut
from python_models.metrics.protocols import MAX_SAMPLES

from .judge import MaskResize, Sample, at_size, check_finite
from .spool import EXACT_SCORES, Spool, coarsen

LISTED = 200  # false alarms of an image in targets.jsonl: noise that is all detections must not fill memory
BUDGETS = (1e-6, 5e-6, 1e-5, 5e-5, 1e-4, 1e-3)
INTERVALS = ("IoU", "nIoU", "nIoU_zero", "nIoU_skip", "F1", "precision", "recall", "Pd", "Fa", "Fa_objects_per_image")
LARGEST = 8192  # px, side of the judged square; scores of a larger one would not fit the memory of most machines
Input = Literal["logits", "scores"]


@dataclass(frozen=True)
class Rules:
    """How figures are taken: everything they depend on beside the images, the masks and the scores.

    ``threshold`` in (0, 1), strict, on the probability; ``eval_size`` and ``mask_resize`` as in :func:`.judge.at_size`;
    ``empty``, ``fixed_pixels``, ``maxnorm`` as in :class:`python_models.metrics.ProtocolMetrics`; ``gt_rule`` is recorded: the
    samples bring masks that are binary by it. ``bootstrap`` samples, at most a million, of the images drawn with ``seed`` for
    95 % intervals, 0 for none. ValueError, one line, for anything else.
    """

    protocols: tuple[str, ...] = targets.PROTOCOLS
    threshold: float = 0.5
    eval_size: int | None = None
    mask_resize: MaskResize = "nearest"
    empty: Literal["zero", "skip"] = "zero"
    fixed_pixels: int | None = None
    maxnorm: bool = False
    gt_rule: Literal["half", "full", "nonzero"] = "half"
    bootstrap: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.protocols or not set(self.protocols) <= set(targets.PROTOCOLS):
            raise ValueError(f"eval: protocol must be among {', '.join(targets.PROTOCOLS)}, got {', '.join(self.protocols) or 'none'}")
        if not 0 < self.threshold < 1:
            raise ValueError(f"eval: threshold must lie in (0, 1), got {self.threshold}")
        for name, low in (("eval_size", 1), ("fixed_pixels", 1), ("bootstrap", 0), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and value < low:
                raise ValueError(f"eval: {name} must be >= {low}, got {value}")
        for name, high in (("bootstrap", MAX_SAMPLES), ("eval_size", LARGEST)):
            if (getattr(self, name) or 0) > high:
                raise ValueError(f"eval: {name} must be <= {high}, got {getattr(self, name)}")


@dataclass(frozen=True)
class Source:
    """Where scores come from: ``scores(sample, image)`` gives (H, W) for the image (1, H, W) as it is judged.

    ``threshold``: its own, where it has one. ``timed``: whether the seconds of the call mean anything.
    """

    name: str
    scores: Callable[[Sample, Tensor], Tensor | np.ndarray]
    input: Input = "logits"
    threshold: float | None = None
    timed: bool = True


@dataclass(frozen=True)
class Assessment:
    """What :func:`assess` found, by the names of result.json; ``rows`` are images, ``objects`` true targets and false
    alarms; ``unlisted`` more false alarms are counted but not among them."""

    name: str
    input: Input
    threshold: float
    figures: dict[str, dict[str, Any]]
    intervals: dict[str, dict[str, tuple[float, float]]]
    breakdown: dict[str, list[dict[str, Any]]]
    sweep: dict[str, Any]
    auc: float
    curve: targets.Curve
    curve_scores: Literal["exact", "rounded"]
    rows: list[dict[str, Any]]
    objects: list[dict[str, Any]]
    unlisted: int
    seconds_per_image: float | None

    @property
    def point(self) -> int:
        """Index of the curve's point at ``threshold``, which has the headline counts."""
        return self.curve.at(cut(self.input, self.threshold))

    @property
    def pd_at_fa(self) -> dict[str, float]:
        """Highest Pd of the curve at each budget of Fa."""
        return {f"{b:g}": float(self.curve.pd_at_fa(b)) for b in BUDGETS}


def assess(source: Source, dataset: Iterable[Sample], rules: Rules = Rules()) -> Assessment:
    """Judge ``source`` on samples with ``image``, ``mask`` (1, H, W), ``name`` and ``path``.

    Curve, ROC and AUC are exact in their own sense whatever the size of the set: its scores wait in a temporary file, and
    where they take more distinct values than :data:`.spool.EXACT_SCORES` the curve has the thresholds of :func:`.spool.coarsen`.
    ValueError, one line, for scores that are not finite, naming the image.

    >>> mask = torch.zeros(1, 16, 16); mask[0, 4:6, 4:6] = 1
    >>> found = assess(Source("net", lambda sample, image: 4 * image[0] - 2), [{"image": mask, "mask": mask, "name": "a", "path": "a.png"}])
    >>> found.figures["legacy"]["IoU"], found.auc, found.pd_at_fa["1e-06"], found.objects[0]["kind"]
    (1.0, 1.0, 1.0, 'hit')
    """
    threshold = rules.threshold if source.threshold is None else source.threshold
    given: Input = "scores" if rules.maxnorm else source.input
    limit = cut(given, threshold)
    metrics = ProtocolMetrics(input=given, threshold=threshold, fixed_pixels=rules.fixed_pixels, maxnorm=rules.maxnorm, empty=rules.empty,
                              gt_rule=rules.gt_rule)
    breakdown, sweep, spool = Breakdown(), CoarseSweep(given), Spool(EXACT_SCORES)
    images: list[dict[str, Any]] = []
    objects: list[dict[str, Any]] = []
    positives: list[np.ndarray] = [np.empty(0)]
    seconds: list[float] = []
    unlisted = 0
    for sample in dataset:
        image, mask = at_size(sample, rules.eval_size, rules.mask_resize)
        began = time.perf_counter()
        found = source.scores(sample, image)
        seconds.append(time.perf_counter() - began)
        check_finite(found, sample)
        score = _over_own_maximum(found, source.input) if rules.maxnorm else targets.as_array(found)
        gt = mask[0].numpy() > 0.5
        who = {"name": sample["name"], "path": os.path.abspath(sample["path"])}
        metrics.update(score, gt)
        sweep.update(score, gt)
        spool.add(score, gt)
        positives.append(score[gt].astype(np.float64))
        images.append({"scorer": source.name, **who, "height": gt.shape[0], "width": gt.shape[1]})
        own, beyond = _objects(score, gt, image[0].numpy(), limit, given, breakdown)
        objects += [{"scorer": source.name, "image": who["name"], "path": who["path"], **one} for one in own]
        unlisted += beyond
    auc = PixelAUC(np.concatenate(positives))
    exact = spool.distinct is not None
    builder = targets.CurveBuilder()
    for score, gt in spool:
        auc.update(score, gt)
        builder.add(score if exact else coarsen(score, given, limit), gt)
    figures = {p: metrics.compute(p) for p in rules.protocols}
    fields = {p: [f for f in INTERVALS if f in figures[p]] for p in rules.protocols}
    intervals = {p: metrics.bootstrap(p, fields[p], rules.bootstrap, rules.seed) for p in rules.protocols} if rules.bootstrap else {}
    return Assessment(
        source.name, given, threshold, figures, intervals, breakdown.compute(), sweep.compute(), auc.compute(), _with_pixels(builder.result(), rules),
        "exact" if exact else "rounded", [_row(who, counts) for who, counts in zip(images, metrics.rows())], objects, unlisted,
        float(np.median(seconds)) if source.timed and seconds else None,
    )


def probability(value: float | np.ndarray, input: Input) -> Any:
    """A score on the scale of ``threshold``: itself, or the sigmoid of a logit; -inf, the curve's last point, stays.

    >>> probability(np.array([0.0, -np.inf]), "logits").tolist()
    [0.5, -inf]
    """
    if input == "scores":
        return value
    value = np.asarray(value, np.float64)
    return np.where(np.isneginf(value), value, torch.sigmoid(torch.from_numpy(np.atleast_1d(value))).numpy().reshape(value.shape))


def _objects(score: np.ndarray, gt: np.ndarray, image: np.ndarray, limit: float, input: Input, breakdown: Breakdown) -> tuple[list[dict[str, Any]], int]:
    """True targets, found or missed, then false alarms, by protocol ``exact``, and how many false alarms are left out.

    ``score`` is the highest probability in the matched prediction, in the missed target's own pixels, or in the false alarm.
    Left out are those beyond the :data:`LISTED` highest of the image. The targets are also counted in ``breakdown``.
    """
    pred = score.astype(np.float64) > limit
    true, predicted, match = targets.regions(gt), targets.regions(pred), targets.match(pred, gt, "exact")
    peaks, own_peaks = _peaks(score, pred, input), _peaks(score, gt, input)
    scr = [target_scr(image, gt, r) for r in true]
    breakdown.add(match, true, scr)

    def entry(kind: str, region: targets.Region, peak: float) -> dict[str, Any]:
        return {"kind": kind, "row": region.row, "col": region.col, "box": [int(v) for v in region.box], "area": int(region.area), "score": float(peak)}

    found = []
    for region, ratio, k, own in zip(true, scr, match.pred_of_gt.tolist(), own_peaks):
        one = entry("miss", region, own) if k < 0 else entry("hit", region, peaks[k])
        one["scr"] = ratio if math.isfinite(ratio) else None
        if k >= 0:
            one["found_box"] = [int(v) for v in predicted[k].box]
        found.append(one)
    false = np.setdiff1d(np.arange(len(predicted)), match.pred_of_gt)
    listed = np.sort(false[np.argsort(-peaks[false], kind="stable")[:LISTED]])
    return found + [entry("false_alarm", predicted[k], peaks[k]) for k in listed], len(false) - len(listed)


def _peaks(score: np.ndarray, mask: np.ndarray, input: Input) -> np.ndarray:
    """Highest probability of each component of ``mask``."""
    labels, count = targets.label(mask)
    inside = labels[mask]
    order = np.argsort(inside, kind="stable")
    starts = np.searchsorted(inside[order], np.arange(1, count + 1))
    return probability(np.maximum.reduceat(score[mask][order], starts).astype(np.float64) if count else np.empty(0), input)


def _over_own_maximum(score: Tensor | np.ndarray, input: Input) -> np.ndarray:
    values = torch.as_tensor(score).double()
    values = values.sigmoid() if input == "logits" else values
    peak = values.max()
    return (values / peak if peak > 0 else values).numpy()


def _with_pixels(curve: targets.Curve, rules: Rules) -> targets.Curve:
    """The curve with the pixels that the headline Fa is divided by."""
    return replace(curve, pixels=curve.n_images * rules.fixed_pixels) if rules.fixed_pixels else curve


ROW = ("TP", "FP", "FN", "n_gt", "n_hit", "n_fp_objects", "fa_pixels", "fa_pixels_legacy", "overlap_n_hit", "overlap_fa_pixels", "overlap_background_pixels",
       "shooting_n_hit", "shooting_fa_pixels")


def _row(who: dict[str, Any], counts: np.void) -> dict[str, Any]:
    row = {k: int(counts["fa_pixels_exact" if k == "fa_pixels" else k]) for k in ROW}
    union = row["TP"] + row["FP"] + row["FN"]
    return {**who, **{k: row[k] for k in ("TP", "FP", "FN")}, "IoU": row["TP"] / union if union else math.nan, **{k: row[k] for k in ROW[3:]}}
