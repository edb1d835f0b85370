"""What to predict: files, folders, patterns, lists and stacks, as an ordered list of frames with names for their outputs."""

from __future__ import annotations

import glob
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from python_models.data.errors import DataError, one_line
from python_models.data.images import SUFFIXES, RawImage, check_pixels, from_array, page_count, read_raw, to_unit

LIST = ".txt"
KINDS = ", ".join(SUFFIXES)


@dataclass(frozen=True)
class Frame:
    """One image to predict.

    ``image``: its path relative to the folder that all sources share; ``name``: that of its outputs, without a suffix;
    ``number``: its place in the order, from 1; ``page``: its place in a stack, from 1, None for a file of one image.
    """

    path: Path
    image: str
    name: str
    number: int
    page: int | None = None

    @property
    def label(self) -> str:
        """The file, and the page of a stack, for messages."""
        return str(self.path) if self.page is None else f"{self.path}, page {self.page}"


def find_frames(sources: Sequence[str | os.PathLike[str]], recursive: bool = False) -> tuple[list[Frame], list[str]]:
    """The frames of ``sources`` in order, and one error line for each thing that is no image.

    A source is an image; a folder (its images, with ``recursive`` those of its folders too); a pattern with ``*``, ``?``,
    ``[]`` or ``**``; or a .txt list with one path a line, relative to the list. Names sort naturally: frame10 after
    frame9. Every page of a TIFF and every array of an ``.npy`` stack (N, H, W) is a frame, NAME_p0001 and so on. A file
    that comes twice counts once.

    Outputs are named after the files. Where sources lie in several folders, the names keep the folders below the one
    they share; where two images would have one name (a.png, a.bmp), both keep their suffix.
    """
    files: dict[str, tuple[str, Path, int | None]] = {}  # by absolute path: its source's folder, the path, pages of a stack
    errors: list[str] = []
    for source in sources:
        for root, found in _expand(os.fspath(source), recursive):
            if isinstance(found, str):
                errors.append(found)
                continue
            key = os.path.abspath(found)
            if key in files:
                continue
            try:
                files[key] = os.path.abspath(root), found, _pages(found)
            except DataError as error:
                errors.append(str(error))
    shared = os.path.commonpath([root for root, _, _ in files.values()]) if files else ""
    relative = {key: Path(os.path.relpath(key, shared)) for key in files}
    stems = Counter(str(r.with_suffix("")).casefold() for r in relative.values())
    taken: set[str] = set()
    frames: list[Frame] = []
    for key, (_, path, pages) in files.items():
        rel = relative[key]
        name = rel.as_posix() if stems[str(rel.with_suffix("")).casefold()] > 1 else rel.with_suffix("").as_posix()
        for page in [None] if pages is None else range(1, pages + 1):
            frames.append(Frame(path, rel.as_posix(), _free(name if page is None else f"{name}_p{page:04d}", taken), len(frames) + 1, page))
    return frames, [" ".join(e.split()) for e in errors]


def read_frame(frame: Frame, full_scale: float | None = None) -> tuple[np.ndarray, RawImage]:
    """The image of a frame, float32 (H, W) in [0, 1], and the numbers as stored.

    As :func:`python_models.data.read_image`. Raises :class:`DataError`.
    """
    if frame.page is not None and _is_npy(frame.path):
        values = np.load(frame.path, mmap_mode="r", allow_pickle=False)[frame.page - 1]
        check_pixels(frame.path, *values.shape)
        raw = from_array(np.array(values), frame.path, "npy")
    else:
        raw = read_raw(frame.path, None if frame.page is None else frame.page - 1)
    return to_unit(raw, frame.label, full_scale), raw


def natural(name: str) -> tuple:
    """Sort key of a file name in which numbers count as numbers.

    >>> sorted(["f10.png", "f9.png", "F1.png"], key=natural)
    ['F1.png', 'f9.png', 'f10.png']
    """
    parts = re.split(r"([0-9]+)", name.casefold())
    return tuple(int(p) if i % 2 else p for i, p in enumerate(parts)), name


