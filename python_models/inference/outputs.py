"""What a prediction leaves behind: mask, score map, logits, overlay and one line per target, in a folder of its own."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from PIL import Image

from python_models.files import atomic_write, save_png, write_json

if TYPE_CHECKING:
    from .sources import Frame

Output = Literal["masks", "scores", "logits", "overlays", "targets"]
OUTPUTS: tuple[Output, ...] = ("masks", "scores", "logits", "overlays", "targets")
FILES = {"masks": ".png", "scores": ".png", "logits": ".npy", "overlays": ".png"}  # one per image, in a folder of that name
MANIFEST, LINES, PARTIAL, TABLE = "predictions.json", "targets.jsonl", "targets.jsonl.partial", "targets.csv"
COLUMNS = ("image", "name", "frame", "page", "row", "col", "x", "y", "w", "h", "area", "score")


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


def quantise_scores(logits: torch.Tensor) -> np.ndarray:
    """Score map (H, W) uint16 of logits (H, W): q = ceil(65535 p - 0.5) with p = sigmoid(logit) in float64.

    q / 65535 differs from p by at most half a step, and q / 65535 > 0.5 exactly where logit > 0: the map has the mask of the
    network at threshold 0.5, and p = 0.5 is background in both. (Plain rounding would make it 32768, a target.)

    >>> quantise_scores(torch.tensor([[-1e3, 0.0, 1e-30, 1e3]])).tolist()
    [[0, 32767, 32768, 65535]]
    """
    q = torch.ceil(65535 * torch.sigmoid(logits.double()) - 0.5).clamp(0, 65535)
    # sigmoid rounds the smallest logits to 0.5 on either side
    q = torch.where(logits > 0, q.clamp(min=32768), q.clamp(max=32767))
    return q.numpy().astype(np.uint16)


def check_out(out: Path, frames: Sequence[Frame], overwrite: bool) -> None:
    """Refuse an output folder that would mix with, or write over, anything but earlier predictions."""
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"out: {out} must be a folder, got a file")
    inside = os.path.realpath(out) + os.sep
    for frame in frames:
        if os.path.realpath(frame.path).startswith(inside):
            raise ValueError(f"out: {out} must not contain a source image, got {frame.path}")
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not (out / MANIFEST).is_file():
        raise FileExistsError(f"out: {out} is not empty and holds no predictions; give another --out")
    if not overwrite:
        raise FileExistsError(f"out: {out} holds predictions; give another --out, or --overwrite")


class Writer:
    """Writes the outputs of frames as they come; ``about`` goes into ``predictions.json``.

    Nothing exists, and older predictions stay, before the first frame. Targets are appended to ``targets.jsonl.partial``, a
    frame's lines in one write; :meth:`finish` makes it ``targets.jsonl`` and adds ``targets.csv``. What interrupts a run
    leaves the partial file and a ``predictions.json`` with ``"complete": false``; complete means that every source has been
    tried, also those that failed.
    """

    def __init__(self, out: Path, outputs: Collection[str], about: Mapping[str, Any]) -> None:
        unknown = sorted(set(outputs) - set(OUTPUTS))
        if unknown or not outputs:
            raise ValueError(f"predict: outputs must be one or more of {', '.join(OUTPUTS)}, got {', '.join(unknown) or 'none'}")
        self.out, self.outputs = out, set(outputs)
        self.about = {"format": 1, "complete": False, **about, "outputs": [o for o in OUTPUTS if o in self.outputs]}
        self._started = False

    def write(self, frame: Frame, image: np.ndarray, logits: torch.Tensor, threshold: float) -> list[dict[str, Any]]:
        """Write one frame and return its target lines."""
        from python_models.viz import overlay

        if not self._started:
            self._start()
        mask, found = find_targets(logits, threshold)
        if "masks" in self.outputs:
            save_png(self._path("masks", frame), Image.fromarray(mask * np.uint8(255)))
        if "scores" in self.outputs:
            save_png(self._path("scores", frame), Image.fromarray(quantise_scores(logits)))
        if "logits" in self.outputs:
            atomic_write(self._path("logits", frame), lambda temporary: _save_array(temporary, logits))
        if "overlays" in self.outputs:
            save_png(self._path("overlays", frame), overlay(image, [tuple(t["box"]) for t in found]))
        place = {"image": frame.image, "name": frame.name, "frame": frame.number, **({} if frame.page is None else {"page": frame.page})}
        lines = [{**place, **t} for t in found]
        if "targets" in self.outputs and lines:
            self._append("".join(json.dumps(line) + "\n" for line in lines))
        return lines

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Give the outputs their final names; nothing is there to finish where no frame was written."""
        if not self._started:
            return
        if "targets" in self.outputs:
            atomic_write(self.out / TABLE, self._table)
            os.replace(self.out / PARTIAL, self.out / LINES)
        write_json(self.out / MANIFEST, {**self.about, "complete": True, **summary})

    def _start(self) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        _clear(self.out)
        write_json(self.out / MANIFEST, self.about)
        if "targets" in self.outputs:
            (self.out / PARTIAL).touch()
        self._started = True

    def _path(self, kind: str, frame: Frame) -> Path:
        path = self.out / kind / (frame.name + FILES[kind])
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _append(self, text: str) -> None:
        path = self.out / PARTIAL
        size, data = path.stat().st_size, text.encode()
        with open(path, "ab", buffering=0) as file:
            if file.write(data) != len(data):  # a full disk: no half line stays
                file.truncate(size)
                raise OSError(f"{path}: the disk is full")

    def _table(self, temporary: Path) -> None:
        with open(self.out / PARTIAL, encoding="utf-8") as lines, open(temporary, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for t in map(json.loads, lines):
                writer.writerow([t["image"], t["name"], t["frame"], t.get("page", ""), t["row"], t["col"], *t["box"], t["area"], t["score"]])


def _save_array(path: Path, values: torch.Tensor) -> None:
    with open(path, "wb") as file:  # given a name, NumPy would add a suffix to it
        np.save(file, values.numpy(), allow_pickle=False)


def _clear(out: Path) -> None:
    """Remove what an earlier prediction wrote and nothing else; its manifest goes last."""
    for kind, suffix in FILES.items():
        for path in (*(out / kind).rglob(f"*{suffix}"), *(out / kind).rglob(f".*{suffix}.*.tmp")):
            path.unlink()
        for folder in sorted((p for p in (out / kind).rglob("*") if p.is_dir()), reverse=True):
            if not any(folder.iterdir()):
                folder.rmdir()
    for path in (*out.glob(".*.tmp"), *(out / name for name in (LINES, PARTIAL, TABLE, MANIFEST))):
        path.unlink(missing_ok=True)
