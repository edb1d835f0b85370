"""Which names a part of a split holds, the validation part carved where none is given, and the hash that goes with every result."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from .errors import DataError, some
from .layouts import Layout, Part, find_layout
from .layouts.lists import read_names

PARTS = ("train", "val", "test", "trainval")
VAL_FRACTION = 0.15  # of the train list, where a split brings no validation list


def split_hash(names: Iterable[str]) -> str:
    """First 16 hex digits of the SHA-256 of the sorted names, each followed by a newline.

    >>> split_hash(["b", "a"]) == split_hash(["a", "b"])
    True
    """
    return hashlib.sha256("".join(f"{n}\n" for n in sorted(names)).encode(errors="surrogateescape")).hexdigest()[:16]


def carve_val(names: list[str], fraction: float = VAL_FRACTION, seed: int = 0) -> tuple[list[str], list[str]]:
    """(train, val): ``fraction`` of the names, at least one, by the order of SHA-256("seed:name").

    The choice depends on the names and the seed only: not on the list's order, the platform or a library's version.
    """
    if len(names) < 2:
        raise DataError(f"a validation part needs a train list of at least 2 names, got {len(names)}")
    ranked = sorted(names, key=lambda n: hashlib.sha256(f"{seed}:{n}".encode(errors="surrogateescape")).digest())
    chosen = set(ranked[: max(1, round(fraction * len(names)))])
    return [n for n in names if n not in chosen], [n for n in names if n in chosen]


@dataclass(frozen=True)
class Chosen:
    """The names of one part, the lists they came from, and a sentence where the part was invented."""

    split: str
    part: str
    names: list[str]
    sources: tuple[Part, ...]
    note: str | None = None

    def where(self, name: str) -> str:
        """The list and line, or the folder, that brings ``name``."""
        return next(s.where(name) for s in self.sources if name in s.read())


def choose(layout: Layout, split: str | PathLike | None, part: str | None, val_seed: int = 0) -> Chosen:
    """The names of one part of a named split, or of a list file.

    ``split``: a name among ``layout.splits()``, None where there is one only, or the path of a list file (``.txt``), which
    is a test part. ``part``: default "train", of a list file "test". ``val`` where the split has no val list is a seeded
    15 % of train, and ``train`` leaves those out; ``trainval`` is the trainval list, else train and val together. No name
    is ever taken from test. Raises :class:`DataError` where training and test, or train and val, share a name.
    """
    if part not in (None, *PARTS):
        raise DataError(f"open_dataset: part must be one of {', '.join(PARTS)}, got {part!r}")
    splits = layout.splits()
    if split is not None and split not in splits and (isinstance(split, PathLike) or split.endswith(".txt")):
        return _list_file(Path(split), part)
    if split is None:
        if len(splits) != 1:
            raise DataError(f"{layout.root}: {'say which split' if splits else 'holds no split'}: {_known(splits)}")
        split = next(iter(splits))
    if split not in splits:
        raise DataError(f"{layout.root}: split must be one of: {_known(splits)}; got {str(split)!r}")
    sources = splits[split]
    lists = {p: s.names() for p, s in sources.items()}
    _check_disjoint(f"{layout.root} split {split}", lists)
    part = part or "train"
    if part == "test":
        if "test" not in lists:
            raise DataError(f"{layout.root}: split {split} has no test list")
        return Chosen(split, part, lists["test"], (sources["test"],))
    train = lists.get("train") or lists.get("trainval")
    if train is None:
        raise DataError(f"{layout.root}: split {split} has neither a train nor a trainval list")
    names, note = train, None
    if part == "trainval":
        names = lists.get("trainval") or train + lists.get("val", [])
    elif "val" in lists:
        held = set(lists["val"])
        names = lists["val"] if part == "val" else [n for n in train if n not in held]
    else:
        try:
            kept, held_out = carve_val(train, seed=val_seed)
        except DataError as error:
            raise DataError(f"{(sources.get('train') or sources['trainval']).source}: {error}") from None
        names = held_out if part == "val" else kept
        note = f"no val list: {len(held_out)} of its {len(train)} training names, drawn by seed {val_seed}, are held out as val"
    return Chosen(split, part, names, tuple(sources[p] for p in ("train", "trainval", "val") if p in sources), note)


def part_names(root: str | PathLike, split: str | PathLike | None, part: str, val_seed: int = 0) -> tuple[str, list[str]]:
    """(split name, names of one part) by the rules of :func:`open_dataset`, without looking at a file of the images."""
    chosen = choose(find_layout(root), split, part, val_seed)
    return chosen.split, chosen.names


def _list_file(path: Path, part: str | None) -> Chosen:
    if part not in (None, "test"):
        raise DataError(f"{path}: a list file is a test part, for part {part!r} give a named split")
    if not path.is_file():
        raise DataError(f"{path}: no such list file")
    source = Part(path, lambda: read_names(path))
    return Chosen(path.name, "test", source.names(), (source,))


def _known(splits: Iterable[str]) -> str:
    return some(sorted(splits), 20) or "none (list files such as 50_50/train.txt make one)"


def _check_disjoint(where: str, lists: dict[str, list[str]]) -> None:
    for one, two in (("train", "test"), ("val", "test"), ("trainval", "test"), ("train", "val")):
        shared = sorted(set(lists.get(one, ())) & set(lists.get(two, ())))
        if shared:
            raise DataError(f"{where}: the {one} and {two} lists share {len(shared)} names: {some(shared)}")
