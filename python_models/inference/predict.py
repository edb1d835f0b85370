"""Targets in images nobody has labelled: masks, overlays and one line per target."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from python_models.files import save_png, write_text

from .logits import predict_logits

if TYPE_CHECKING:
    from python_models.layers.network import IRSTDNet

COLUMNS = ("image", "row", "col", "x", "y", "w", "h", "area", "score")


@dataclass
class Report:
    """What a prediction over images did: how many, the target lines, and an error line per unreadable file."""

    images: int = 0
    targets: list[dict[str, Any]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def find_targets(logits: torch.Tensor, threshold: float = 0.5) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Mask (H, W) uint8 in {0, 1} and its targets ``{row, col, box: [x, y, w, h], area, score}`` from logits (H, W).

    row and col are the centroid in pixels, score the highest probability inside. The threshold is on the probability,
    strict.

    >>> logits = torch.full((8, 8), -9.0); logits[2, 3] = 2.0
    >>> find_targets(logits)[1]
    [{'row': 2.0, 'col': 3.0, 'box': [3, 2, 1, 1], 'area': 1, 'score': 0.880797}]
    """
    from irstd_ext import targets

    if not 0.0 < threshold < 1.0:
        raise ValueError(f"predict: threshold must lie in (0, 1), got {threshold}")
    values = logits.double().numpy()
    mask = (values > np.log(threshold / (1.0 - threshold))).astype(np.uint8)
    labels, _ = targets.label(mask)
    found = []
    for region in targets.regions(mask):
        x, y, w, h = region.box
        inside = labels[y : y + h, x : x + w] == region.label
        peak = float(values[y : y + h, x : x + w][inside].max())
        found.append({"row": region.row, "col": region.col, "box": [int(v) for v in region.box], "area": int(region.area),
                      "score": round(float(1.0 / (1.0 + np.exp(-peak))), 6)})
    return mask, found


def predict_files(net: IRSTDNet, paths: list[Path], out: Path, threshold: float = 0.5) -> Iterator[Report]:
    """Predict ``paths`` into ``out``: ``masks/NAME.png``, ``overlays/NAME.png``, ``targets.jsonl``, ``targets.csv``.

    Yields the growing report after each image. A file that cannot be read becomes an error line and the others go on.
    Images are seen one by one, so none changes another's result.
    """
    from python_models.data import read_image
    from python_models.viz import overlay

    masks, overlays = out / "masks", out / "overlays"
    for folder in (masks, overlays):
        folder.mkdir(parents=True, exist_ok=True)
    names, report = _names(paths), Report()
    for path in paths:
        try:
            image = read_image(path)
        except (OSError, ValueError) as error:
            report.errors.append(" ".join(str(error).split()))
            yield report
            continue
        logits = predict_logits(net, torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))[None])
        mask, found = find_targets(logits, threshold)
        save_png(masks / f"{names[path]}.png", Image.fromarray(mask * 255))
        save_png(overlays / f"{names[path]}.png", overlay(image, [tuple(t["box"]) for t in found]))
        report.images += 1
        report.targets.extend({"image": path.name, **t} for t in found)
        yield report
    write_text(out / "targets.jsonl", "".join(json.dumps(t) + "\n" for t in report.targets))
    write_text(out / "targets.csv", _csv(report.targets))


def _names(paths: list[Path]) -> dict[Path, str]:
    """Output names: the stem, or the whole file name where two files share a stem."""
    stems = [p.stem for p in paths]
    return {p: p.stem if stems.count(p.stem) == 1 else p.name for p in paths}


def _csv(found: list[dict[str, Any]]) -> str:
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([t["image"], t["row"], t["col"], *t["box"], t["area"], t["score"]] for t in found)
    return text.getvalue()
