"""Named splits: folders of name lists (``idx_427/train.txt``), their parts, and the hash that goes with every result."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from .errors import DataError, some
from .images import SUFFIXES

PARTS = ("train", "val", "test", "trainval")
VAL_FRACTION = 0.15  # of the train list, where a split brings no validation list


def split_hash(names: Iterable[str]) -> str:
    """First 16 hex digits of the SHA-256 of the sorted names, each followed by a newline.

    >>> split_hash(["b", "a"]) == split_hash(["a", "b"])
    True
    """
    return hashlib.sha256("".join(f"{n}\n" for n in sorted(names)).encode()).hexdigest()[:16]


def discover_splits(root: Path) -> dict[str, dict[str, Path]]:
    """``{split: {part: list file}}`` for every folder of ``root`` that holds a train or trainval list, or a test list."""
    found = {}
    for folder in sorted(p for p in root.iterdir() if p.is_dir()):
        lists = {part: folder / f"{part}.txt" for part in PARTS if (folder / f"{part}.txt").is_file()}
        if lists:
            found[folder.name] = lists
    return found


def read_names(path: Path) -> list[str]:
    """Names of a list file in its order; a known image suffix is taken off, blank lines are ignored.

    Raises :class:`DataError` with file and line for a name that is not a plain file stem (so ``../../etc/passwd`` is
    refused), for a repeated name, and for an empty or undecodable list.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{path}: a list of names must be UTF-8 text") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        name = line.strip()
        if not name:
            continue
        if any(c in name for c in "/\\\0") or name in (".", ".."):
            raise DataError(f"{path}, line {number}: a name must be a plain file name without folders, got {name[:80]!r}")
        for suffix in SUFFIXES:
            if name.lower().endswith(suffix):
                name = name[: -len(suffix)]
                break
        if name in seen:
            raise DataError(f"{path}, line {number}: {name!r} already stands on line {seen[name]}")
        seen[name] = number
    if not seen:
        raise DataError(f"{path}: the list holds no name")
    return list(seen)


def carve_val(names: list[str], fraction: float = VAL_FRACTION, seed: int = 0) -> tuple[list[str], list[str]]:
    """(train, val): ``fraction`` of the names, at least one, by the order of SHA-256("seed:name").

    The choice depends on the names and the seed only: not on the list's order, the platform or a library's version.
    """
    if len(names) < 2:
        raise DataError(f"a validation part needs a train list of at least 2 names, got {len(names)}")
    ranked = sorted(names, key=lambda n: hashlib.sha256(f"{seed}:{n}".encode()).digest())
    chosen = set(ranked[: max(1, round(fraction * len(names)))])
    return [n for n in names if n not in chosen], [n for n in names if n in chosen]


def part_names(root: Path, split: str | None, part: str, val_seed: int = 0) -> tuple[str, list[str]]:
    """(split name, names of one part).

    ``split=None`` takes the only split there is. ``val`` where the split has no val list is a seeded 15 % of train, and
    ``train`` leaves those out; ``trainval`` is the trainval list, else train and val together. No list is ever taken
    from test. Raises :class:`DataError` where training and test, or train and val, share a name.
    """
    if part not in PARTS:
        raise DataError(f"open_dataset: part must be one of {', '.join(PARTS)}, got {part!r}")
    splits = discover_splits(root)
    known = some(sorted(splits), 20) or "none"
    if split is None and len(splits) == 1:
        split = next(iter(splits))
    if split not in splits:
        raise DataError(f"{root}: split must be one of: {known}; got {split!r}")
    lists = {p: read_names(f) for p, f in splits[split].items()}
    train = lists.get("train") or lists.get("trainval")
    if part == "test":
        if "test" not in lists:
            raise DataError(f"{root / split}: has no test.txt")
        names = lists["test"]
    elif train is None:
        raise DataError(f"{root / split}: has neither train.txt nor trainval.txt")
    elif part == "trainval":
        names = lists.get("trainval") or train + lists.get("val", [])
    elif "val" in lists and "train" in lists:
        names = lists[part]
    elif "val" in lists:
        names = lists["val"] if part == "val" else [n for n in train if n not in set(lists["val"])]
    else:
        names = carve_val(train, seed=val_seed)[part == "val"]
    _check_disjoint(root / split, lists)
    return split, names


def _check_disjoint(folder: Path, lists: dict[str, list[str]]) -> None:
    for one, two in (("train", "test"), ("val", "test"), ("trainval", "test"), ("train", "val")):
        shared = sorted(set(lists.get(one, ())) & set(lists.get(two, ())))
        if shared:
            raise DataError(f"{folder}: {one}.txt and {two}.txt share {len(shared)} names: {some(shared)}")
