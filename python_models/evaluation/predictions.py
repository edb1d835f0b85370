"""Anybody's masks, score maps or logits, one file per image, as something to judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

from python_models.data.errors import DataError, some
from python_models.data.images import RawImage, check_pixels, from_array, read_raw

SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".npy")
Kind = Literal["mask", "scores", "logits"]
KINDS = ("mask", "scores", "logits")
RESIZES = ("nearest", "bilinear")


@dataclass(frozen=True)
class Facts:
    """What a file holds: values, their range, and the only value above 0 where there is just one."""

    path: Path
    dtype: np.dtype
    full_scale: float | None
    low: float
    high: float
    single: float | None
    size: tuple[int, int]

    @property
    def is_mask(self) -> bool:
        """0 with at most one other value, which is 1, 255 or full scale."""
        return self.low == 0 == self.high or self.single in (1, 255, self.full_scale or 255)


@dataclass(frozen=True)
class PredictionFiles:
    """One prediction file per image name. ``kind``: how the numbers are read; ``unused``: other files of the folder.

    ``mask``: above 0 is target. ``scores``: in [0, 1], integers divided by the full scale of their type. ``logits``: floats.
    """

    folder: Path
    paths: Mapping[str, Path]
    kind: Kind
    described: str
    unused: tuple[Path, ...] = ()
    resize: Literal["nearest", "bilinear"] | None = None

    @property
    def input(self) -> Literal["logits", "scores"]:
        """What the numbers of :meth:`read` are to the metrics."""
        return "logits" if self.kind == "logits" else "scores"

    def read(self, name: str, size: tuple[int, int]) -> np.ndarray:
        """Numbers [H, W] of ``size`` for one image: float32, or float64 where float32 would round the file's.

        Raises :class:`DataError` for another size without ``resize``.
        """
        path = self.paths[name]
        raw = _read(path)
        values = raw.values
        if self.kind == "mask":
            values = (values > 0).astype(np.float32)
        elif values.dtype.kind in "bui":
            values = values / np.float64(raw.full_scale or 1)  # correctly rounded: 51 / 255 is not above a threshold of 0.2
        elif values.dtype != np.float64:
            values = values.astype(np.float32)
        if values.shape != size:
            if self.resize is None:
                raise DataError(_wrong_sizes([(path, values.shape, size)], 1))
            values = _resized(values, size, self.resize)
        return np.ascontiguousarray(values)


def open_predictions(folder: Path, sizes: Mapping[str, tuple[int, int]], input: Literal["auto", "mask", "scores", "logits"] = "auto",
                     suffix: str = "", resize: Literal["nearest", "bilinear"] | None = None) -> PredictionFiles:
    """The predictions of the images named in ``sizes`` (height, width): NAME + ``suffix`` + .png, .bmp, .tif, .tiff or .npy.

    Every file is read once here, and how its numbers are meant is decided for all files together. Raises
    :class:`DataError`, one line, for a missing or doubled file, values that are not finite, a size that differs from the
    image's without ``resize``, and for numbers that ``input`` does not allow, or "auto" cannot tell apart.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(Path(folder) / "a.npy", np.eye(4))
    ...     files = open_predictions(Path(folder), {"a": (4, 4)})
    ...     files.kind, files.read("a", (4, 4)).sum().item()
    ('mask', 4.0)
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"predictions: {folder} must be a folder, got a file" if folder.exists() else f"predictions: folder {folder} does not exist")
    paths, unused = _find(folder, list(sizes), suffix)
    facts = {name: _look(path) for name, path in paths.items()}
    wrong = [f.path for f in facts.values() if not (np.isfinite(f.low) and np.isfinite(f.high))]
    if wrong:
        raise DataError(f"predictions: {len(wrong)} of {len(paths)} files hold values that are not finite: {_names(wrong)}")
    sized = [(f.path, f.size, sizes[name]) for name, f in facts.items() if f.size != tuple(sizes[name])]
    if sized and resize is None:
        raise DataError(_wrong_sizes(sized, len(paths)))
    kind = _decide(list(facts.values())) if input == "auto" else input
    _check(list(facts.values()), kind)
    types = ", ".join(f"{count} {dtype}" for dtype, count in sorted(Counter(str(f.dtype) for f in facts.values()).items()))
    low, high = min(f.low for f in facts.values()), max(f.high for f in facts.values())
    described = f"{len(paths)} files read as {kind}{' (decided from their values)' if input == 'auto' else ''}: {types}, values {low:g} .. {high:g}"
    return PredictionFiles(folder, paths, kind, described + (f"; {len(sized)} resized ({resize})" if sized else ""), tuple(unused), resize)


def _find(folder: Path, names: Sequence[str], suffix: str) -> tuple[dict[str, Path], list[Path]]:
    """(file of each name, files of the folder that belong to none)."""
    inside: dict[str, list[Path]] = {}
    for where in sorted({(folder / name).parent for name in names}):
        for path in sorted(where.iterdir()) if where.is_dir() else ():
            if path.is_file() and not path.name.startswith("."):
                stem = path.stem if path.suffix.lower() in SUFFIXES else path.name
                inside.setdefault(str(where / stem), []).append(path)
    wanted = {name: inside.get(str(folder / (name + suffix)), []) for name in names}
    missing = [name for name, found in wanted.items() if not found]
    if missing:
        hint = _suffix_hint(folder / missing[0], inside)
        raise DataError(f"predictions: {folder} has no file for {len(missing)} of {len(names)} images: {some(missing)} "
                        f"(NAME{suffix} and one of {', '.join(SUFFIXES)}{hint})")
    doubled = [f"{found[0].name} and {found[1].name}" for found in wanted.values() if len(found) > 1]
    if doubled:
        raise DataError(f"predictions: {folder} has more than one file for {len(doubled)} of {len(names)} images: {some(doubled)}")
    paths = {name: found[0] for name, found in wanted.items()}
    return paths, sorted({p for found in inside.values() for p in found} - set(paths.values()))