def _expand(source: str, recursive: bool) -> Iterator[tuple[str, Path | str]]:
    """(folder of the source, image file or error line) in order."""
    path = Path(source)
    problem = _problem(path)
    if not source:
        yield "", "source: must be a path, got an empty one"
    elif problem is None and path.suffix.lower() == LIST:
        yield from _listed(path)
    elif path.is_dir():
        found = list(_folder(path, recursive, set()))
        yield from ((source, f) for f in found)
        if not found:
            hint = "; --recursive looks into its folders" if not recursive and any(p.is_dir() for p in path.iterdir()) else ""
            yield source, f"{source}: holds no image ({KINDS}){hint}"
    elif glob.has_magic(source) and not os.path.lexists(source):
        root = os.path.dirname(source[: re.search(r"[*?[]", source).start()])  # type: ignore[union-attr]
        matches = map(Path, _matches(source))
        found = sorted((m for m in matches if m.suffix.lower() in SUFFIXES), key=lambda p: [natural(part) for part in p.parts])
        yield from ((root, p if (bad := _problem(p)) is None else f"{p}: {bad}") for p in found)
        if not found:
            yield root, f"{source}: the pattern matches no image ({KINDS})"
    else:
        yield str(path.parent), path if problem is None else f"{source}: {problem}"


def _folder(folder: Path, recursive: bool, above: set[str]) -> Iterator[Path | str]:
    real = os.path.realpath(folder)
    if real in above:  # a link to a folder around it
        return
    try:
        entries = sorted(folder.iterdir(), key=lambda p: natural(p.name))
    except OSError as error:
        yield f"{folder}: {error.strerror}"
        return
    for path in entries:
        if path.name.startswith("."):
            continue
        if recursive and path.is_dir():
            yield from _folder(path, recursive, above | {real})
        elif path.suffix.lower() in SUFFIXES:
            yield path if (bad := _problem(path)) is None else f"{path}: {bad}"


def _matches(pattern: str) -> Iterator[str]:
    """What a pattern matches. ``**`` goes through links to folders, except to one around them: the glob of the standard library
    would follow those in a circle, and two of them without end."""
    parts = pattern.split(os.sep)
    if "**" not in parts:
        yield from glob.iglob(pattern)
        return
    at = parts.index("**")
    head, tail = os.sep.join(parts[:at]) or os.sep * pattern.startswith(os.sep), os.sep.join(parts[at + 1 :]) or "*"
    for base in glob.iglob(head) if glob.has_magic(head) else [head]:
        for folder in _around(base, set()):
            yield from _matches(os.path.join(glob.escape(folder), tail))


def _around(folder: str, above: set[str]) -> Iterator[str]:
    """A folder and all in it but hidden ones, as :func:`_folder` goes through them."""
    real = os.path.realpath(folder)
    if real in above:
        return
    yield folder
    try:
        inside = [name for name in os.listdir(folder or os.curdir) if not name.startswith(".")]
    except OSError:  # what cannot be listed matches nothing, as in any pattern
        return
    for path in (os.path.join(folder, name) for name in inside):
        if os.path.isdir(path):
            yield from _around(path, above | {real})


def _listed(path: Path) -> Iterator[tuple[str, Path | str]]:
    root = os.path.abspath(path.parent)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        yield root, f"{path}: a list of images must be UTF-8 text"
        return
    except OSError as error:
        yield root, f"{path}: {error.strerror}"
        return
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        entry = path.parent / line.strip()
        bad = _problem(entry)
        inside = os.path.commonpath([root, os.path.abspath(entry)]) == root
        yield root if inside else os.path.dirname(os.path.abspath(entry)), entry if bad is None else f"{path}, line {number}: {line.strip()[:200]}: {bad}"
    if not any(line.strip() for line in lines):
        yield root, f"{path}: the list names no image"


def _problem(path: Path) -> str | None:
    """Why a path is no regular file; opening a pipe would wait for ever."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return "no such file or folder"
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
    if stat.S_ISDIR(mode):
        return "is a folder, not an image"
    return None if stat.S_ISREG(mode) else "is not a regular file"


def _is_npy(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(6) == b"\x93NUMPY"


def _pages(path: Path) -> int | None:
    """Frames of a stack, None for a single image. Reads headers only; raises :class:`DataError` for what is no image."""
    try:
        shape = np.load(path, mmap_mode="r", allow_pickle=False).shape if _is_npy(path) else ()
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or one_line(error)}") from None
    if len(shape) == 3 and shape[2] not in (1, 3, 4):
        if 0 in shape:
            raise DataError(f"{path}: the stack has no pixels, its shape is {shape}")
        return shape[0]
    pages = page_count(path)
    return pages if pages > 1 else None


def _free(name: str, taken: set[str]) -> str:
    """``name``, numbered where it is taken; case does not tell two files apart everywhere."""
    free, number = name, 1
    while free.casefold() in taken:
        number += 1
        free = f"{name}_{number}"
    taken.add(free.casefold())
    return free
