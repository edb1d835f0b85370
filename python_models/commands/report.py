"""`irstd report`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg


@dataclass(frozen=True)
class Config:
    """Write one HTML page about a run, or about several side by side: configuration, curves, metrics, operating points, misses and false alarms.

    The page holds all it shows and works without a network. It is made from the run folder alone; the pictures of the
    gallery come from the images that were judged.

    Examples:
      irstd report runs/a
      irstd report runs/a --gallery 24 --title "Tiny SGEM U-Net, first look"
      irstd report runs/a runs/b --out comparison.html
    """

    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN")]
    """run folders, or the folder of a training from several seeds"""
    out: Path | None = None
    """page to write, ending in .html (default: RUN/report.html; to be given for several runs)"""
    title: str | None = None
    """title of the page (default: network and data)"""
    gallery: int = 12
    """how many misses, and how many false alarms, are shown; 0 for none"""


def run(config: Config) -> int:
    """Write the page and say where it is."""
    from python_models.report import write_report

    if len(config.runs) != 1 and config.out is None:
        raise ValueError(f"out must be given for {len(config.runs)} runs, got none" if config.runs else "runs must hold a run folder, got none")
    out = config.out or config.runs[0] / "report.html"
    size = write_report(config.runs, out, config.title, config.gallery)
    print(f"written to {out}: {size / 1e6:.2f} MB")
    return 0
