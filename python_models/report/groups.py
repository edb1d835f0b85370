"""Evaluations that may be compared, and what the page shows of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

from . import plots, tables
from .gallery import Gallery, galleries
from .plots import Line
from .read import Evaluation, Run, Scores
from .tables import Cell, Series, Table

# Evaluations with equal values of these stand in one table; others are not comparable.
SAME = ("split", "part", "split_hash", "images", "eval_size", "mask_resize", "threshold", "masks", "mask_mismatch", "gt_rule", "full_scale", "empty",
        "fixed_pixels", "maxnorm")
PER_SEED = ("seed", "seeds", "out", "resume", "overwrite", "progress", "threads", "workers")  # what may differ between the seeds of one training
FACTS = {
    "images": "images", "split_hash": "list hash", "eval_size": "size", "threshold": "threshold", "weights": "weights", "masks": "masks",
    "gt_rule": "ground truth", "mask_resize": "mask resize", "mask_mismatch": "mask mismatch", "full_scale": "full scale", "empty": "empty images",
    "fixed_pixels": "pixels per image", "maxnorm": "divided by maximum", "predictions": "predictions",
    "tophat": "top-hat", "bootstrap": "intervals", "commit": "commit", "part_note": "note", "notes": "notes",
}


@dataclass(frozen=True)
class Plot:
    """A drawing with its title and what must be known to read it."""

    title: str
    svg: Markup
    note: str = ""


@dataclass(frozen=True)
class Group:
    """Comparable evaluations: title, facts they share, scorers, and what is shown of them."""

    title: str
    facts: tuple[tuple[str, str], ...]
    series: tuple[Series, ...]
    headline: tuple[tuple[str, Cell, str], ...]
    headline_of: str
    metrics: tuple[Table, ...]
    plots: tuple[Plot, ...]
    breakdown: tuple[Table, ...]
    galleries: tuple[tuple[str, tuple[Gallery, ...]], ...]


def data_name(root: Any) -> str:
    """The last folder of a data set's path."""
    return Path(str(root)).name or "–"


def make_groups(runs: Sequence[Run], gallery: int) -> list[Group]:
    """Groups of the evaluations of ``runs``, those on a run's own test list first; ``gallery`` crops of each kind and run."""
    found: dict[tuple[str, ...], list[tuple[int, Evaluation]]] = {}
    for i, run in enumerate(runs):
        for evaluation in sorted(run.evaluations, key=lambda e: (not _at_home(run, e), e.folder.name)):
            key = (data_name(evaluation.facts.get("data")), *(str(evaluation.facts.get(name)) for name in SAME))
            found.setdefault(key, []).append((i, evaluation))
    return [_group(f"evaluation-{n}", runs, members, gallery) for n, members in enumerate(found.values())]


def _at_home(run: Run, evaluation: Evaluation) -> bool:
    home, facts = run.config.get("data", {}), evaluation.facts
    return (data_name(facts.get("data")), facts.get("split"), facts.get("part")) == (data_name(home.get("root")), home.get("split"), "test")


def repeats(runs: Sequence[Run]) -> bool:
    """Whether the runs differ in their seeds alone, so that their spread means something."""
    def settings(run: Run) -> list[Any]:
        return [run.config["model"], run.config.get("data"), {k: v for k, v in run.config.get("train", {}).items() if k not in PER_SEED}]

    seeds = [str(run.config.get("train", {}).get("seed")) for run in runs]
    return len(runs) > 1 and len(set(seeds)) == len(runs) and all(settings(run) == settings(runs[0]) for run in runs)


def _group(key: str, runs: Sequence[Run], members: Sequence[tuple[int, Evaluation]], gallery: int) -> Group:
    series, facts = _series(runs, members), members[0][1].facts
    networks = [s for s in series if s.own] or series[:1]
    metrics = (tables.pixel_table(series, repeats(runs)), tables.target_table(series, repeats(runs)), tables.budget_table(series))
    sizes = tables.bin_table(series, "Targets found by size, %", "area, px", _area, lambda s: s.by_size)
    ratios = tables.bin_table(series, "Targets found by SCR, %", "SCR", _scr, lambda s: s.by_scr)
    shown = tuple((s.label, tuple(galleries(s.evaluation, s.scores.name, gallery))) for s in networks) if gallery else ()
    return Group(
        f"{data_name(facts.get('data'))} {facts.get('split')} {facts.get('part')}", _facts([e for _, e in members], series), tuple(series),
        *_headline(networks[0]) if len(networks) == 1 else ((), ""), tuple(t for t in metrics if t), tuple(_plots(key, series)),
        tuple(t for t in (sizes, ratios) if t), shown,
    )


