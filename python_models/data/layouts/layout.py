"""A data-set folder as it lies: every room of it under one set of names."""

from __future__ import annotations

from collections import Counter
from functools import partial
from os import PathLike
from pathlib import Path

from ..errors import DataError, some
from ..images import SUFFIXES
from .base import Pair, Part, Room
from .files import Index, index_folder
from .kinds import LAYOUTS
from .lists import find_lists

FOLDERS = "folders"  # the split that folders make


class Layout:
    """Images, masks and splits of one data-set folder. Nothing is decoded, and no name reaches a file outside.

    ``name``: which layouts were found; ``root``; ``images``: every image by name. A name is the file's path inside its folder
    of images, without suffix; where a part's folder (``test/images``) shares a name with another folder, all names of that
    part begin with the part (``test/000001``). Made by :func:`find_layout`.
    """

    def __init__(self, root: Path, name: str, rooms: list[Room]):
        self.root, self.name = root, name
        self.images: dict[str, Path] = {}
        self._masks: dict[str, Path] = {}
        self._outside: set[str] = set()
        self._parts: dict[str, tuple[Path, list[str]]] = {}
        self._orphans: set[Path] = set()
        self._behind: set[Path] = set()
        indexed = [(room, index_folder(room.images, root), index_folder(room.masks, root)) for room in rooms]
        stems = Counter(s for room, images, _ in indexed for s in images.names() if s.endswith(room.ending))
        for room, images, masks in indexed:
            own = [s for s in images.names() if s.endswith(room.ending)]
            prefix = f"{room.part}/" if room.part and any(stems[s] > 1 for s in own) else ""
            if room.part:
                self._parts.setdefault(room.part, (room.images, []))[1].extend(prefix + s for s in own)
            self._behind.update(images.behind, masks.behind)
            self._orphans.update(p for s, p in masks.files.items() if s.endswith(room.mask_endings))
            for stem in own:
                self._add(prefix + stem, stem, room, images, masks)
        self._orphans.difference_update(self._masks.values())
        if not self.images and not self._outside:
            raise DataError(f"{' and '.join(str(r.images) for r in rooms)}: holds no image ({', '.join(SUFFIXES)})")

    def _add(self, name: str, stem: str, room: Room, images: Index, masks: Index) -> None:
        if name in self.images or name in self._outside:
            raise DataError(f"{self.root}: two images are called {name}: {self.images.get(name)} and {images.files.get(stem)}")
        tried = [stem[: len(stem) - len(room.ending)] + end for end in room.mask_endings]
        mask = next((t for t in tried if t in masks.files or t in masks.outside), "")
        if stem in images.files:
            self.images[name] = images.files[stem]
        if mask in masks.files:
            self._masks[name] = masks.files[mask]
        if stem in images.outside or mask in masks.outside:
            self._outside.add(name)

    def mask(self, name: str) -> Path | None:
        """The mask file of an image, or None."""
        return self._masks.get(name)

    def orphan_masks(self) -> list[Path]:
        """Mask files that belong to no image, sorted."""
        return sorted(self._orphans)

    def behind_others(self) -> list[Path]:
        """Image and mask files that are not used because another file has their name by an earlier suffix, sorted."""
        return sorted(self._behind)

    def splits(self) -> dict[str, dict[str, Part]]:
        """``{split: {part: Part}}`` with the parts the folder states, among "train", "val", "test", "trainval"."""
        found = find_lists(self.root)
        if self._parts:
            parts = {p: Part(folder, partial(dict.fromkeys, names, 0)) for p, (folder, names) in self._parts.items()}
            found[FOLDERS if FOLDERS not in found else f"{FOLDERS}/{FOLDERS}"] = parts
        return found

    def faults(self, names: list[str]) -> dict[str, str]:
        """``{name: what is missing}`` of the names that have no image or no mask to use."""
        found = {}
        for name in names:
            if name in self._outside:
                found[name] = "no file inside the data set (a link leads out of it)"
            elif name not in self.images:
                found[name] = "no image"
            elif name not in self._masks:
                found[name] = "no mask"
        return found

    def pairs(self, names: list[str]) -> list[Pair]:
        """Every name with its two files, in the order given. Raises :class:`DataError` that names what is missing."""
        faults = self.faults(names)
        if faults:
            raise DataError(f"{self.root}: {describe_faults(faults, len(names))}")
        return [Pair(name, self.images[name], self._masks[name]) for name in names]


def describe_faults(faults: dict[str, str], total: int) -> str:
    """``no image for 2 of 22 names: ghost, spook``."""
    by_kind: dict[str, list[str]] = {}
    for name, fault in faults.items():
        by_kind.setdefault(fault, []).append(name)
    return "; ".join(f"{fault} for {len(names)} of {total} names: {some(names)}" for fault, names in by_kind.items())


def _rooms(root: Path) -> dict[str, list[Room]]:
    found = {k.name: [r for r in k.rooms(root) if r.images.is_dir() and r.masks.is_dir()] for k in LAYOUTS}
    return {name: rooms for name, rooms in found.items() if rooms}


def find_layout(root: str | PathLike) -> Layout:
    """The images, masks and splits of a data-set folder, whichever of the known layouts it has (several together too).

    Raises :class:`DataError`, one line, where none fits.

    >>> layout = find_layout("NUAA-SIRST")  # doctest: +SKIP
    >>> layout.mask("Misc_1").name, sorted(layout.splits())  # doctest: +SKIP
    ('Misc_1_pixels0.png', ['50_50', 'idx_427'])
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: {'must be a folder' if root.exists() else 'no such folder'}")
    try:
        found = _rooms(root)
        if found:
            return Layout(root, "+".join(found), [room for rooms in found.values() for room in rooms])
        inside = sorted(p.name for p in root.iterdir() if p.is_dir() and _rooms(p))
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read: {error.strerror}") from None
    hint = f"; data sets inside it: {some(inside)}" if inside else ""
    raise DataError(f"{root}: no known layout of a data set (such as folders images and masks){hint}")
