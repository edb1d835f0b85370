"""What a report is made of, read from run folders and checked: a damaged file is one line that names it."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from python_models.runs import CONFIG, LOG, METRICS, read_config

EVAL = "eval"
FIELDS = ("IoU", "nIoU", "F1", "precision", "recall", "Pd", "Fa", "n_gt", "n_hit", "n_fp_objects", "Fa_objects_per_image", "n_empty_images")
Columns = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Bin:
    """Targets of a range of areas (``low`` to ``high``, both included) or SCRs (``high`` excluded); None: no bound, both None: undefined."""

    low: float | None
    high: float | None
    n_gt: int
    n_hit: int


@dataclass(frozen=True)
class Scores:
    """What an evaluation says of one scorer at its threshold; figures by protocol and field, intervals likewise."""

    name: str
    threshold: float | None
    figures: Mapping[str, Mapping[str, float | None]]
    intervals: Mapping[str, Mapping[str, tuple[float | None, float | None]]]
    by_size: tuple[Bin, ...]
    by_scr: tuple[Bin, ...]
    auc: float | None
    pd_at_fa: Mapping[str, float | None]
    seconds_per_image: float | None


@dataclass(frozen=True)
class Evaluation:
    """One folder of `irstd eval`: its facts (data, split, hash, sizes, rules), its scorers, the curves of each by scorer name."""

    folder: Path
    facts: Mapping[str, Any]
    scorers: tuple[Scores, ...]
    curve: Mapping[str, Columns] = field(default_factory=dict)
    roc: Mapping[str, Columns] = field(default_factory=dict)

    def targets(self, scorer: str) -> list[Target]:
        """True targets and false alarms of ``scorer``, in the order of the file; empty where there is none."""
        path = self.folder / "targets.jsonl"
        return [t for t in _read_targets(path) if t.scorer == scorer] if path.is_file() else []


@dataclass(frozen=True)
class Target:
    """A true target that was found (hit) or not (miss), or a false alarm; box (x, y, w, h) and centroid in judged pixels."""

    scorer: str
    kind: str
    image: str
    path: str
    box: tuple[float, float, float, float]
    row: float
    col: float
    area: float
    scr: float | None
    score: float | None
    found: tuple[float, float, float, float] | None


@dataclass(frozen=True)
class Run:
    """A run folder: its config.json, the columns of log.csv (nan where a cell is empty), the training summary, its evaluations."""

    name: str
    folder: Path
    config: Mapping[str, Any]
    log: Columns
    training: Mapping[str, Any]
    evaluations: tuple[Evaluation, ...]

    @property
    def network(self) -> str:
        return str(self.config["model"]["name"])

    @property
    def selected(self) -> int | None:
        """The selected epoch, once the training has ended."""
        epoch = self.training.get("selected", {}).get("epoch")
        return epoch if isinstance(epoch, int) else None


def read_run(folder: Path, name: str | None = None) -> Run:
    """Read a run folder; FileNotFoundError for a folder without a run, ValueError naming a file that cannot be used."""
    config = read_config(folder)
    for key in ("model", "train", "data", "versions"):
        _mapping(config.get(key, {}), f"{folder / CONFIG}: {key}")
    if not isinstance(config["model"].get("name"), str):
        raise ValueError(f"report: {folder / CONFIG}: model must have a name, got {config['model'].get('name')!r}")
    metrics = _json(folder / METRICS) if (folder / METRICS).is_file() else {}
    training = _mapping(metrics.get("training", {}), f"{folder / METRICS}: training")
    _mapping(training.get("selected", {}), f"{folder / METRICS}: selected")
    _number(training.get("seconds"), f"{folder / METRICS}: seconds")
    log = _columns(folder / LOG) if (folder / LOG).is_file() else {}
    found = sorted(p.parent for p in (folder / EVAL).glob("*/result.json") if not p.parent.name.startswith("."))  # an evaluation that was killed
    return Run(name or folder.resolve().name, folder, config, log.get("", {}), training, tuple(read_evaluation(p) for p in found))


def read_evaluation(folder: Path) -> Evaluation:
    """Read a folder that `irstd eval` wrote; ValueError naming a file that cannot be used."""
    path = folder / "result.json"
    result = _json(path)
    if result.get("format") != 1:
        raise ValueError(f"report: {path} must have format 1, got {result.get('format')!r}")
    scorers = _mapping(result.get("scorers"), f"{path}: scorers")
    if not scorers:
        raise ValueError(f"report: {path}: scorers must hold a scorer, got none")
    files = {name: _columns(folder / f"{name}.csv", by="scorer") if (folder / f"{name}.csv").is_file() else {} for name in ("curve", "roc")}
    facts = {k: v for k, v in result.items() if k != "scorers"}
    common = {name: facts.get(name) for name in ("threshold", "seconds_per_image")}  # a scorer may have its own
    found = (_scores(name, {**common, **_mapping(value, f"{path}: {name}")}, f"{path}: {name}") for name, value in scorers.items())
    return Evaluation(folder, facts, tuple(found), **files)


def _scores(name: str, value: Mapping[str, Any], where: str) -> Scores:

    def nested(key: str, leaf: Callable[[Any, str], Any]) -> dict[str, dict[str, Any]]:
        table = _mapping(value.get(key) or {}, f"{where} {key}")
        return {p: {f: leaf(v, f"{where} {key} {p} {f}") for f, v in _mapping(fields, f"{where} {key} {p}").items() if f in FIELDS}
                for p, fields in table.items()}

    budgets = _mapping(value.get("pd_at_fa") or {}, f"{where} pd_at_fa")
    threshold, auc, seconds = (_number(value.get(k), f"{where} {k}") for k in ("threshold", "auc", "seconds_per_image"))
    return Scores(name, threshold, nested("figures", _number), nested("intervals", _pair), _bins(value.get("by_size"), f"{where} by_size"),
                  _bins(value.get("by_scr"), f"{where} by_scr"), auc, {k: _number(v, f"{where} pd_at_fa {k}") for k, v in budgets.items()}, seconds)


def _bins(value: Any, where: str) -> tuple[Bin, ...]:
    bins = []
    for row in _list(value or [], where):
        low, high, n_gt, n_hit = (_number(_mapping(row, where).get(k), f"{where} {k}") for k in ("low", "high", "n_gt", "n_hit"))
        bins.append(Bin(low, high, int(n_gt or 0), int(n_hit or 0)))
    return tuple(bins)


def _read_targets(path: Path) -> Iterator[Target]:
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            where = f"{path} line {number}"
            t = _mapping(_parse(line, where), where)
            if t.get("kind") not in ("hit", "miss", "false_alarm"):
                raise ValueError(f"report: {where}: kind must be hit, miss or false_alarm, got {t.get('kind')!r}")
            box, found = _box(t.get("box"), where), t.get("found_box")
            row, col, area, scr, score = (_number(t.get(k), f"{where} {k}") for k in ("row", "col", "area", "scr", "score"))
            yield Target(str(t.get("scorer")), t["kind"], str(t.get("image")), str(t.get("path")), box, row or 0, col or 0, area or 0, scr, score,
                         None if found is None else _box(found, where))


def _columns(path: Path, by: str | None = None) -> dict[str, dict[str, np.ndarray]]:
    """Numeric columns of a CSV file, grouped by the text column ``by`` (else all under "")."""
    values: dict[str, dict[str, list[float]]] = {}
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        try:
            header = next(reader, [])
            group = header.index(by) if by in header else None
            for row in reader:
                if len(row) != len(header):
                    raise ValueError(f"{len(header)} cells expected, got {len(row)}")
                columns = values.setdefault("" if group is None else row[group], {name: [] for i, name in enumerate(header) if i != group})
                for i, name in enumerate(header):
                    if i != group:
                        columns[name].append(float(row[i]) if row[i] else math.nan)
        except (ValueError, csv.Error) as error:
            raise ValueError(f"report: {path} line {reader.line_num} is not a row of numbers ({error})") from None
    return {key: {name: np.array(v) for name, v in columns.items()} for key, columns in values.items()}


def _json(path: Path) -> dict[str, Any]:
    return dict(_mapping(_parse(path.read_bytes(), str(path)), str(path)))


def _parse(text: bytes, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"report: {where} is not valid JSON ({error})") from None


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"report: {where} must be an object, got {str(value)[:60]!r}")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"report: {where} must be a list, got {str(value)[:60]!r}")
    return value


def _number(value: Any, where: str) -> float | None:
    if value is None or isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > sys.float_info.max:
        raise ValueError(f"report: {where} must be a number, got {str(value)[:60]!r}")
    return value


def _pair(value: Any, where: str) -> tuple[float | None, float | None]:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError(f"report: {where} must be [low, high], got {str(value)[:60]!r}")
    return _number(value[0], where), _number(value[1], where)


def _box(value: Any, where: str) -> tuple[float, float, float, float]:
    if not isinstance(value, list) or len(value) != 4 or any(_number(v, f"{where} box") is None for v in value):
        raise ValueError(f"report: {where}: box must be [x, y, width, height], got {str(value)[:60]!r}")
    return value[0], value[1], value[2], value[3]