def _series(runs: Sequence[Run], members: Sequence[tuple[int, Evaluation]]) -> list[Series]:
    """Networks in the colours of their runs, then the other scorers; one that several runs share is shown once."""
    own: list[Series] = []
    others: list[Series] = []
    for i, evaluation in members:
        for scores in evaluation.scorers:
            if scores.name == runs[i].network:
                colour = i if i not in [s.colour for s in own] else len(runs) + len(own)
                own.append(Series(runs[i].name if len(runs) > 1 else scores.name, colour, scores, True, evaluation, runs[i].name))
            elif not any(_same(s.scores, scores) for s in others):
                others.append(Series(scores.name, 0, scores, False, evaluation, runs[i].name))
    free = iter(c for c in range(len(runs) + len(own) + len(others)) if c not in [s.colour for s in own])
    series = own + [replace(s, colour=next(free)) for s in others]
    return _distinct(_distinct(series, lambda s: s.run if len(runs) > 1 and not s.own else ""), lambda s: s.evaluation.folder.name)


def _distinct(series: list[Series], more: Callable[[Series], str]) -> list[Series]:
    """``more`` added to the labels that repeat."""
    labels = [s.label for s in series]
    return [replace(s, label=f"{s.label} ({more(s)})") if labels.count(s.label) > 1 and more(s) else s for s in series]


def _same(a: Scores, b: Scores) -> bool:
    return (a.name, a.figures, a.pd_at_fa) == (b.name, b.figures, b.pd_at_fa)


def _facts(evaluations: Sequence[Evaluation], series: Sequence[Series]) -> tuple[tuple[str, str], ...]:
    """Names and values; a value that not all evaluations have says whose it is."""
    facts = []
    for name, label in FACTS.items():
        values: dict[str, list[str]] = {}
        for e in evaluations:
            if e.facts.get(name) not in (None, False, []):
                values.setdefault(_fact(e.facts[name]), []).append(_judged(e, series))
        shared = len(values) == 1 and (name == "tophat" or len(next(iter(values.values()))) == len(evaluations))
        if values:
            facts.append((label, "; ".join(text if shared else f"{text} ({', '.join(of)})" for text, of in values.items())))
    return tuple(facts)


def _judged(evaluation: Evaluation, series: Sequence[Series]) -> str:
    """The label of what an evaluation judged, beside the filter that it may be compared with."""
    labels = [s.label for s in series if s.evaluation is evaluation and s.scores.name != "top-hat"]
    return ", ".join(labels) or evaluation.folder.name


def _fact(value: Any) -> str:
    if isinstance(value, list):
        return "; ".join(map(str, value))
    if not isinstance(value, Mapping):
        return str(value)
    if value.keys() == {"samples", "seed", "level"}:
        return f"bootstrap over the images, {value['samples']} samples, seed {value['seed']}, level {value['level']}"
    return ", ".join(f"{k} {v}" for k, v in value.items())


def _headline(series: Series) -> tuple[tuple[tuple[str, Cell, str], ...], str]:
    """The four figures of the field, by the protocol ``exact`` where it was judged, and whose they are by which protocol."""
    scores = series.scores
    protocol = "exact" if "exact" in scores.figures else next(iter(scores.figures), None)
    forms = (("IoU", tables.percent, "%"), ("nIoU", tables.percent, "%"), ("Pd", tables.percent, "%"), ("Fa", tables.millionths, "× 10⁻⁶"))
    if protocol is None:
        return (), ""
    return tuple((name, tables.with_interval(form, scores, protocol, name), unit) for name, form, unit in forms), f"{series.label}, protocol {protocol}"


def _plots(key: str, series: Sequence[Series]) -> list[Plot]:
    curves, rocs = [], []
    for s in series:
        curve, roc = s.evaluation.curve.get(s.scores.name, {}), s.evaluation.roc.get(s.scores.name, {})
        if "Fa" in curve and "Pd" in curve:
            fa, pd = (s.scores.figures.get("exact", {}).get(name) for name in ("Fa", "Pd"))
            curves.append(Line(s.colour, curve["Fa"], curve["Pd"], None if fa is None or pd is None else (fa, pd)))
        if "FPR" in roc and "TPR" in roc:
            rocs.append(Line(s.colour, roc["FPR"], roc["TPR"]))
    threshold = ", ".join(dict.fromkeys(f"{s.scores.threshold:g}" for s in series if s.scores.threshold is not None))
    note = f"circle: threshold {threshold}; 0 drawn at 10⁻⁷"
    return [*([Plot("Pd over Fa, protocol exact", plots.pd_fa(f"{key}-pd-fa", curves), note)] if curves else []),
            *([Plot("ROC of the pixels", plots.roc(f"{key}-roc", rocs), "0 drawn at 10⁻⁷")] if rocs else [])]


def _area(low: float | None, high: float | None) -> str:
    return f"≥ {low or 0:g}" if high is None else f"{low or 0:g} – {high:g}"


def _scr(low: float | None, high: float | None) -> str:
    if high is None:
        return "undefined" if low is None else f"≥ {low:g}"
    return f"{low:g} to < {high:g}" if low else f"< {high:g}"
