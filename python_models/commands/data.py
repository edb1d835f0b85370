"""`irstd data check` and `irstd data synth`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

from tyro.conf import OmitArgPrefixes, Positional, Suppress, arg

from python_models.cli import UsageError, parse as parse_arguments
from python_models.data.synth.config import SynthConfig

PROG = "irstd data"
USAGE = """\
usage: irstd data ACTION [OPTIONS]

actions:
  check DIR    look over a data set: lists, pairs, pixels, duplicates, known counts
  synth OUT    make a synthetic data set

irstd data ACTION --help shows the options."""


@dataclass(frozen=True)
class Check:
    """Look over a data-set folder before anything is trained or judged on it.

    Lists that name missing files, overlap, or cut sequences; masks of another size, not binary or missing; unreadable files, odd modes,
    saturation; equal and near-equal images within and across train and test; counts against those of the public sets.
    Exit code 0: nothing of severity error; 1: some (--strict: or a warning); 2: the folder cannot be checked.

    Examples:
      irstd data check DATA/NUAA-SIRST
      irstd data check DATA/NUDT-SIRST --split 50_50 --strict --json findings.json
    """

    dir: Annotated[Positional[Path], arg(metavar="DIR")]
    """folder of the data set"""
    split: str | None = None
    """look at this split only (default: every list and every image)"""
    json: Annotated[str | None, arg(metavar="FILE|-")] = None
    """also write everything as JSON to this file; - prints it instead of the table"""
    strict: bool = False
    """exit code 1 for warnings too"""
    full_scale: float | None = None
    """value of an image file that means 1.0 (default: from its type)"""
    threads: int | None = None
    """files decoded at a time (default: one per CPU); the result does not depend on it"""


@dataclass(frozen=True)
class Knobs(SynthConfig):
    """Ranges are LOW HIGH; "log" means log-uniform, else uniform. Grey levels are 1/255 of full scale."""

    output: Suppress[str] = "8bit"  # a folder holds both

    def __post_init__(self) -> None:
        """Values are checked where they become a SynthConfig: the parser would frame the message."""


@dataclass(frozen=True)
class Synth:
    """Make a synthetic infrared data set with small targets: images, masks, lists, and every target described in meta.json.

    The same options give the same pixels on every machine, for any number of workers. The folder appears complete or not at all.

    Examples:
      irstd data synth DATA/made --images 1000 --seed 3
      irstd data synth DATA/sky --images 200 --empty 0.5 --buildings 0 --scr 2 10
    """

    out: Annotated[Positional[Path], arg(metavar="OUT")]
    """folder to write; must not exist, or be empty"""
    images: int = 1000
    """how many"""
    size: int = 256
    """height and width, px"""
    seed: int = 0
    """names the endless sequence the images are taken from"""
    workers: int | None = None
    """processes (default: one per CPU where there are images enough)"""
    raw: bool = True
    """write the 14-bit frames too, as 16-bit PNG"""
    parts: tuple[float, float, float] = (0.7, 0.1, 0.2)
    """shares of train, val and test"""
    knobs: OmitArgPrefixes[Knobs] = field(default_factory=Knobs)


def parse(args: Sequence[str]) -> Check | Synth:
    """The options of one action."""
    actions = {"check": Check, "synth": Synth}
    if not args or args[0] in ("-h", "--help"):
        print(USAGE)
        raise SystemExit(0 if args else 2)
    if args[0] not in actions:
        raise UsageError(f"action must be one of {', '.join(actions)}, got {args[0]!r}")
    return parse_arguments(actions[args[0]], args[1:], f"{PROG} {args[0]}")


def run(config: Check | Synth) -> int:
    """Do it."""
    return _check(config) if isinstance(config, Check) else _synth(config)


def _check(config: Check) -> int:
    from python_models.data.check import check
    from python_models.files import write_text

    result = check(config.dir, config.split, config.full_scale, _cpus() if config.threads is None else config.threads, progress=True)
    if config.json == "-":
        print(result.to_json(), end="")
    else:
        print(result.table().encode(errors="backslashreplace").decode())  # a file's name need not be UTF-8
    if config.json not in (None, "-"):
        write_text(config.json, result.to_json())
    return result.exit_code(config.strict)


def _synth(config: Synth) -> int:
    import json

    from python_models.data import write_synthetic

    workers = config.workers if config.workers is not None else max(1, min(_cpus(), config.images // 100))
    knobs = SynthConfig(**asdict(config.knobs))
    folder = write_synthetic(config.out, config.images, config.size, config.seed, knobs, config.parts, config.raw, progress=True, workers=workers)
    content = json.loads((folder / "meta.json").read_text(encoding="utf-8"))["content_hash"]
    print(f"{config.images} images of {config.size}x{config.size} written to {folder}, split synth, content hash {content}")
    return 0


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
