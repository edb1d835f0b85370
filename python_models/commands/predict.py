"""`irstd predict`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from python_models.cli import check_run_options


@dataclass(frozen=True)
class Config:
    """Find targets in an image, or in every image of a folder; no mask is needed.

    Writes masks/NAME.png, overlays/NAME.png, and a line per target (centroid, box, area, score) in targets.jsonl and targets.csv.

    Examples:
      irstd predict runs/a image.png
      irstd predict runs/a FOLDER --out found --threshold 0.3
    """

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """run folder"""
    source: Annotated[Positional[Path], arg(metavar="IMAGE_OR_FOLDER")]
    """image or folder of images"""
    out: Path | None = None
    """folder to write (default: RUN/predictions)"""
    threshold: float = 0.5
    """probability above which a pixel is target"""
    weights: Literal["best", "last"] = "best"
    """selected weights or those of the last epoch"""
    backend: Literal["ext", "reference"] = "ext"
    """native operators, or their plain PyTorch form"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """where to run the network"""
    threads: int | None = None
    """CPU threads (default: PyTorch's choice)"""


def run(config: Config) -> int:
    """Predict; 0 when every file was read, 1 when some were not, 2 when none was."""
    from tqdm import tqdm

    from python_models.data import list_images
    from python_models.inference import Report, predict_files
    from python_models.runs import load_run

    device = check_run_options(config.device, config.threads, config.threshold)
    paths = list_images(config.source)
    net = load_run(config.run, config.weights, config.backend, device)
    out = config.out or config.run / "predictions"
    report = Report()
    for report in tqdm(predict_files(net, paths, out, config.threshold), total=len(paths), desc="predict", unit="image", dynamic_ncols=True):
        continue
    for line in report.errors:
        print(f"irstd predict: {line}", file=sys.stderr)
    print(f"{len(report.targets)} targets in {report.images} of {len(paths)} images, written to {out}")
    return 0 if not report.errors else 1 if report.images else 2
