"""Reading image files exactly: the stored numbers, their full scale, and grey values in [0, 1].

PNG, BMP and JPEG are decoded by Pillow, TIFF by tifffile, ``.npy`` by NumPy. The format is taken from the first
bytes, never from the suffix. Every failure is one :class:`DataError` line that names the file.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from .errors import DataError, one_line
from .png import check_rows, is_deep_colour, read_deep_colour

SUFFIXES = (".png", ".bmp", ".jpg", ".jpeg", ".tif", ".tiff", ".npy")
MAX_PIXELS = 80_000_000  # per file, unless IRSTD_MAX_PIXELS says otherwise; a header that asks for more is refused before anything is allocated
SATURATED = 0.01  # share of an image's pixels at full scale above which it is named
FULL_SCALE = {"b": 1, "u1": 255, "u2": 65535, "i1": 127, "i2": 32767}

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_NPY = b"\x93NUMPY"
_PILLOW = {b"\x89PNG\r\n\x1a\n": PngImageFile, b"BM": BmpImageFile, b"\xff\xd8": JpegImageFile}


@dataclass(frozen=True)
class RawImage:
    """The numbers of a file as stored.

    ``values``: (H, W) or (H, W, C) with C = 3 (alpha is dropped, a palette is looked up); ``full_scale``: the value that means
    1.0, or None where the dtype does not tell (float, 32-bit integers); ``mode``: what the file calls itself.
    """

    values: np.ndarray
    full_scale: float | None
    mode: str


def read_image(path: str | PathLike, full_scale: float | None = None, page: int | None = None) -> np.ndarray:
    """Grey image of a file as float32 (H, W) in [0, 1].

    Integers are divided by ``full_scale`` (default: the maximum of the stored type: 1, 255 or 65535, or 2**bits - 1 of
    a TIFF that states 2 to 15 bits), so 14-bit data in a 16-bit PNG wants ``full_scale=16383``. Floats must lie in
    [0, 1] already, or be brought there by ``full_scale``. Colour is the mean of R, G and B; alpha is ignored.
    ``page`` picks a page (from 0) of a TIFF with several.

    Raises :class:`DataError` for a file that is missing, broken, too large or of several pages without ``page``, for
    values that are not finite, negative or above the full scale (nothing is clipped), and for a ``full_scale`` above what
    the file's type can hold, with which the image would silently be dark.

    >>> read_image("images/Misc_1.png").shape  # doctest: +SKIP
    (212, 303)
    """
    raw = read_raw(path, page)
    return to_unit(raw, path, full_scale)


def to_unit(raw: RawImage, path: str | PathLike, full_scale: float | None = None) -> np.ndarray:
    """``raw`` as float32 (H, W) in [0, 1] by the rules of :func:`read_image`; ``path`` is for messages."""
    values = raw.values
    scale = full_scale if full_scale is not None else raw.full_scale
    kind = values.dtype.kind
    if scale is None and kind == "f":
        scale = 1.0
    if scale is None:
        raise DataError(f"{path}: {values.dtype} values have no known full scale, give full_scale (--full-scale)")
    if not (np.isfinite(scale) and scale > 0):
        raise DataError(f"{path}: full_scale must be > 0 and finite, got {full_scale}")
    if raw.full_scale is not None and scale > raw.full_scale:
        raise DataError(f"{path}: full_scale (--full-scale) must be <= {raw.full_scale:g}, the largest value of its type, got {scale:g}")
    if values.size == 0:
        raise DataError(f"{path}: the image has no pixels, its shape is {values.shape}")
    low, high = values.min(), values.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise DataError(f"{path}: holds values that are not finite")
    if low < 0 or high > scale:
        raise DataError(f"{path}: values must lie in 0..{scale:g} (another full scale: full_scale, --full-scale), got {low:g}..{high:g}")
    if values.ndim == 2:
        # An integer below 2**24 over an integer: one correctly rounded float32 division.
        wide = np.float32 if kind != "f" and high < 1 << 24 else np.float64
        return (values.astype(wide) / wide(scale)).astype(np.float32)
    return (values.sum(axis=2, dtype=np.float64) / (values.shape[2] * float(scale))).astype(np.float32)


def saturation(image: np.ndarray) -> float:
    """Share of the pixels of an image in [0, 1] that are at full scale, 0.0 where that is no more than ``SATURATED``."""
    share = float((image == 1).mean())
    return share if share > SATURATED else 0.0


def read_raw(path: str | PathLike, page: int | None = None) -> RawImage:
    """The numbers of a file as stored; see :class:`RawImage`. Raises :class:`DataError`."""
    return _open(path, page, "values")


def image_size(path: str | PathLike, page: int | None = None) -> tuple[int, int]:
    """(height, width) from the header, without decoding a pixel. Raises :class:`DataError`."""
    return _open(path, page, "size")


def page_count(path: str | PathLike) -> int:
    """Pages of a TIFF, 1 for every other image; no pixel is decoded. Raises :class:`DataError`.

    >>> [read_image("stack.tif", page=k) for k in range(page_count("stack.tif"))]  # doctest: +SKIP
    """
    return _open(path, None, "count")


def _open(path: str | PathLike, page: int | None, want: str) -> Any:
    path = Path(path)
    try:
        kind = os.stat(path).st_mode
        if not stat.S_ISREG(kind):  # opening a FIFO would wait for a writer
            raise DataError(f"{path}: must be an image file, this is a {'folder' if stat.S_ISDIR(kind) else 'special file'}")
        with open(path, "rb") as file:
            head = file.read(32)
        if not head:
            raise DataError(f"{path}: the file is empty")
        if head.startswith(_TIFF):
            from .tiff import open_tiff

            return open_tiff(path, page, want)
        if page:
            raise DataError(f"{path}: page {page} was asked for but only a TIFF has pages")
        found = _open_npy(path, want) if head.startswith(_NPY) else _open_pillow(path, head, want)
        return 1 if want == "count" else found
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or one_line(error)}") from None
    except Exception as error:  # decoders raise anything on hostile bytes; the user gets the file and the reason
        raise DataError(f"{path}: cannot be read: {one_line(error)}") from None


def check_pixels(path: Path, height: int, width: int) -> None:
    """Raises before anything of that size is allocated."""
    text = os.environ.get("IRSTD_MAX_PIXELS", "")
    if text and not (text.isdecimal() and int(text)):
        raise DataError(f"IRSTD_MAX_PIXELS must be a positive whole number, got {text!r}")
    limit = int(text or MAX_PIXELS)
    if height * width > limit:
        raise DataError(f"{path}: at most {limit} pixels are read (IRSTD_MAX_PIXELS sets another limit), the header says {width} x {height}")


def _open_npy(path: Path, want: str) -> Any:
    values = np.load(path, mmap_mode="r", allow_pickle=False)
    if values.ndim not in (2, 3) or values.ndim == 3 and values.shape[2] not in (1, 3, 4):
        raise DataError(f"{path}: an array must be H x W or H x W x 1, 3 or 4, got {values.shape}")
    check_pixels(path, *values.shape[:2])
    return from_array(np.array(values), path, "npy") if want == "values" else values.shape[:2]


def from_array(values: np.ndarray, path: Path, mode: str, bits: int | None = None) -> RawImage:
    """A decoded array as a :class:`RawImage`: native byte order, alpha dropped, full scale from the dtype or ``bits``."""
    kind = values.dtype.kind
    if kind not in "buif":
        raise DataError(f"{path}: values must be numbers, got {values.dtype}")
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if values.ndim == 3:
        values = values[:, :, 0] if values.shape[2] in (1, 2) else values[:, :, :3]
    full = float((1 << bits) - 1) if bits and kind == "u" else None
    if full is None:
        full = FULL_SCALE.get(kind if kind == "b" else f"{kind}{values.dtype.itemsize}")
    return RawImage(values, full, mode)


def _open_pillow(path: Path, head: bytes, want: str) -> Any:
    plugin = next((p for start, p in _PILLOW.items() if head.startswith(start)), None)
    if plugin is None:
        raise DataError(f"{path}: not a PNG, BMP, JPEG, TIFF or .npy file")
    with open(path, "rb") as file, plugin(file) as image:  # not Image.open, whose own limit on pixels is one for the whole process
        check_pixels(path, image.height, image.width)
        if want != "values":
            return image.height, image.width
        if plugin is PngImageFile and is_deep_colour(head):
            raw = from_array(read_deep_colour(path, head), path, "16-bit colour")
        else:
            raw = _decode_pillow(image, path)
    if plugin is PngImageFile and not raw.values[-1].any():
        check_rows(path)
    return raw


def _decode_pillow(image: Image.Image, path: Path) -> RawImage:
    mode = image.mode
    if mode in ("P", "PA", "CMYK"):
        return from_array(np.asarray(image.convert("RGB")), path, mode)
    if mode == "I":  # how some Pillow versions open a 16-bit grey PNG
        return from_array(np.asarray(image).astype(np.uint16 if image.format == "PNG" else np.int32), path, mode)
    if mode in ("1", "L", "LA", "RGB", "RGBA", "F") or mode.startswith("I;16"):
        return from_array(np.asarray(image), path, mode)
    raise DataError(f"{path}: images of mode {mode} are not read")
