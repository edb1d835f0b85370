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
    from python_models.training.train import train

    keep_freed_memory()
    config = resolved.config
    summary = train(config, resolved.options)
    selected = summary["selected"]
    judged = f", validation IoU {100 * selected['IoU']:.2f} %" if "IoU" in selected else ""
    print(f"{summary['epochs']} epochs, {summary['steps']} steps in {summary['seconds'] / 60:.1f} min; selected epoch {selected['epoch']}{judged}")
    print(f"run folder: {config.out}; next: irstd eval {config.out} --baseline tophat")
    return 0
