"""`irstd train`."""

from __future__ import annotations

import dataclasses
import sys
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
    """Defaults, or with ``--resume`` the values of the run, then the recipe, then ``args``."""
    stored, options = _resumed(args)
    default = None if stored is None else dataclasses.replace(stored, recipe=None)
    first = parse_arguments(TrainConfig, args, PROG, default=default)
    if first.recipe is None:
        return Resolved(first if stored is None else dataclasses.replace(first, recipe=stored.recipe), options)
    from python_models import list_recipes

    path = find_recipe(first.recipe, list_recipes(first.model))
    recipe = read_recipe(path)
    typed = _typed(recipe, path)
    base = dataclasses.replace(stored or typed, **{k: getattr(typed, k) for k in recipe.values}, model=first.model, data=first.data)
    return Resolved(parse_arguments(TrainConfig, args, PROG, default=base), {**options, **recipe.options})


def _resumed(args: Sequence[str]) -> tuple[TrainConfig | None, Mapping[str, Any]]:
    """The configuration and the network options of the run that ``args`` resume; none where they resume none."""
    if "--resume" not in args:
        return None, {}
    from python_models.runs import CONFIG
    from python_models.training.resume import stored_run

    asked = parse_arguments(TrainConfig, args, PROG, default=TrainConfig(model="", data=Path()))
    stored = stored_run(asked.out) if asked.resume else None
    if stored is None and not asked.model:
        raise FileNotFoundError(f"resume: {asked.out} holds no run ({CONFIG} is missing)")
    return stored or (None, {})


def _typed(recipe: Recipe, path: Path) -> TrainConfig:
    """The recipe's values through the same parser as the command line, so that they obey the same types."""
    words, defaults = ["any", "--data", "any"], TrainConfig(model="any", data=Path())
    for name, value in recipe.values.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool) != isinstance(getattr(defaults, name), bool):
            raise UsageError(f"recipe: {path}: {name} must {'not ' if isinstance(value, bool) else ''}be true or false, got {value!r}")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", *(str(v) for v in (value if isinstance(value, tuple) else (value,)))]
    try:
        typed = parse_arguments(TrainConfig, words, PROG)
    except UsageError as error:
        raise UsageError(f"recipe: {path}: {error}") from None
    for name, value in recipe.values.items():
        if _is_text(value) != _is_text(getattr(typed, name)):
            rule = "be a number, without quotes" if _is_text(value) else "be text, in quotes"
            raise UsageError(f"recipe: {path}: {name} must {rule}, got {value!r}")
    return typed


def _is_text(value: Any) -> bool:
    """Whether a value, or one in a list, is text."""
    return isinstance(value, str) or isinstance(value, tuple) and any(map(_is_text, value))


def run(resolved: Resolved) -> int:
    """Train, then say what was selected and what to do next."""
    from python_models.training.failures import interrupted
    from python_models.training.memory import keep_freed_memory

    keep_freed_memory()
    try:
        return _seeds(resolved) if resolved.config.seeds else _one(resolved)
    except KeyboardInterrupt:
        if _is_first(resolved.config):  # a terminal interrupts every process
            print(f"{PROG}: {interrupted(resolved.config.out)}", file=sys.stderr)
        return 130


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