def _suffix_hint(missing: Path, inside: Iterable[str]) -> str:
    """The suffix that would find a file, where the folder tells."""
    tails = [stem[len(str(missing)) :] for stem in inside if stem.startswith(str(missing))]
    tails = sorted((t for t in tails if "." not in t and not t[:1].isdigit()), key=len)
    return "" if not tails else f"; {missing.name}{tails[0]} is there, " + (f"give --suffix {tails[0]}" if tails[0] else "leave --suffix out")


def _look(path: Path) -> Facts:
    raw = _read(path)
    values = raw.values
    if values.size == 0:
        raise DataError(f"{path}: the prediction has no pixels, its shape is {values.shape}")
    low, high = float(values.min()), float(values.max())
    single = high if np.isfinite(high) and high > 0 and bool(((values == 0) | (values == high)).all()) else None
    return Facts(path, values.dtype, raw.full_scale, low, high, single, (values.shape[0], values.shape[1]))


def _read(path: Path) -> RawImage:
    """One channel of a file. Grey stored as colour is taken as grey, [1, H, W] and [1, 1, H, W] arrays as [H, W]; real colour is no prediction."""
    raw = _single(path) or read_raw(path)
    if raw.values.ndim == 2:
        return raw
    first = raw.values[:, :, 0]
    if not (raw.values == first[:, :, None]).all():
        raise DataError(f"{path}: a prediction must be grey, this file holds colour ({raw.mode})")
    return RawImage(first, raw.full_scale, raw.mode)


def _single(path: Path) -> RawImage | None:
    """An array of one batch and one channel, as networks give it; None for anything else."""
    if path.suffix.lower() != ".npy":
        return None
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception:  # anything, on hostile bytes; read_raw says what is wrong with the file
        return None
    if not isinstance(values, np.ndarray) or values.ndim < 3 or any(n != 1 for n in values.shape[:-2]) or values.ndim == 3 and values.shape[2] in (1, 3, 4):
        return None
    check_pixels(path, *values.shape[-2:])
    return from_array(np.array(values).reshape(values.shape[-2:]), path, "npy")


def _decide(facts: Sequence[Facts]) -> Kind:
    """The only reading that fits all files. Raises :class:`DataError` where there is none, or more than one."""
    kinds = sorted({str(f.dtype) for f in facts})
    if all(f.is_mask for f in facts):
        held = {f.single for f in facts if f.single is not None and f.dtype.kind in "ui"}
        if len(held) > 1:
            one = next(f.path.name for f in facts if f.single == 1)
            full = next(f.path.name for f in facts if f.single not in (None, 1))
            raise _untold(f"{one} holds 0 and 1, {full} 0 and {max(held):g}; give --input mask (above 0 is target) or --input scores")
        return "mask"
    low, high = min(f.low for f in facts), max(f.high for f in facts)
    if all(f.dtype.kind == "f" for f in facts):
        if low < 0 or high > 1:
            raise _untold(f"values {low:g} .. {high:g} are no scores in [0, 1]; give --input logits if they are logits")
        return "scores"
    if len(kinds) > 1:
        raise _untold(f"the files are {' and '.join(kinds)}; give --input mask, scores or logits")
    held = {f.single for f in facts if f.high > 0}
    if len(held) == 1 and None not in held:
        raise _untold(f"the values are 0 and {high:g}, a mask holds 0 and 1 or 0 and full scale; give --input scores to divide by full scale")
    if facts[0].dtype.itemsize > 1 and high <= 255:
        raise _untold(f"{kinds[0]} files with values up to {high:g} may be 8-bit scores; store them as 8 bits, or give --input scores to divide by full scale")
    return "scores"


def _untold(why: str) -> DataError:
    return DataError(f"predictions: input cannot be told: {why}")


def _check(facts: Sequence[Facts], kind: Kind) -> None:
    """Every file must hold what ``kind`` says."""
    rules = {
        "mask": ("0 and one of 1, 255 and full scale", lambda f: f.is_mask),
        "logits": ("floating-point numbers", lambda f: f.dtype.kind == "f"),
        "scores": ("numbers in [0, 1] or integers of 8 or 16 bits",
                   lambda f: f.low >= 0 and (f.high <= 1 if f.dtype.kind == "f" else f.full_scale is not None)),
    }
    rule, holds = rules[kind]
    wrong = [f for f in facts if not holds(f)]
    if wrong:
        f = wrong[0]
        raise DataError(f"predictions: {kind} must be {rule}; {len(wrong)} of {len(facts)} files are not: {f.path.name} is {f.dtype}, {f.low:g} .. {f.high:g}")


def _resized(values: np.ndarray, size: tuple[int, int], how: str) -> np.ndarray:
    x = torch.from_numpy(np.ascontiguousarray(values))[None, None]
    mode = {"mode": "nearest-exact"} if how == "nearest" else {"mode": "bilinear", "align_corners": False}
    return F.interpolate(x, size=size, **mode)[0, 0].numpy()


def _names(paths: Sequence[Path]) -> str:
    return some([p.name for p in paths])


def _wrong_sizes(wrong: Sequence[tuple[Path, tuple[int, ...], tuple[int, int]]], total: int) -> str:
    said = some([f"{path.name} is {has[1]} x {has[0]}, its image {want[1]} x {want[0]}" for path, has, want in wrong], 3)
    return f"predictions: {len(wrong)} of {total} files differ in size from their image: {said}; --resize-predictions nearest or bilinear resizes them"
