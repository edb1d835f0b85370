"""Crops of what an evaluation got wrong: the clearest misses, the largest and the most certain false alarms."""

from __future__ import annotations

import base64
import io
import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from python_models.viz import to_grey8

from .read import Evaluation, Target

SIDE, LARGEST = 48, 144  # pixels of a crop around a small target, and of the picture stored for a large one
MARGIN, INNER = 2.0, 1.0  # pixels between a target and its box; what was found of a true target is drawn inside its box
BOXES = 60  # targets drawn in a crop, the nearest ones: more hide the image


@dataclass(frozen=True)
class Box:
    """A box to draw, in pixels of the crop: its role (hit, miss, false_alarm, found), and whether the crop is about it."""

    role: str
    x: float
    y: float
    w: float
    h: float
    subject: bool


@dataclass(frozen=True)
class Crop:
    """A picture around ``target``: PNG as a data URI (None where ``problem`` says why), its size in image pixels, its boxes."""

    target: Target
    picture: str | None
    width: int
    height: int
    boxes: tuple[Box, ...]
    problem: str | None = None


@dataclass(frozen=True)
class Gallery:
    """Crops of one kind with a title, and how many there are in all."""

    title: str
    crops: tuple[Crop, ...]
    total: int


def galleries(evaluation: Evaluation, scorer: str, count: int) -> list[Gallery]:
    """Misses, the highest SCR first; false alarms, half of ``count`` by area and the rest by score. Nothing where all was right."""
    targets = evaluation.targets(scorer)
    misses = sorted((t for t in targets if t.kind == "miss"), key=lambda t: (-(t.scr or 0), -t.area, t.image, t.row, t.col))
    alarms = sorted((t for t in targets if t.kind == "false_alarm"), key=lambda t: (-t.area, -(t.score or 0), t.image, t.row, t.col))
    largest = alarms[: (count + 1) // 2] if len(alarms) > count else alarms
    certain = sorted(alarms[len(largest):], key=lambda t: (-(t.score or 0), -t.area, t.image, t.row, t.col))[: count - len(largest)]
    by_image = defaultdict(list)
    for t in targets:
        by_image[t.image].append(t)

    def crops(chosen: Sequence[Target]) -> tuple[Crop, ...]:
        return tuple(_crop(t, by_image[t.image], evaluation.facts.get("eval_size")) for t in chosen)

    found = [Gallery("Misses, highest SCR first", crops(misses[:count]), len(misses))] if misses else []
    if alarms:
        found.append(Gallery("False alarms, largest first", crops(largest), len(alarms)))
    if certain:
        found.append(Gallery("False alarms, highest score first", crops(certain), len(alarms)))
    return found


def _crop(target: Target, neighbours: Sequence[Target], eval_size: object) -> Crop:
    try:
        image = _judged(Path(target.path), eval_size)
    except (OSError, ValueError) as error:
        return Crop(target, None, SIDE, SIDE, (), " ".join(str(error).split()))
    height, width = image.shape
    x, y, w, h = target.box
    if x < 0 or y < 0 or x + w > width or y + h > height:
        return Crop(target, None, SIDE, SIDE, (), f"{target.path}: the image is {height}x{width} now and does not hold the box")
    side = int(max(SIDE, 2 * max(w, h)))
    left, wide = _window(x + w / 2, side, width)
    top, high = _window(y + h / 2, side, height)
    boxes = []
    near = sorted(neighbours, key=lambda t: (t is not target, math.hypot(t.row - target.row, t.col - target.col)))[:BOXES]
    for t in reversed(near):  # the subject is drawn last
        for role, (bx, by, bw, bh) in [(t.kind, t.box), *([("found", t.found)] if t.found else [])]:
            if bx < left + wide and bx + bw > left and by < top + high and by + bh > top:
                m = INNER if role == "found" else MARGIN
                boxes.append(Box(role, bx - left - m, by - top - m, bw + 2 * m, bh + 2 * m, t is target))
    return Crop(target, _data_uri(image[top : top + high, left : left + wide]), wide, high, tuple(boxes))


def _judged(path: Path, eval_size: object) -> np.ndarray:
    """The image (H, W) in [0, 1] at the size at which it was judged."""
    import torch

    from python_models.data import read_image
    from python_models.inference import resize

    image = read_image(path)
    square = re.fullmatch(r"(\d{1,4})(?:x\1)?", str(eval_size))
    return resize(torch.from_numpy(image)[None, None], int(square[1]))[0, 0].numpy() if square else image


def _window(centre: float, side: int, length: int) -> tuple[int, int]:
    """First pixel and length of a window of ``side`` around ``centre`` inside 0..length."""
    side = min(side, length)
    return min(max(0, round(centre - side / 2)), length - side), side


def _data_uri(pixels: np.ndarray) -> str:
    picture = Image.fromarray(to_grey8(pixels))
    if max(picture.size) > LARGEST:
        factor = LARGEST / max(picture.size)
        picture = picture.resize((max(1, round(picture.width * factor)), max(1, round(picture.height * factor))), Image.Resampling.BOX)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
