"""The files of an evaluation: result.json, images.csv, targets.jsonl, curve.csv, roc.csv and two plots."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from irstd_ext.targets import Curve
from python_models.files import write_json, write_text
from python_models.viz import plot_pd_fa, plot_roc

from .assessment import Assessment, probability
from .folder import RESULT

FORMAT = 1
CURVE = ("scorer", "threshold", "logit", "Pd", "Fa", "n_hit", "fa_pixels", "fp_objects", "tp", "fp")
ROC = ("scorer", "threshold", "logit", "tp", "fp", "FPR", "TPR")


def as_json(facts: Mapping[str, Any], found: Sequence[Assessment]) -> dict[str, Any]:
    """The content of result.json: ``facts`` about data and rules, then every scorer's figures."""
    scorers = {
        a.name: {"threshold": a.threshold, "figures": a.figures, "intervals": a.intervals, **a.breakdown, "auc": a.auc, "pd_at_fa": a.pd_at_fa,
                 "sweep": {k: np.asarray(v).tolist() for k, v in a.sweep.items()}, "curve_scores": a.curve_scores, "unlisted_false_alarms": a.unlisted,
                 "seconds_per_image": a.seconds_per_image}
        for a in found
    }
    return {"format": FORMAT, **facts, "scorers": scorers}


def write_results(folder: Path, result: Mapping[str, Any], found: Sequence[Assessment]) -> None:
    """Write everything but the plots into the existing ``folder``; result.json last."""
    rows = [row for a in found for row in a.rows]
    write_text(folder / "images.csv", _csv(list(rows[0]), (row.values() for row in rows)))
    write_text(folder / "targets.jsonl", "".join(json.dumps(one) + "\n" for a in found for one in a.objects))
    write_text(folder / "curve.csv", _csv(CURVE, (row for a in found for row in _curve_rows(a))))
    write_text(folder / "roc.csv", _csv(ROC, (row for a in found for row in _roc_rows(a))))
    write_json(folder / RESULT, result)


def draw_results(folder: Path, found: Sequence[Assessment]) -> None:
    """Draw pd_fa.png and roc.png. ImportError, with the command that helps, where matplotlib is missing."""
    circle = f"threshold {found[0].threshold:g}"
    lines = {a.name: (a.curve.fa, a.curve.pd) for a in found}
    plot_pd_fa(folder / "pd_fa.png", lines, {a.name: (a.curve.fa[a.point], a.curve.pd[a.point]) for a in found}, circle)
    rates = {a.name: roc(a.curve) for a in found}
    plot_roc(folder / "roc.png", rates, {name: (fpr[a.point], tpr[a.point]) for a, (name, (fpr, tpr)) in zip(found, rates.items())}, circle)


def roc(curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    """(FPR, TPR) of the pixels at the curve's thresholds; NaN without background, without target pixels."""
    tp, fp = curve.tp[-1], curve.fp[-1]  # at -inf everything is predicted
    return curve.fp / fp if fp else np.full(len(curve.fp), np.nan), curve.tp / tp if tp else np.full(len(curve.tp), np.nan)


def _curve_rows(a: Assessment) -> Iterable[Sequence[Any]]:
    c = a.curve
    return zip(*_head(a), c.pd.tolist(), c.fa.tolist(), c.n_hit.tolist(), c.fa_pixels.tolist(), c.fp_objects.tolist(), c.tp.tolist(), c.fp.tolist())


def _roc_rows(a: Assessment) -> Iterable[Sequence[Any]]:
    return zip(*_head(a), a.curve.tp.tolist(), a.curve.fp.tolist(), *(rate.tolist() for rate in roc(a.curve)))


def _head(a: Assessment) -> tuple[Sequence[Any], ...]:
    """Scorer, threshold on the probability and, where scores are logits, on the logit."""
    thresholds, points = a.curve.thr, len(a.curve.thr)
    return [a.name] * points, probability(thresholds, a.input).tolist(), thresholds.tolist() if a.input == "logits" else [None] * points


def _csv(columns: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(["" if v is None or isinstance(v, float) and math.isnan(v) else v for v in row] for row in rows)
    return text.getvalue()
