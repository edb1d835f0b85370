"""`irstd predict`."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Literal, get_args

from tyro.conf import Positional, arg

from python_models.cli import UsageError, check_run_options, parse as parse_arguments

Output = Literal["masks", "scores", "logits", "overlays", "targets"]
OUTPUTS = get_args(Output)


@dataclass(frozen=True)
class Config:
    """Find targets in images, folders, videos and stacks with a trained run; no mask is needed.

    A SOURCE is an image (PNG, BMP, JPEG, TIFF, .npy), a folder, a quoted pattern, or a .txt list of paths. Every page of a TIFF and
    every array of an .npy stack is a frame. Writes masks/NAME.png, overlays/NAME.png, and a line per target (centroid, box, area,
    score) in targets.jsonl and targets.csv. More in docs/prediction.md.

    Examples:
      irstd predict runs/a image.png
      irstd predict runs/a FOLDER --out found --threshold 0.3
      irstd predict runs/a "video/**/*.png" list.txt --outputs masks scores targets
      irstd predict runs/a stack.tif --full-scale 16383 --tile 256
    """

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """run folder"""
    source: Annotated[Positional[tuple[str, ...]], arg(metavar="SOURCE...")]
    """images, folders, patterns or lists"""
    out: Path | None = None
    """folder to write (default: RUN/predictions)"""
    outputs: tuple[Output, ...] = ("masks", "overlays", "targets")
    """what to write; scores are 16-bit maps of the probability, logits exact .npy files"""
    overwrite: bool = False
    """replace the predictions in the folder"""
    recursive: bool = False
    """also the folders inside a folder"""
    full_scale: float | None = None
    """value that means 1.0: 16383 for 14-bit data in 16-bit files, or that of float counts (default: the largest of the file's type)"""
    threshold: float = 0.5
    """probability above which a pixel is target"""
    tile: int | None = None
    """cut images into tiles of this side instead of resizing them (fixed input size) or taking them whole"""
    halo: int | None = None
    """context around each tile in pixels (default: what the network needs)"""
    overlap: int | None = None
    """pixels in which neighbouring tiles are blended (default: 0, or a quarter of the tile where tiles cannot equal the whole image)"""
    batch: int = 1
    """images or tiles of one size that a GPU takes at once"""
    precision: Literal["fp32", "bf16"] = "fp32"
    """arithmetic of the network; bf16 is mixed precision"""
    weights: Literal["best", "last"] = "best"
    """selected weights or those of the last epoch"""
    backend: Literal["ext", "reference"] = "ext"
    """native operators, or their plain PyTorch form"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """where to run the network"""
    threads: int | None = None
    """CPU threads (default: PyTorch's choice)"""


def parse(args: Sequence[str]) -> Config:
    """Parse ``args``; a source after --outputs, which takes it for one more of them, is named as such."""
    try:
        return parse_arguments(Config, args, "irstd predict")
    except UsageError:
        words = list(args[args.index("--outputs") + 1 :]) if "--outputs" in args else []
        for word in takewhile(lambda w: not w.startswith("-"), words):
            if word not in OUTPUTS and (os.path.exists(word) or glob.has_magic(word)):
                raise UsageError(f"outputs: {word} is a path; sources come before --outputs, as in irstd predict RUN {word} --outputs masks") from None
        raise


def run(config: Config) -> int:
    """Predict; 0 when every file was read, 1 when some were not, 2 when none was."""
    from tqdm import tqdm

    from python_models.inference import Predictor, find_frames, predict_files
    from python_models.runs import load_run, versions

    device = check_run_options(config.device, config.threads, config.threshold)
    if config.full_scale is not None and not config.full_scale > 0:
        raise ValueError(f"full_scale must be > 0, got {config.full_scale}")
    if not config.source:
        raise ValueError("source must name an image, a folder, a pattern or a list, got nothing")
    frames, errors = find_frames(config.source, config.recursive)
    for line in errors:
        _complain(line)
    if not frames:
        return 2
    predictor = Predictor(load_run(config.run, config.weights, config.backend, device), config.tile, config.halo, config.overlap,
                          config.batch, config.precision)
    out = config.out or config.run / "predictions"
    about = {"run": config.run, "weights": config.weights, "backend": config.backend, "device": device, "versions": versions()}
    results = predict_files(predictor, frames, out, config.threshold, config.outputs, config.full_scale, config.overwrite, about, errors)
    if predictor.note:
        print(f"note: {predictor.note}")
    images = targets = unread = peak = shrunk = saturated = 0
    largest, large, brightest, bright = (0, 0), "", 0.0, ""
    try:
        for result in tqdm(results, total=len(frames), desc="predict", unit="image", dynamic_ncols=True, disable=None):
            if result.error is not None:
                unread += 1
                _complain(result.error)
                continue
            images, targets = images + 1, targets + len(result.targets)
            peak = max(peak, result.peak16 or 0)
            if result.shrunk:
                shrunk += 1
                if max(result.shrunk) > max(largest):
                    largest, large = result.shrunk, result.frame.label
            if result.saturated:
                saturated += 1
                if result.saturated > brightest:
                    brightest, bright = result.saturated, result.frame.label
    except KeyboardInterrupt:
        if images:
            _complain(f"stopped after {images} of {len(frames)} images, which are in {out}; their targets in targets.jsonl.partial")
        raise
    if shrunk:
        size, such = predictor.net.input_size, f" (one of {shrunk} such images)" if shrunk > 1 else ""
        print(f"note: {_shown(large)} is {largest[0]}x{largest[1]}{such}, the network sees {size}x{size}: small targets vanish; "
              f"--tile {size} works at native size")
    if saturated:
        such = f" (one of {saturated} such images)" if saturated > 1 else ""
        print(f"note: {_shown(bright)} has {100 * brightest:.1f} % of its pixels at full scale{such}, where what is brighter is lost")
    if 0 < peak < 1 << 14:
        print(f"note: no 16-bit image exceeds {peak} of 65535; for data of fewer bits give --full-scale, such as 16383 for 14")
    if images:
        print(f"{targets} targets in {images} of {images + unread + len(errors)} images, written to {_shown(out)}")
    return 0 if not unread and not errors else 1 if images else 2


def _shown(name: str | Path) -> str:
    """A name for the screen, also one that is no UTF-8."""
    return str(name).encode(errors="backslashreplace").decode()


def _complain(error: str) -> None:
    from tqdm import tqdm

    tqdm.write(f"irstd predict: {error}", file=sys.stderr)
