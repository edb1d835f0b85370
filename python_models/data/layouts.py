"""Where a data set keeps its images and masks. One class per layout; :data:`LAYOUTS` is asked in order.

Files are found by listing the folders once and looking names up, so a name from a split list can never reach a file
outside them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from .errors import DataError, some
from .images import SUFFIXES

MASK_ENDINGS = ("", "_pixels0")  # looked up in this order


@dataclass(frozen=True)
class Pair:
    """One example: ``name`` is the image's stem."""

    name: str
    image: Path
    mask: Path


def index_folder(folder: Path) -> dict[str, Path]:
    """Image files of one folder by stem. Where a stem comes with two suffixes, the one earlier in SUFFIXES counts."""
    best: dict[str, tuple[int, Path]] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            stem, suffix = os.path.splitext(entry.name)
            if suffix.lower() not in SUFFIXES or stem.startswith(".") or not entry.is_file():
                continue
            candidate = (SUFFIXES.index(suffix.lower()), folder / entry.name)
            best[stem] = min(best.get(stem, candidate), candidate)
    return {stem: best[stem][1] for stem in sorted(best)}


class ImagesMasks:
    """``images/NAME.png`` with ``masks/NAME.png`` or ``masks/NAME_pixels0.png`` (SIRST v1, NUDT-SIRST, DNANet, BasicIRSTD)."""

    def __init__(self, root: Path):
        self.root = root
        self.images = index_folder(root / "images")
        self._masks = index_folder(root / "masks")
        if not self.images:
            raise DataError(f"{root / 'images'}: holds no image ({', '.join(SUFFIXES)})")

    @staticmethod
    def matches(root: Path) -> bool:
        return (root / "images").is_dir() and (root / "masks").is_dir()

    def mask(self, name: str) -> Path | None:
        return next((self._masks[name + end] for end in MASK_ENDINGS if name + end in self._masks), None)

    def pairs(self, names: list[str]) -> list[Pair]:
        """Every name with its two files. Raises :class:`DataError` that names what is missing."""
        for kind, missing in (
            ("image", [n for n in names if n not in self.images]),
            ("mask", [n for n in names if self.mask(n) is None]),
        ):
            if missing:
                raise DataError(f"{self.root / (kind + 's')}: no {kind} for {len(missing)} of {len(names)} names: {some(missing)}")
        return [Pair(name, self.images[name], self.mask(name)) for name in names]


LAYOUTS = (ImagesMasks,)


def find_layout(root: str | PathLike) -> ImagesMasks:
    """The layout of a data-set folder. Raises :class:`DataError` where none fits."""
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    for layout in LAYOUTS:
        if layout.matches(root):
            return layout(root)
    inside = sorted(p.name for p in root.iterdir() if p.is_dir() and any(k.matches(p) for k in LAYOUTS))
    hint = f"; data sets inside it: {some(inside)}" if inside else ""
    raise DataError(f"{root}: a data set needs the folders images and masks{hint}")


def list_images(source: str | PathLike) -> list[Path]:
    """One image file, or every image of a folder sorted by name (what ``predict`` takes; no masks wanted).

    Raises :class:`DataError` for a path that does not exist and for a folder without images.
    """
    source = Path(source)
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise DataError(f"{source}: no such file or folder")
    found = sorted(p for p in source.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file() and p.name[0] != ".")
    if not found:
        raise DataError(f"{source}: holds no image ({', '.join(SUFFIXES)})")
    return found
