"""The evaluations of the runs of one training from several seeds, and what their figures are worth: mean and standard deviation."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from python_models.files import write_json
from python_models.runs import CONFIG

from .judge import HEADLINE, table
from .notes import about_run

EVAL_SEEDS = "eval-seeds.json"
FORMAT = 1
SHARED = ("data", "split", "part", "split_hash", "images", "eval_size", "threshold", "weights", "model", "preset")


def seed_runs(folder: Path) -> dict[int, Path]:
    """The run folders ``seed-N`` by seed in a folder that is no run itself; empty where there are none."""
    if (folder / CONFIG).is_file():
        return {}
    found = {int(p.parent.name[5:]): p.parent for p in folder.glob(f"seed-*/{CONFIG}") if p.parent.name[5:].isdigit()}
    return dict(sorted(found.items()))


def judge_seeds(seeds: Mapping[int, Path], weights: str, judge: Callable[[int, Path], Mapping[str, Any]]) -> dict[str, Any]:
    """What all seeds share, and :func:`over_seeds` of the result.json that ``judge(seed, run folder)`` gives for each.

    FileNotFoundError for a seed without these weights, before anything is judged; ValueError for networks or lists that differ.
    """
    for folder in seeds.values():
        about_run(folder, weights)
    results = {seed: judge(seed, folder) for seed, folder in seeds.items()}
    first = next(iter(results.values()))
    differ = next((k for k in SHARED for r in results.values() if r[k] != first[k]), None)
    if differ:
        raise ValueError(f"run: the seeds must be of one training, got different {differ}")
    return {**{k: first[k] for k in SHARED}, "seeds": list(seeds), **over_seeds(results)}


def over_seeds(results: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """``runs``, ``mean`` and ``std`` (with n - 1, None for one seed) by protocol of the networks' figures in each seed's result.json.

    A figure that is undefined for a seed has neither mean nor deviation.

    >>> one, two = ({"model": "net", "run": "a", "scorers": {"net": {"figures": {"exact": {"IoU": v}}}}} for v in (0.25, 0.75))
    >>> found = over_seeds({0: one, 1: two})
    >>> found["mean"], round(found["std"]["exact"]["IoU"], 4)
    ({'exact': {'IoU': 0.5}}, 0.3536)
    """
    figures = {seed: {p: {k: f[k] for k in HEADLINE if k in f} for p, f in r["scorers"][r["model"]]["figures"].items()} for seed, r in results.items()}
    about = ("run", "weights_sha256", "notes")
    runs = {str(seed): {**{k: r.get(k) for k in about}, "figures": figures[seed]} for seed, r in results.items()}
    mean, std = {}, {}
    for protocol, fields in next(iter(figures.values())).items():
        values = {k: [f[protocol][k] for f in figures.values()] for k in fields}
        mean[protocol] = {k: None if None in v else statistics.fmean(v) for k, v in values.items()}
        std[protocol] = {k: None if None in v or len(v) < 2 else statistics.stdev(v) for k, v in values.items()}
    return {"runs": runs, "mean": mean, "std": std}


def seeds_tables(summary: Mapping[str, Any]) -> str:
    """A table by protocol: a row per seed, mean and standard deviation."""
    tables = []
    for protocol, mean in summary["mean"].items():
        rows = {f"seed {seed}": run["figures"][protocol] for seed, run in summary["runs"].items()}
        tables.append(f"{protocol}\n{table({**rows, 'mean': mean, 'std': summary['std'][protocol]})}")
    return "\n\n".join(tables)


def known_summaries(path: Path) -> dict[str, Any]:
    """What stands in an eval-seeds.json, by evaluation; ValueError for a file that is none."""
    if not path.is_file():
        return {}
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        if known["format"] == FORMAT and isinstance(known["evaluations"], dict):
            return known["evaluations"]
        reason = f"format {known['format']}"
    except (ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__} {error}"
    raise ValueError(f"eval: {path} must be of format {FORMAT} with evaluations, got {reason}; move it away to write a new one")


def write_summary(path: Path, name: str, summary: Mapping[str, Any]) -> None:
    """Put ``summary`` under the name of its evaluation and keep the others."""
    write_json(path, {"format": FORMAT, "evaluations": {**known_summaries(path), name: dict(summary)}})
