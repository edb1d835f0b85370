"""What must be known to read an evaluation rightly: about the run, about the images, and about figures at the edge of what a set can say."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from python_models.data import DataError, part_names
from python_models.data.errors import some
from python_models.runs import BEST, LOG, METRICS, MODEL, RAW, read_config

from .assessment import Assessment

FEW = 30  # images, below which percentiles of the bootstrap are too narrow


def about_run(run: Path, weights: str) -> dict[str, Any]:
    """What is judged: ``run`` as given, name and preset of the network, first 16 hex digits of the SHA-256 of its weights file.

    FileNotFoundError where the run has no such weights.
    """
    stored = read_config(run)
    averages = stored.get("train", {}).get("ema", 0) > 0
    path = run / (BEST if weights == "best" else RAW if weights == "raw" and averages else MODEL)
    if not path.is_file():
        raise FileNotFoundError(f"run: {path} does not exist; the run has not finished an epoch yet")
    model = stored["model"]
    return {"run": str(run), "model": model["name"], "preset": model.get("preset"), "weights_sha256": hashlib.sha256(path.read_bytes()).hexdigest()[:16]}


def notes_on_run(run: Path, root: Path, names: Sequence[str]) -> list[str]:
    """:func:`about_training` and :func:`about_images`, the latter as a warning too: it can be seen before the work."""
    seen = about_images(run, root, names)
    if seen:
        warnings.warn(seen, stacklevel=2)
    return [note for note in (about_training(run), seen) if note]


def about_training(run: Path) -> str | None:
    """The sentence about a run whose training has not finished: the end of a training, early or not, is written to its metrics.json."""
    train = read_config(run).get("train", {})
    if not train.get("epochs"):
        return None
    try:
        summary = json.loads((run / METRICS).read_text(encoding="utf-8")).get("training") if (run / METRICS).is_file() else None
    except (ValueError, AttributeError) as error:
        raise ValueError(f"run: {run / METRICS} is not valid JSON of a run ({error})") from None
    if summary:
        return None
    done = 0
    if (run / LOG).is_file():
        with open(run / LOG, newline="", encoding="utf-8") as file:
            done = sum((row.get("epoch") or "").isdigit() for row in csv.DictReader(file))
    if train.get("minutes"):
        return f"the training of the run has not finished: {done} epochs of {train['minutes']:g} min"
    return f"the training of the run has not finished: {done} of {train['epochs']} epochs" if done < train["epochs"] else None


def about_images(run: Path, root: Path, names: Sequence[str]) -> str | None:
    """The sentence about images among ``names`` of the data set ``root`` that the run was trained on or selected by.

    Whatever the split: splits of one data set overlap, and an image that was trained on proves nothing. A data set is known
    by its folder, or the folder's name where it has moved.
    """
    home = read_config(run).get("data", {})
    where = Path(home.get("root", ""))
    if where.resolve() != root.resolve() and where.name != root.name:
        return None
    split, judged, seen = home.get("split"), set(names), {}
    for part in home.get("parts") or ("train", "val"):
        try:
            seen[part] = judged & set(part_names(where if where.is_dir() else root, split, part)[1])
        except DataError:  # the split of the training is not there any more: nothing can be said
            return None
    count = len(set().union(*seen.values()))
    if not count:
        return None
    lists = ", ".join(f"{len(found)} in {part}{' by which its epoch was selected' if part == 'val' else ''}" for part, found in seen.items() if found)
    return f"{count} of the {len(judged)} images are in the training lists of the run (split {split}: {lists}): no figures of unseen images"


def about_figures(found: Sequence[Assessment]) -> list[str]:
    """Sentences about intervals without a width or of few images, and about budgets of Fa below one pixel of the set."""
    notes, curve = [], found[0].curve
    if any(a.intervals for a in found):
        if curve.n_images < FEW:
            notes.append(f"{curve.n_images} images are few: intervals of fewer than {FEW} tend to be too narrow")
        flat = {a.name: dict.fromkeys(f for fields in a.intervals.values() for f, (low, high) in fields.items() if low == high) for a in found}
        if any(flat.values()):
            which = some([f"{name} {', '.join(fields)}" for name, fields in flat.items() if fields])
            notes.append(f"an interval of zero width says that every drawn sample gave one figure, not that it is certain: {which}")
    small = [budget for budget in found[0].pd_at_fa if float(budget) * curve.pixels < 1]
    if small and not math.isnan(found[0].pd_at_fa[small[0]]):
        notes.append(f"Fa of at most {', '.join(small)} is less than one of the {curve.pixels} pixels of the set: Pd there is Pd without any false alarm")
    return notes
