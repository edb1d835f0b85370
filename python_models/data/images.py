"""Reading image files exactly: the stored numbers, their full scale, and grey values in [0, 1].

PNG, BMP and JPEG are decoded by Pillow, TIFF by tifffile, ``.npy`` by NumPy. The format is taken from the first
bytes, never from the suffix. Every failure is one :class:`DataError` line that names the file.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from PIL import Image

from .errors import DataError, one_line

SUFFIXES = (".png", ".bmp", ".jpg", ".jpeg", ".tif", ".tiff", ".npy")
MAX_PIXELS = 80_000_000  # per file; a header that asks for more is refused before anything is allocated
FULL_SCALE = {"b": 1, "u1": 255, "u2": 65535, "i1": 127, "i2": 32767}

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_NPY = b"\x93NUMPY"
_PNG = b"\x89PNG\r\n\x1a\n"
_PIL_FORMATS = ("PNG", "BMP", "JPEG", "TIFF")


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
    a TIFF that states 9 to 15 bits), so 14-bit data in a 16-bit PNG wants ``full_scale=16383``. Floats must lie in
    [0, 1] already, or be brought there by ``full_scale``. Colour is the mean of R, G and B; alpha is ignored.
    ``page`` picks a page of a TIFF with several.

    Raises :class:`DataError` for a file that is missing, broken, too large or of several pages without ``page``, and for
    values that are not finite, negative or above the full scale: nothing is clipped.

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
        raise DataError(f"{path}: {values.dtype} values have no known full scale, give full_scale=")
    if not (np.isfinite(scale) and scale > 0):
        raise DataError(f"{path}: full_scale must be > 0, got {full_scale}")
    if values.size == 0:
        raise DataError(f"{path}: the image has no pixels, its shape is {values.shape}")
    low, high = values.min(), values.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise DataError(f"{path}: holds values that are not finite")
    if low < 0 or high > scale:
        raise DataError(f"{path}: values must lie in 0..{scale:g} (give full_scale=), got {low:g}..{high:g}")
    if values.ndim == 2:
        # An integer below 2**24 over an integer: one correctly rounded float32 division.
        wide = np.float32 if kind != "f" and high < 1 << 24 else np.float64
        return (values.astype(wide) / wide(scale)).astype(np.float32)
    return (values.sum(axis=2, dtype=np.float64) / (values.shape[2] * float(scale))).astype(np.float32)


def read_raw(path: str | PathLike, page: int | None = None) -> RawImage:
    """The numbers of a file as stored; see :class:`RawImage`. Raises :class:`DataError`."""
    return _open(path, page, decode=True)


def image_size(path: str | PathLike) -> tuple[int, int]:
    """(height, width) from the header, without decoding a pixel. Raises :class:`DataError`."""
    return _open(path, None, decode=False)


def _open(path: str | PathLike, page: int | None, decode: bool):
    path = Path(path)
    try:
        with open(path, "rb") as file:
            head = file.read(32)
        if not head:
            raise DataError(f"{path}: the file is empty")
        if page is not None and not head.startswith(_TIFF):
            raise DataError(f"{path}: page={page} was given but only a TIFF has pages")
        if head.startswith(_TIFF):
            from .tiff import open_tiff

            return open_tiff(path, page, decode)
        if head.startswith(_NPY):
            return _open_npy(path, decode)
        return _open_pillow(path, head, decode)
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except Image.UnidentifiedImageError:
        raise DataError(f"{path}: not a PNG, BMP, JPEG, TIFF or .npy file") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DataError(f"{path}: the header asks for more than {MAX_PIXELS} pixels") from None
    except Exception as error:  # decoders raise anything on hostile bytes; the user gets the file and the reason
        raise DataError(f"{path}: cannot be read: {one_line(error)}") from None


def check_pixels(path: Path, height: int, width: int) -> None:
    """Raises before anything of that size is allocated."""
    if height * width > MAX_PIXELS:
        raise DataError(f"{path}: at most {MAX_PIXELS} pixels are read, the header says {width} x {height}")


def _open_npy(path: Path, decode: bool):
    values = np.load(path, mmap_mode="r", allow_pickle=False)
    if values.ndim not in (2, 3) or values.ndim == 3 and values.shape[2] not in (1, 3, 4):
        raise DataError(f"{path}: an array must be H x W or H x W x 1, 3 or 4, got {values.shape}")
    check_pixels(path, *values.shape[:2])
    return from_array(np.array(values), path, "npy") if decode else values.shape[:2]


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


def _open_pillow(path: Path, head: bytes, decode: bool):
    # Pillow gives 16-bit colour as 8 bits without a word, so such a file is refused rather than read wrongly.
    if head.startswith(_PNG) and head[24] == 16 and head[25] != 0:
        raise DataError(f"{path}: a 16-bit PNG must be grey, this one has colour or alpha; store it as TIFF or grey PNG")
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        image = Image.open(path, formats=_PIL_FORMATS)
    with image:
        check_pixels(path, image.height, image.width)
        return _decode_pillow(image, path) if decode else (image.height, image.width)


def _decode_pillow(image: Image.Image, path: Path) -> RawImage:
    mode = image.mode
    if mode in ("P", "PA", "CMYK"):
        return from_array(np.asarray(image.convert("RGB")), path, mode)
    if mode == "I":  # how some Pillow versions open a 16-bit grey PNG
        return RawImage(np.asarray(image), 65535.0 if image.format == "PNG" else None, mode)
    if mode in ("1", "L", "LA", "RGB", "RGBA", "F") or mode.startswith("I;16"):
        return from_array(np.asarray(image), path, mode)
    raise DataError(f"{path}: images of mode {mode} are not read")
