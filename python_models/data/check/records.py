"""Reading one image with its mask into a few figures and a thumbnail, so that a whole data set fits into memory."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from irstd_ext import targets

from ..errors import DataError
from ..images import RawImage, read_raw, to_unit
from ..masks import binarise

THUMB = 64  # px; a thumbnail and its detail are 8 KB
_CLIP = 3.0  # robust standard deviations
_PLAIN = ("L", "npy", "TIFF")  # modes that are no news with 8 bits


@dataclass(frozen=True)
class ImageRecord:
    """An image in figures.

    ``mode``: the file's own word and, beyond 8 bits, its type; ``odd``: whether that is worth a note; ``deep``: 16 bits without a word on
    how many are used; ``top``: the greatest grey value over full scale, and ``at_top`` the share of pixels that have it;
    ``colour``: greatest difference of two channels, over full scale; ``digest``: of the pixels, the same for grey and for three
    equal channels; ``thumb``: int8 (2, 64, 64), area means and what their 9 x 9 means leave, each to its own scale, or None for a
    flat image.
    """

    size: tuple[int, int]
    mode: str
    odd: bool
    deep: bool
    constant: bool
    top: float
    at_top: float
    colour: float
    digest: bytes
    thumb: np.ndarray | None = field(repr=False)


@dataclass(frozen=True)
class MaskRecord:
    """A mask in figures: ``areas`` of its 8-connected components in px."""

    size: tuple[int, int]
    mode: str
    odd: bool
    grey: bool
    faint: bool
    areas: tuple[int, ...]


@dataclass(frozen=True)
class Record:
    """One name. A file that cannot be read has its reason in ``image_error`` or ``mask_error``; no mask at all leaves both empty."""

    name: str
    image: ImageRecord | None
    mask: MaskRecord | None
    image_error: str = ""
    mask_error: str = ""


def read_record(name: str, image: Path, mask: Path | None, full_scale: float | None) -> Record:
    """Reads both files once; never raises for what is in them."""
    errors, made = {"image": "", "mask": ""}, {"image": None, "mask": None}
    for kind, path, read in (("image", image, lambda p: _image(p, full_scale)), ("mask", mask, _mask)):
        if path is None:
            continue
        try:
            made[kind] = read(path)
        except DataError as error:
            errors[kind] = str(error)
    return Record(name, made["image"], made["mask"], errors["image"], errors["mask"])


def _image(path: Path, full_scale: float | None) -> ImageRecord:
    raw = read_raw(path)
    grey = to_unit(raw, path, full_scale)
    values, colour = raw.values, 0.0
    if values.ndim == 3:
        differ = float((values.max(axis=2).astype(np.float64) - values.min(axis=2)).max())
        colour = differ / (full_scale or raw.full_scale or 1.0)
        values = values if differ else values[:, :, 0]
    digest = hashlib.blake2b(f"{values.shape} {values.dtype}".encode() + np.ascontiguousarray(values).tobytes(), digest_size=16).digest()
    top = float(grey.max())
    at_top = float((grey == np.float32(top)).mean())
    return ImageRecord(grey.shape, *_mode(raw), raw.full_scale == 65535, bool(grey.min() == top), top, at_top, colour, digest, _thumb(grey))


def _mask(path: Path) -> MaskRecord:
    raw = read_raw(path)
    mask = binarise(raw, path)
    areas = np.bincount(targets.label(mask.values)[0].ravel())[1:]
    mode, odd = _mode(raw)
    return MaskRecord(mask.values.shape, mode, odd and mode != "1", mask.grey, mask.faint, tuple(areas.tolist()))


def _mode(raw: RawImage) -> tuple[str, bool]:
    wide = raw.values.dtype.itemsize > 1
    word = raw.mode.split()[0]
    return f"{word} {raw.values.dtype}" if wide else word, wide or raw.values.ndim == 3 or word not in _PLAIN


def _thumb(grey: np.ndarray) -> np.ndarray | None:
    small = _clip(np.array(Image.fromarray(grey).resize((THUMB, THUMB), Image.Resampling.BOX)))
    wide = F.avg_pool2d(torch.from_numpy(small)[None], 9, 1, 4, count_include_pad=False)[0].numpy()
    both = np.stack([small - small.mean(), _clip(small - wide)])
    peak = np.abs(both).max(axis=(1, 2), keepdims=True)
    return np.rint(both * (127 / peak)).astype(np.int8) if peak.all() else None


def _clip(values: np.ndarray) -> np.ndarray:
    """``values`` within 3 robust standard deviations (1.4826 times the median deviation) of their median, so that a target more
    or less does not make two takes of one scene differ. Where more than half is flat they stay as they are."""
    middle = np.median(values)
    spread = _CLIP * 1.4826 * np.median(np.abs(values - middle))
    return np.clip(values, middle - spread, middle + spread) if spread > 0 else values
