"""What a resumed training takes from the run in its folder, and what it may change."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from python_models.runs import CONFIG, read_config

from .check import as_json
from .config import TrainConfig

# What a resumed run may change. The number of processes changes results within rounding only (see docs/training.md), a time
# budget and the number of threads make them depend on the machine; nothing else here changes a bit.
FREE_ON_RESUME = {"out", "resume", "overwrite", "progress", "threads", "workers", "tensorboard", "data", "minutes", "devices", "nodes", "strategy", "seeds"}
# Values that say nothing before the network and the data are known.
_UNSETTLED = {"preset": None, "split": None, "crop": None, "device": "auto"}


def stored_run(out: Path) -> tuple[TrainConfig, dict[str, Any]] | None:
    """The configuration of the run in ``out``, or of the runs from several seeds there, ready to go on, and the options of its
    network; None where ``out`` holds no run.

    The data set is where the run found it. Raises ValueError for a damaged ``config.json``.
    """
    seeds = () if (out / CONFIG).is_file() else _seeds(out)
    folder = next((f for f in (out, *(out / f"seed-{n}" for n in seeds)) if (f / CONFIG).is_file()), None)
    if folder is None:
        return None
    stored = read_config(folder)
    known = {f.name for f in dataclasses.fields(TrainConfig)}
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in stored["train"].items() if k in known}
    values |= {"data": Path(stored["data"]["root"]), "out": out, "seeds": seeds, "resume": True, "overwrite": False}
    values["weights"] = Path(values["weights"]) if values.get("weights") else None
    return TrainConfig(**values), dict(stored["model"]["options"])


def check_same(config: TrainConfig, options: Mapping[str, Any], data: Mapping[str, Any] | None = None) -> None:
    """A resumed run must be the run in the folder: the same training values, network options and image lists; ValueError names
    in one line all that is not.

    Before the network and the data are known there is no ``data``: then ``options`` are those that were given, and values
    which are not settled yet (no preset, device auto) are left out.
    """
    stored = read_config(config.out)
    pairs = [(k, stored["train"].get(k), v) for k, v in as_json(config).items() if k not in FREE_ON_RESUME | {"option", "recipe"}]
    if data is None:
        pairs = [(k, before, now) for k, before, now in pairs if k not in _UNSETTLED or now != _UNSETTLED[k]]
    before = stored["model"]["options"]
    now = {k: list(v) if isinstance(v, tuple) else v for k, v in options.items()}
    pairs += [(f"option {k}", before.get(k), now.get(k)) for k in (now if data is None else {**before, **now})]
    wrong = [f"{name} must be {old!r}, got {new!r}" for name, old, new in pairs if old != new]
    if wrong:
        raise ValueError(f"resume: {'; '.join(wrong)}, for the run in {config.out}")
    if data is not None:
        lists, had = ({part: v["hash"] for part, v in d["parts"].items()} for d in (data, stored["data"]))
        if lists != had:
            raise ValueError(f"resume: the image lists must be those of the run in {config.out} ({had}), got {lists}")


def _seeds(out: Path) -> tuple[int, ...]:
    """The seeds whose folders are in ``out``; each has one as soon as the training begins."""
    names = (p.name.removeprefix("seed-") for p in out.glob("seed-*") if p.is_dir())
    return tuple(sorted(int(n) for n in names if n.isdecimal()))
