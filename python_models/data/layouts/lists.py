"""List files: which of them make a named split, and the names they hold."""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path, PurePosixPath

from ..errors import DataError
from ..images import SUFFIXES
from .base import Part

_LIST = re.compile(r"(train|val|test|trainval)(?:_(.+))?\.txt")


def read_names(path: Path) -> dict[str, int]:
    """Names of a list file in its order, each with its line.

    A leading "/" and a known image suffix are taken off; blank lines are ignored. Raises :class:`DataError` with file and
    line for a name that climbs out of its folder (``../../etc/passwd``), for a repeated name, and for an empty or
    undecodable list.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{path}: a list of names must be UTF-8 text") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            name = clean_name(line)
        except DataError as error:
            raise DataError(f"{path}, line {number}: {error}") from None
        if name in seen:
            raise DataError(f"{path}, line {number}: {name!r} already stands on line {seen[name]}")
        seen[name] = number
    if not seen:
        raise DataError(f"{path}: the list holds no name")
    return seen


def clean_name(line: str) -> str:
    """The name a line stands for: folders by "/", none of them "..", no suffix.

    >>> clean_name("/44/1(814)"), clean_name(" Misc_1.png ")
    ('44/1(814)', 'Misc_1')
    """
    name = str(PurePosixPath("/", line.strip())).lstrip("/")
    if not name or len(name) > 1000 or ".." in name.split("/") or any(c < " " or "\x7f" <= c <= "\x9f" or c == "\\" for c in name):
        raise DataError(f"a name must stay inside its folder and separate folders by /, got {line.strip()[:80]!r}")
    suffix = next((s for s in SUFFIXES if name.lower().endswith(s)), "")
    return name[: len(name) - len(suffix)]


def find_lists(root: Path) -> dict[str, dict[str, Part]]:
    """``{split: {part: Part}}`` of all list files of a data-set folder.

    ``50_50/train.txt`` is split ``50_50``; ``img_idx/train_NAME.txt`` and ``splits/train_NAME.txt`` are split ``NAME``;
    lists beside the images are split ``root``; ``set_configs/NAME/train.txt`` inside the folder is split
    ``set_configs/NAME``, and beside it, with the folder's own name, split ``set_configs``. A split whose name is taken is
    called ``FOLDER/NAME``.
    """
    whole = root.resolve()
    folders = [(root, "root"), *((p, p.name) for p in sorted(root.iterdir()) if p.is_dir())]
    nested = root / "set_configs"
    if nested.is_dir():
        folders += [(p, f"set_configs/{p.name}") for p in sorted(nested.iterdir()) if p.is_dir()]
    here = Path(os.path.abspath(root))
    beside = here.parent / "set_configs" / here.name
    if beside.is_dir():
        folders.append((beside, "set_configs"))
    found: dict[str, dict[str, Part]] = {}
    for folder, label in folders:
        splits: dict[str, dict[str, Part]] = {}
        for path in sorted(folder / name for name in os.listdir(folder) if _LIST.fullmatch(name)):
            if path.is_file():
                part, name = _LIST.fullmatch(path.name).groups()
                read = read_names if not path.is_symlink() or path.resolve().is_relative_to(whole) else _refuse
                splits.setdefault(name or label, {})[part] = Part(path, partial(read, path))
        for name, parts in splits.items():
            found[name if name not in found else f"{label}/{name}"] = parts
    return found


def _refuse(path: Path) -> dict[str, int]:
    raise DataError(f"{path}: is a link that leads out of the data set; give the list itself as the split")
