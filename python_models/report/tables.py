"""Values as table cells: percent, 1e-6 and plain numbers beside the exact value, which the page keeps for machines."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .read import Bin, Evaluation, Run, Scores

DASH = "–"  # undefined or not given
PIXELS = ("IoU", "nIoU", "F1", "precision", "recall")


@dataclass(frozen=True)
class Cell:
    """What a cell shows, the exact value behind it, an interval or count below it, the colour of a bar of this value, and a mark."""

    text: str
    value: float | None = None
    below: str = ""
    bar: int | None = None
    changed: bool = False


@dataclass(frozen=True)
class Row:
    """The cells after the heads of a row; ``series`` is the colour of its curves, ``differs`` says that its cells do."""

    heads: tuple[str, ...]
    cells: tuple[Cell, ...]
    series: int | None = None
    differs: bool = False


@dataclass(frozen=True)
class Table:
    """A table with caption, names of the columns (those of the row heads first) and rows."""

    caption: str
    heads: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[Row, ...] = field(default_factory=tuple)


@dataclass(frozen=True)
class Series:
    """A scorer under the name and colour it has in this page; ``own``: it is the network of ``run``."""

    label: str
    colour: int
    scores: Scores
    own: bool
    evaluation: Evaluation
    run: str


def percent(value: float | None, below: str = "") -> Cell:
    """A share in percent."""
    return Cell(DASH if value is None else f"{100 * value:.2f}", value, below)


def millionths(value: float | None, below: str = "") -> Cell:
    """A rate in 1e-6."""
    return Cell(DASH if value is None else f"{1e6 * value:.2f}", value, below)


def plain(value: float | None, digits: int = 2) -> Cell:
    """A number with ``digits`` decimals."""
    return Cell(DASH if value is None else f"{value:.{digits}f}", value)


def with_interval(form: Callable[..., Cell], scores: Scores, protocol: str, name: str) -> Cell:
    value, (low, high) = scores.figures[protocol].get(name), scores.intervals.get(protocol, {}).get(name, (None, None))
    return form(value, "" if None in (value, low, high) else f"{form(low).text} – {form(high).text}")


def _spread(form: Callable[..., Cell], values: Sequence[float | None]) -> Cell:
    """Mean and standard deviation (with n - 1)."""
    known = [v for v in values if v is not None]
    if len(known) < 2 or len(known) < len(values):
        return Cell(DASH)
    return form(statistics.fmean(known), f"± {form(statistics.stdev(known)).text}")


def pixel_table(series: Sequence[Series], repeated: bool = False) -> Table:
    """IoU, nIoU, F1, precision, recall and AUC; one row per scorer, or per protocols that judge other pixels.

    ``repeated``: the networks differ in their seeds alone, and their mean and deviation follow.
    """
    rows = []
    for s in series:
        groups: dict[tuple[Any, ...], list[str]] = {}
        for protocol, figures in s.scores.figures.items():
            groups.setdefault(tuple(figures.get(name) for name in PIXELS), []).append(protocol)
        for protocols in groups.values():
            label = s.label if len(groups) == 1 else f"{s.label} ({', '.join(protocols)})"
            cells = [with_interval(percent, s.scores, protocols[0], name) for name in PIXELS]
            rows.append(Row((label,), (*cells, percent(s.scores.auc)), s.colour))
    own = [s.scores for s in series if s.own and s.scores.figures]
    if repeated and len(own) > 1:
        values = [[next(iter(s.figures.values())).get(name) for s in own] for name in PIXELS]
        rows.append(Row((f"mean ± s.d., {len(own)} seeds",), tuple(_spread(percent, v) for v in [*values, [s.auc for s in own]])))
    return Table("Pixels, %", ("",), (*PIXELS, "AUC"), tuple(rows))


def target_table(series: Sequence[Series], repeated: bool = False) -> Table:
    """Pd, Fa and false objects per image by protocol; ``repeated`` as in :func:`pixel_table`."""
    protocols = list(dict.fromkeys(p for s in series for p in s.scores.figures))
    rows = []
    for protocol in protocols:
        for s in series:
            f = s.scores.figures.get(protocol)
            if f is None:
                continue
            hits = Cell(DASH) if f.get("n_hit") is None or f.get("n_gt") is None else Cell(f"{f['n_hit']:g} of {f['n_gt']:g}", f["n_hit"])
            pd, fa = with_interval(percent, s.scores, protocol, "Pd"), with_interval(millionths, s.scores, protocol, "Fa")
            rows.append(Row((protocol, s.label), (pd, hits, fa, plain(f.get("Fa_objects_per_image"), 3)), s.colour))
        own = [s.scores.figures[protocol] for s in series if s.own and protocol in s.scores.figures]
        if repeated and len(own) > 1:
            pd, fa = _spread(percent, [f.get("Pd") for f in own]), _spread(millionths, [f.get("Fa") for f in own])
            rows.append(Row((protocol, f"mean ± s.d., {len(own)} seeds"), (pd, Cell(""), fa, Cell(""))))
    return Table("Targets, by protocol", ("protocol", ""), ("Pd %", "targets found", "Fa 10⁻⁶", "false objects per image"), tuple(rows))


def budget_table(series: Sequence[Series]) -> Table | None:
    """Highest Pd at no more than a given Fa."""
    budgets = sorted({k for s in series for k in s.scores.pd_at_fa}, key=_as_float)
    rows = tuple(Row((s.label,), tuple(percent(s.scores.pd_at_fa.get(b)) for b in budgets), s.colour) for s in series if s.scores.pd_at_fa)
    return Table("Highest Pd, %, with Fa no more than (10⁻⁶)", ("",), tuple(f"{1e6 * _as_float(b):g}" for b in budgets), rows) if rows else None


def bin_table(series: Sequence[Series], caption: str, unit: str, name: Callable[[float | None, float | None], str],
              bins: Callable[[Scores], tuple[Bin, ...]]) -> Table | None:
    """Pd of the targets in each range of a property; ``name`` words a range."""
    shown = [s for s in series if bins(s.scores)]
    ranges = list(dict.fromkeys((b.low, b.high) for s in shown for b in bins(s.scores)))
    rows = []
    for low, high in ranges:
        found = {s.label: b for s in shown for b in bins(s.scores) if (b.low, b.high) == (low, high) and b.n_gt}
        cells = [_share(found.get(s.label), s.colour) for s in shown]
        rows.append(Row((name(low, high),), tuple(cells)))
    return Table(caption, (unit,), tuple(s.label for s in shown), tuple(rows)) if rows else None


def _share(b: Bin | None, colour: int) -> Cell:
    return Cell("no target") if b is None else Cell(f"{100 * b.n_hit / b.n_gt:.1f}", b.n_hit / b.n_gt, f"{b.n_hit} of {b.n_gt}", colour)


def speed_table(runs: Sequence[Run]) -> Table:
    """Training seconds per epoch (median) and in all, with what decides them."""
    import numpy as np

    rows = []
    for i, run in enumerate(runs):
        seconds, train = run.log.get("seconds", np.zeros(0)), run.config.get("train", {})
        known = seconds[np.isfinite(seconds)]
        total = run.training.get("seconds", float(known.sum())) if len(known) else None
        cells = (plain(float(np.median(known)) if len(known) else None, 1), Cell(str(len(seconds))), plain(None if total is None else total / 60, 1),
                 *(Cell(_text(train[k]) if train.get(k) is not None else DASH) for k in ("batch_size", "precision", "device", "threads")))
        rows.append(Row((run.name,), cells, i))
    return Table("Training", ("",), ("s per epoch, median", "epochs", "minutes in all", "batch", "precision", "device", "threads"), tuple(rows))


def inference_table(groups: Sequence[tuple[str, Sequence[Series]]]) -> Table | None:
    """Milliseconds per image of every evaluation that timed itself."""
    rows = []
    for name, series in groups:
        for s in series:
            if s.scores.seconds_per_image is not None:
                how = (Cell(str(s.evaluation.facts.get(k, DASH))) for k in ("device", "threads"))
                rows.append(Row((name, s.label), (plain(1000 * s.scores.seconds_per_image, 1), *how), s.colour))
    return Table("Evaluation", ("data", ""), ("ms per image, median", "device", "threads"), tuple(rows)) if rows else None


def config_tables(runs: Sequence[Run]) -> list[Table]:
    """Resolved values of network and training, a mark at those that are not the default, which stands beside them."""
    from python_models.training.config import TrainConfig

    train = {f.name: _plain_json(f.default) for f in dataclasses.fields(TrainConfig) if f.default is not dataclasses.MISSING}
    identity = ("model", "data", "split", "out", "preset")  # what the run is, not how it was tuned
    named = {k: v for k, v in train.items() if k not in identity}
    model = preset_options(runs[0]) if len({(r.network, str(r.config["model"].get("preset"))) for r in runs}) == 1 else {}
    return [_config_table("Network", [r.config["model"].get("options", {}) for r in runs], model, runs),
            _config_table("Training", [r.config.get("train", {}) for r in runs], named, runs)]


def _config_table(caption: str, values: Sequence[Any], defaults: Mapping[str, Any], runs: Sequence[Run]) -> Table:
    keys = list(dict.fromkeys(k for v in values if isinstance(v, Mapping) for k in v))
    rows = []
    for key in keys:
        cells = [Cell(_text(v.get(key)), changed=key in defaults and v.get(key) != defaults[key]) for v in values]
        default = f"default {_text(defaults[key])}" if any(c.changed for c in cells) else ""
        rows.append(Row((key,), (*cells, Cell(default)), differs=len({c.text for c in cells}) > 1))
    return Table(caption, ("option",), (*((r.name for r in runs) if len(runs) > 1 else ("value",)), ""), tuple(rows))


def preset_options(run: Run) -> dict[str, Any]:
    """Options of the run's preset as it is shipped; empty for a network that is not known here."""
    net = build_empty(run.network, run.config["model"].get("preset"), {})
    return {} if net is None else {k: _plain_json(v) for k, v in net.options.items()}


def build_empty(name: str, preset: Any, options: Mapping[str, Any]) -> Any:
    """The network without values in its weights, None where it cannot be built here."""
    import torch

    from python_models import build_model

    try:
        with torch.device("meta"):
            return build_model(name, preset, "reference", **options)
    except Exception:  # the network of another version may refuse its options in any way; the page stands without its size
        return None


def _plain_json(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


def _as_float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"report: pd_at_fa must have numbers as names, got {text[:60]!r}") from None


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    if isinstance(value, list):
        return ", ".join(_text(v) for v in value) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
