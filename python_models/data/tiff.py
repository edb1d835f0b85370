"""TIFF files through tifffile: any integer or float samples, several pages, stated bit depths."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import numpy as np
from PIL import Image

from .errors import DataError
from .images import RawImage, check_pixels, from_array

_MIN_IS_WHITE, _PALETTE = 0, 3


def open_tiff(path: Path, page: int | None, decode: bool):
    """A :class:`RawImage` (``decode``) or (height, width). ``page`` must be given where there are several."""
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # it logs what it also raises
    with tifffile.TiffFile(path) as tif:
        series = tif.series[0]
        first = series.keyframe
        height, width = first.imagelength, first.imagewidth
        planar = series.axes.startswith("S")
        leading = series.shape[: series.axes.index("Y")]
        count = 1 if planar else math.prod(leading)
        if page is None and count != 1:
            raise DataError(f"{path}: holds {count} pages, choose one with page=")
        if page is not None and not 0 <= page < count:
            raise DataError(f"{path}: page must be in 0..{count - 1}, got {page}")
        check_pixels(path, height, width)
        if not decode:
            return height, width
        check_pixels(path, height * count, width)
        if first.compression != 1 and not _decodable(first):
            return _through_pillow(path, first, page or 0)
        values = series.asarray()
        if planar:
            values = np.moveaxis(values, 0, -1)
        elif leading:
            values = values.reshape(count, *series.shape[len(leading):])[page or 0]
        return _interpret(values, first, path)


def _interpret(values: np.ndarray, first, path: Path) -> RawImage:
    if first.photometric == _PALETTE and first.colormap is not None:
        return from_array(np.moveaxis(first.colormap[:, values], 0, -1), path, "TIFF palette")
    bits = first.bitspersample
    odd_depth = bits if isinstance(bits, int) and bits not in (1, 8, 16, 32, 64) else None
    raw = from_array(values, path, f"TIFF {values.dtype}", odd_depth)
    if first.photometric == _MIN_IS_WHITE and raw.full_scale:
        return RawImage((raw.full_scale - raw.values).astype(raw.values.dtype), raw.full_scale, raw.mode)
    return raw


def _decodable(first) -> bool:
    try:
        import imagecodecs  # noqa: F401 - tifffile needs it for LZW, JPEG and the like

        return True
    except ImportError:
        return first.compression in (8, 32946)  # deflate, which Python's zlib does


def _through_pillow(path: Path, first, page: int) -> RawImage:
    """Pillow knows LZW, PackBits and JPEG inside TIFF; it is exact for 8 bits and for 16-bit grey."""
    if first.samplesperpixel != 1 and first.bitspersample > 8:
        raise DataError(f"{path}: compressed colour TIFF above 8 bits needs the package imagecodecs")
    with Image.open(path, formats=("TIFF",)) as image:
        image.seek(page)
        if image.mode == "P":
            image = image.convert("RGB")
        return from_array(np.asarray(image), path, f"TIFF {image.mode}")
