"""The same training from several seeds, and what its figures are worth: mean and standard deviation."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from python_models.evaluation import HEADLINE
from python_models.files import write_json
from python_models.runs import CONFIG, prepare_folder, read_config

from .check import check
from .config import TrainConfig

SEEDS = "seeds.json"


def train_seeds(config: TrainConfig, recipe_options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Train once for each of ``config.seeds`` into ``OUT/seed-N`` and return what also stands in ``OUT/seeds.json``.

    ``runs``: for each seed its ``folder`` and ``selected`` (epoch and its figures on the validation list); ``mean`` and
    ``std`` of these figures over the seeds, the deviation with n - 1 and None for one seed, both empty for ``final`` runs,
    which have no validation list. With ``resume`` finished seeds stay, the one that was stopped goes on, and the others
    follow, also seeds that were not asked for before. Each folder is a run like any other.
    """
    check(config)
    from .distributed import cluster
    from .train import require_lightning, train

    require_lightning()
    first = cluster(config)[1] == 0
    if first:
        _prepare(config)
    runs: dict[str, Any] = {}
    for seed in config.seeds:
        folder = config.out / f"seed-{seed}"
        again = config.resume and (folder / CONFIG).is_file()
        one = dataclasses.replace(config, seed=seed, seeds=(), out=folder, resume=again, overwrite=False)
        if first and config.progress:
            print(f"seed {seed}: {folder}", flush=True)
        runs[str(seed)] = {"folder": folder.name, "selected": train(one, recipe_options, prepared=not again)["selected"]}
    stored = read_config(config.out / f"seed-{config.seeds[0]}")
    summary = {"format": 1, "model": stored["model"], "data": stored["data"], "part": None if config.final else "val", "protocol": "exact",
               "eval_size": "native", "threshold": 0.5, "seeds": list(config.seeds), "runs": runs, **spread([r["selected"] for r in runs.values()])}
    if first:
        write_json(config.out / SEEDS, summary)
    return summary


def spread(figures: list[Mapping[str, float]]) -> dict[str, dict[str, float | None]]:
    """Mean and standard deviation (with n - 1) of each figure that all have.

    >>> spread([{"IoU": 0.25}, {"IoU": 0.5}, {"IoU": 0.75}])
    {'mean': {'IoU': 0.5}, 'std': {'IoU': 0.25}}
    """
    shared = {k: [f[k] for f in figures] for k in HEADLINE if all(k in f for f in figures)}
    return {
        "mean": {k: float(np.mean(v)) for k, v in shared.items()},
        "std": {k: float(np.std(v, ddof=1)) if len(v) > 1 else None for k, v in shared.items()},
    }


def seeds_table(summary: Mapping[str, Any]) -> str:
    """Text table of IoU, nIoU, Pd in percent and Fa in 1e-6: one row per seed, mean and standard deviation."""
    from python_models.evaluation import table

    rows = {f"seed {seed}": run["selected"] for seed, run in summary["runs"].items()}
    return table({**rows, "mean": summary["mean"], "std": summary["std"]})


def _prepare(config: TrainConfig) -> None:
    """Refuse what is in the way before anything is trained, and make the folder of each seed that starts anew."""
    out = config.out
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"out: {out} must be a folder, got a file")
    if (out / CONFIG).is_file():
        raise FileExistsError(f"out: {out} holds a run, seeds need a folder of their own; give another --out")
    if config.resume and not any(out.glob("seed-*")):
        raise FileNotFoundError(f"resume: {out} holds no seeds")
    for seed in config.seeds:
        folder = out / f"seed-{seed}"
        if not (config.resume and (folder / CONFIG).is_file()):
            prepare_folder(folder, resume=False, overwrite=config.overwrite)
    if config.overwrite:
        (out / SEEDS).unlink(missing_ok=True)
