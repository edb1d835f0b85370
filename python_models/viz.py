"""Pictures of predictions (Pillow) and the Pd-Fa plot (matplotlib, imported when it is drawn)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw

from python_models.files import atomic_write

if TYPE_CHECKING:
    from irstd_ext.targets import Curve

TRUE, FOUND = (60, 220, 90), (255, 70, 60)
Boxes = Sequence[tuple[int, int, int, int]]


def to_grey8(image: np.ndarray) -> np.ndarray:
    """Image (H, W) in [0, 1] stretched between its 0.1 and 99.9 percentile for the eye, uint8; its brightest points saturate."""
    low, high = np.percentile(image, (0.1, 99.9))
    if not high > low:
        low, high = float(image.min()), max(float(image.max()), float(image.min()) + 1e-6)
    return (np.clip((image - low) / (high - low), 0, 1) * 255 + 0.5).astype(np.uint8)


def overlay(image: np.ndarray, found: Boxes, true: Boxes = (), scale: int = 1, labels: Sequence[str] = ()) -> Image.Image:
    """Image (H, W) in [0, 1] with found targets boxed red and true ones green; boxes (x, y, w, h) are drawn with a margin.

    >>> overlay(np.zeros((20, 30)), [(4, 5, 3, 3)]).size
    (30, 20)
    """
    height, width = image.shape
    picture = Image.fromarray(to_grey8(image)).convert("RGB").resize((width * scale, height * scale), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(picture)
    for boxes, colour, margin in ((true, TRUE, 5), (found, FOUND, 3)):
        for x, y, w, h in boxes:
            corners = (x - margin) * scale, (y - margin) * scale, (x + w + margin) * scale - 1, (y + h + margin) * scale - 1
            draw.rectangle(corners, outline=colour)
    for text, (x, y, _, h) in zip(labels, found):
        draw.text((x * scale, (y + h + 3) * scale), text, fill=FOUND)
    return picture


def contact_sheet(tiles: Sequence[tuple[Image.Image, str]], columns: int = 4, side: int = 256) -> Image.Image:
    """Captioned pictures in a grid, each fitted into a square of ``side`` pixels.

    >>> contact_sheet([(Image.new("RGB", (30, 20)), "a")] * 5, columns=4, side=64).size
    (276, 176)
    """
    if not tiles:
        raise ValueError("contact_sheet: tiles must hold a picture, got none")
    gap, caption = 4, 18
    rows, columns = math.ceil(len(tiles) / columns), min(columns, len(tiles))
    sheet = Image.new("RGB", (columns * (side + gap) + gap, rows * (side + gap + caption) + gap), (24, 24, 28))
    draw = ImageDraw.Draw(sheet)
    for i, (picture, text) in enumerate(tiles):
        x, y = gap + (i % columns) * (side + gap), gap + (i // columns) * (side + gap + caption)
        factor = side / max(picture.size)
        size = tuple(max(1, round(v * factor)) for v in picture.size)
        sheet.paste(picture.resize(size, Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.BILINEAR), (x, y))
        draw.text((x + 2, y + side + 2), text, fill=(230, 230, 230))
    return sheet


def quantise(score: np.ndarray, low: float, high: float, levels: int = 96) -> np.ndarray:
    """Scores rounded down to ``levels`` steps between low and high: a curve of a picture needs no more thresholds."""
    return np.floor(np.clip((score - low) / (high - low), 0, 1) * levels) / levels


Line = tuple[np.ndarray, np.ndarray]
Point = tuple[float, float]
_FLOOR = 1e-7


def plot_curves(curves: Mapping[str, Curve], path: Path, marks: Mapping[str, Point] | None = None) -> None:
    """Draw Pd over Fa of named curves to a PNG; ``marks`` are operating points (Fa, Pd) at threshold 0.5."""
    plot_pd_fa(path, {name: (curve.fa, curve.pd) for name, curve in curves.items()}, marks or {}, "threshold 0.5")


def plot_pd_fa(path: Path, lines: Mapping[str, Line], marks: Mapping[str, Point], circle: str) -> None:
    """Draw named lines (Fa, Pd) to a PNG, Fa on a log scale, with a circle at each of ``marks``."""
    labels = "Fa, false-alarm pixels per pixel (0 drawn at 1e-7)", "Pd, share of targets found (protocol exact)"
    _plot(path, lines, marks, circle, labels)


def plot_roc(path: Path, lines: Mapping[str, Line], marks: Mapping[str, Point], circle: str) -> None:
    """Draw the pixel ROC as named lines (FPR, TPR) to a PNG, FPR on a log scale, with a circle at each of ``marks``."""
    _plot(path, lines, marks, circle, ("FPR, share of background pixels predicted (0 drawn at 1e-7)", "TPR, share of target pixels predicted"))


def _plot(path: Path, lines: Mapping[str, Line], marks: Mapping[str, Point], circle: str, labels: tuple[str, str]) -> None:
    """Raises ImportError with the command that installs matplotlib where it is missing."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError('plot: matplotlib is not installed; run: pip install "irstd_ext[viz]"') from None
    figure = Figure(figsize=(6.4, 4.8), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.add_subplot()
    for i, (name, (x, y)) in enumerate(lines.items()):
        axes.plot(np.maximum(x, _FLOOR), y, ".-", color=f"C{i}", markersize=3 if len(x) < 300 else 0, linewidth=1, label=name)
        if name in marks:
            axes.plot(max(marks[name][0], _FLOOR), marks[name][1], "o", color=f"C{i}", markersize=9, fillstyle="none", markeredgewidth=2)
    axes.set(xscale="log", xlim=(_FLOOR, 1), ylim=(-0.02, 1.02), xlabel=labels[0], ylabel=labels[1])
    axes.grid(True, which="major", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=4, title=f"circle: {circle}" if marks else None)
    atomic_write(path, lambda temporary: figure.savefig(temporary, format="png"))
