"""What every layout gives: images by name, the mask of each, and named splits made of parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Pair:
    """One example: a name of the data set with its two files."""

    name: str
    image: Path
    mask: Path


@dataclass(frozen=True)
class Part:
    """One part of a split. ``source``: the list file, or the folder of images, that says which names belong to it."""

    source: Path
    read: Callable[[], dict[str, int]]

    def names(self) -> list[str]:
        """The names in the order of the list (of a folder: sorted). Raises :class:`DataError` for a list that cannot be used."""
        return list(self.read())

    def where(self, name: str) -> str:
        """The list and line, or the folder, that brings ``name``."""
        line = self.read().get(name)
        return f"{self.source}, line {line}" if line else str(self.source)


@dataclass(frozen=True)
class Room:
    """A folder of images and the folder of their masks.

    ``part``: the part of the data set that this folder is, where folders make the split. An image is a file whose stem ends
    in ``ending``; its mask's stem is the image's with ``ending`` replaced by the first of ``mask_endings`` that is there.
    """

    images: Path
    masks: Path
    part: str = ""
    ending: str = ""
    mask_endings: tuple[str, ...] = ("", "_pixels0")
