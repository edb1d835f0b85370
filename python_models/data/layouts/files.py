"""Listing image files by name, without following links that lead out of the data set."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

from ..errors import DataError
from ..images import SUFFIXES


@dataclass(frozen=True)
class Index:
    """Image files below a folder by name: the path in it, "/" between folders, without suffix.

    ``outside``: links to files outside ``folder`` and the data set's root; they are never opened. ``behind``: files whose name
    another one has already, by its suffix.
    """

    folder: Path
    files: dict[str, Path] = field(default_factory=dict)
    outside: dict[str, Path] = field(default_factory=dict)
    behind: list[Path] = field(default_factory=list)

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted([*self.files, *self.outside])


def index_folder(folder: Path, root: Path | None = None) -> Index:
    """Lists ``folder`` and the folders in it. Where a name comes with two suffixes, the one earlier in SUFFIXES counts.

    ``folder`` itself may be a link. Links to folders inside it are not followed.
    """
    homes = tuple(os.path.join(os.path.realpath(p), "") for p in (folder, root or folder))
    best: dict[str, tuple[int, Path, bool]] = {}
    behind: list[Path] = []
    rooms = [(folder, "")]
    while rooms:
        room, prefix = rooms.pop()
        with os.scandir(room) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    rooms.append((room / entry.name, f"{prefix}{entry.name}/"))
                    continue
                stem, suffix = os.path.splitext(entry.name)
                if suffix.lower() not in SUFFIXES or not (entry.is_symlink() or entry.is_file()):  # is_file fails for a link to itself
                    continue
                inside = not entry.is_symlink() or os.path.realpath(entry.path).startswith(homes)
                candidate = (SUFFIXES.index(suffix.lower()), room / entry.name, inside)
                name = prefix + stem
                first, *rest = sorted((candidate, *([best[name]] if name in best else [])))
                best[name] = first
                behind += [path for _, path, _ in rest]
    found = Index(folder, behind=behind)
    for name in sorted(best):
        _, path, inside = best[name]
        (found.files if inside else found.outside)[name] = path
    return found
