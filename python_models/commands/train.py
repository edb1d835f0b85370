"""`irstd train`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from python_models.cli import UsageError, parse as parse_arguments
from python_models.training.config import Recipe, TrainConfig, find_recipe, read_recipe

Config = TrainConfig
PROG = "irstd train"


@dataclasses.dataclass(frozen=True)
class Resolved:
    """The configuration and the network options its recipe brings."""

    config: TrainConfig
    options: Mapping[str, Any]


def parse(args: Sequence[str]) -> Resolved:
    """Defaults, then the recipe, then ``args``."""
    first = parse_arguments(TrainConfig, args, PROG)
    if first.recipe is None:
        return Resolved(first, {})
    from python_models import list_recipes

    path = find_recipe(first.recipe, list_recipes(first.model))
    recipe = read_recipe(path)
    base = dataclasses.replace(_typed(recipe, path), model=first.model, data=first.data)
    return Resolved(parse_arguments(TrainConfig, args, PROG, default=base), recipe.options)


def _typed(recipe: Recipe, path: Path) -> TrainConfig:
    """The recipe's values through the same parser as the command line, so that they obey the same types."""
    words = ["any", "--data", "any"]
    for name, value in recipe.values.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", *(str(v) for v in (value if isinstance(value, tuple) else (value,)))]
    try:
        return parse_arguments(TrainConfig, words, PROG)
    except UsageError as error:
        raise UsageError(f"recipe: {path}: {error}") from None


def run(resolved: Resolved) -> int:
    """Train, then say what was selected and what to do next."""
    from python_models.training.memory import keep_freed_memory

    keep_freed_memory()
    try:
        return _seeds(resolved) if resolved.config.seeds else _one(resolved)
    except KeyboardInterrupt:
        if _is_first(resolved.config):
            raise
        return 130  # a terminal interrupts every process; the first one says so


def _is_first(config: TrainConfig) -> bool:
    """Whether this is the process that speaks."""
    from python_models.training.distributed import cluster

    return config.devices * config.nodes == 1 or cluster(config)[1] == 0


def _one(resolved: Resolved) -> int:
    from python_models.training.train import train

    config = resolved.config
    summary = train(config, resolved.options)
    if not _is_first(config):
        return 0
    selected = summary["selected"]
    judged = f", validation IoU {100 * selected['IoU']:.2f} %" if "IoU" in selected else ""
    print(f"{summary['epochs']} epochs, {summary['steps']} steps in {summary['seconds'] / 60:.1f} min; selected epoch {selected['epoch']}{judged}")
    print(f"run folder: {config.out}; next: irstd eval {config.out} --baseline tophat")
    return 0


def _seeds(resolved: Resolved) -> int:
    from python_models.training.seeds import SEEDS, seeds_table, train_seeds

    out = resolved.config.out
    summary = train_seeds(resolved.config, resolved.options)
    if not _is_first(resolved.config):
        return 0
    if summary["mean"]:
        print(f"validation list, protocol exact, native size, the selected epoch of each seed\n{seeds_table(summary)}")
    print(f"written to {out / SEEDS}; next: irstd eval {out / summary['runs'][str(summary['seeds'][0])]['folder']}")
    return 0
