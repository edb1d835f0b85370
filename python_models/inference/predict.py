"""Targets in images nobody has labelled."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from python_models.data.images import saturation

from .logits import Predictor
from .outputs import Output, Writer, check_out
from .sources import Frame, read_frame

DEFAULT_OUTPUTS: tuple[Output, ...] = ("masks", "overlays", "targets")


@dataclass
class Result:
    """What became of a frame: its target lines, or the line that says why there are none."""

    frame: Frame
    targets: list[dict[str, Any]] = field(default_factory=list)
    error: str | None = None
    peak16: int | None = None
    """highest number of an image that holds whole 16-bit numbers, where no full scale was given"""
    shrunk: tuple[int, int] | None = None
    """height and width of an image of which the network sees less than half of either"""
    saturated: float = 0.0
    """share of the image's pixels at full scale, where that is more than 1 %"""


def predict_files(predictor: Predictor, frames: Sequence[Frame], out: Path, threshold: float = 0.5, outputs: Collection[Output] = DEFAULT_OUTPUTS,
                  full_scale: float | None = None, overwrite: bool = False, about: Mapping[str, Any] | None = None,
                  unread: Sequence[str] = ()) -> Iterator[Result]:
    """Predict ``frames`` into the folder ``out`` and yield the result of each, in order, when its files are written.

    ``out`` gets ``masks/NAME.png`` (0 and 255), ``scores/NAME.png`` (16 bit, see :func:`quantise_scores`), ``logits/NAME.npy``
    (float32), ``overlays/NAME.png``, ``targets.jsonl`` and ``targets.csv`` as ``outputs`` say, and ``predictions.json``: ``about``, the settings, the counts,
    and ``failed``, a line for each source that is no image (``unread``, from :func:`find_frames`) or could not be predicted.
    A frame that cannot be read is a result with an error, and the others go on; an error of writing is raised.

    Raises ValueError or OSError before anything is read for a threshold outside (0, 1), unknown outputs, or an ``out`` that
    holds a source image, something else than predictions, or predictions without ``overwrite``.

    >>> net = load_run("runs/a")  # doctest: +SKIP
    >>> frames, errors = find_frames(["video/"])  # doctest: +SKIP
    >>> for result in predict_files(Predictor(net, tile=512), frames, Path("found")):  # doctest: +SKIP
    ...     print(result.frame.name, len(result.targets))
    """
    if not 0.0 < threshold < 1.0:
        raise ValueError(f"predict: threshold must lie in (0, 1), got {threshold}")
    tiles = None if predictor.tiles is None else dict(zip(("tile", "halo", "overlap"), predictor.tiles))
    writer = Writer(out, outputs, {**(about or {}), "threshold": threshold, "full_scale": full_scale, "tiles": tiles, "precision": predictor.precision})
    check_out(out, frames, overwrite)
    return _predict(predictor, frames, writer, threshold, full_scale, unread)


def _predict(predictor: Predictor, frames: Sequence[Frame], writer: Writer, threshold: float, full_scale: float | None,
             unread: Sequence[str]) -> Iterator[Result]:
    images, targets, failed = 0, 0, list(unread)
    for first in range(0, len(frames), predictor.batch):
        results, pixels = [], []
        for frame in frames[first : first + predictor.batch]:
            result, image = Result(frame), None
            try:
                image, raw = read_frame(frame, full_scale)
                result.shrunk, result.saturated = _shrunk(predictor, image), saturation(image)
                if full_scale is None and raw.full_scale == 65535:
                    result.peak16 = int(raw.values.max())
            except (OSError, ValueError) as error:
                result.error = " ".join(str(error).split())
            results.append(result)
            pixels.append(image)
        logits = _logits(predictor, results, pixels)
        for result, image, scores in zip(results, pixels, logits):
            if result.error is None:
                result.targets = writer.write(result.frame, image, scores, threshold)
                images, targets = images + 1, targets + len(result.targets)
            else:
                failed.append(result.error)
            yield result
    writer.finish({"images": images, "of": images + len(failed), "targets": targets, "failed": failed})


def _shrunk(predictor: Predictor, image: np.ndarray) -> tuple[int, int] | None:
    size = predictor.net.input_size
    return image.shape[:2] if size and predictor.tiles is None and max(image.shape[:2]) > 2 * size else None


def _logits(predictor: Predictor, results: list[Result], pixels: list[np.ndarray | None]) -> list[Tensor | None]:
    """Logits of the frames that were read; what the network cannot take becomes that frame's error."""
    found: list[Tensor | None] = [None] * len(results)
    read = [i for i, image in enumerate(pixels) if image is not None]
    images = {i: torch.from_numpy(np.ascontiguousarray(pixels[i], dtype=np.float32))[None] for i in read}
    try:
        for i, scores in zip(read, predictor([images[i] for i in read])):
            found[i] = scores
    except (ValueError, RuntimeError):
        for i in read:  # one of them; which, shows alone
            try:
                found[i] = predictor([images[i]])[0]
            except (ValueError, RuntimeError) as error:
                results[i].error = f"{results[i].frame.label}: {_reason(error, images[i])}"
    for i in read:
        if found[i] is not None and torch.isnan(found[i]).any():
            results[i].error = f"{results[i].frame.label}: the network's logits must be numbers, got NaN"
    return found


def _reason(error: Exception, image: Tensor) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, ValueError):
        return text
    if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in text:
        return f"not enough memory for {image.shape[-2]}x{image.shape[-1]} pixels at once; use --tile, or a smaller one"
    raise error
