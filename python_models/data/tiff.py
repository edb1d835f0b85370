"""TIFF files through tifffile: any integer or float samples, one page at a time, stated bit depths."""

from __future__ import annotations

import logging
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL.TiffImagePlugin import TiffImageFile

from .errors import DataError
from .images import RawImage, check_pixels, from_array

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE = range(4)  # photometric interpretations
_DEFLATE = (8, 32946)  # compressions that Python's zlib undoes


def open_tiff(path: Path, page: int | None, want: str) -> Any:
    """A :class:`RawImage` ("values"), (height, width) ("size") or the number of pages ("count"). Where there are several
    pages ``page`` must be given; only that one is read."""
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # it logs what it also raises
    with tifffile.TiffFile(path) as tif:
        stack = None if _has(tif, 1) else _stack(tif)
        if want == "count":
            return len(tif.pages) if stack is None else stack
        if page is None:
            count = 1 if stack == 1 else len(tif.pages) if stack is None else stack
            if count != 1:
                raise DataError(f"{path}: holds {count} pages, say which by page (0..{count - 1})")
            page = 0
        if not (0 <= page and (_has(tif, page) if stack is None else page < stack)):
            raise DataError(f"{path}: page must be in 0..{(stack or len(tif.pages)) - 1}, got {page}")
        ifd = tif.pages[page if stack is None else 0]
        check_pixels(path, ifd.imagelength, ifd.imagewidth)
        if want == "size":
            return ifd.imagelength, ifd.imagewidth
        _check(ifd, path)
        if stack not in (None, 1):
            return _interpret(_frame(tif, page, stack, path), ifd, path)
        if ifd.photometric <= _PALETTE and (ifd.compression == 1 or ifd.compression in _DEFLATE):
            return _interpret(_values(ifd, path), ifd, path)
        return _through_pillow(path, ifd, page)


def _has(tif, page: int) -> bool:
    try:
        return bool(tif.pages[page])
    except IndexError:
        return False


def _stack(tif) -> int:
    """Frames behind the only directory of a file (ImageJ and MetaMorph store whole stacks so)."""
    series = tif.series[0]
    return 1 if series.axes.startswith("S") else math.prod(series.shape[: series.axes.index("Y")])


def _frame(tif, page: int, stack: int, path: Path) -> np.ndarray:
    series = tif.series[0]
    if series.dataoffset is None:
        raise DataError(f"{path}: a compressed stack behind one directory is not read, store its frames as pages")
    shape = series.shape[series.axes.index("Y"):]
    dtype = np.dtype(series.dtype).newbyteorder(tif.byteorder)
    size = math.prod(shape) * dtype.itemsize
    with open(path, "rb") as file:
        file.seek(series.dataoffset + page * size)
        data = file.read(size)
    return np.frombuffer(data, dtype).reshape(shape)


def _check(ifd, path: Path) -> None:
    """Refuses what could ask for more memory than the header's pixels, and files that end early."""
    if ifd.samplesperpixel > 4 or ifd.imagedepth != 1 or not isinstance(ifd.bitspersample, int):
        raise DataError(f"{path}: a TIFF page must be H x W with 1 to 4 equal channels, got axes {ifd.axes} of shape {ifd.shape}")
    end = path.stat().st_size
    if any(start + size > end for start, size in zip(ifd.dataoffsets, ifd.databytecounts)):
        raise DataError(f"{path}: cannot be read: the file ends before its pixels do")
    tile = (ifd.tilelength, ifd.tilewidth) if ifd.is_tiled else (min(ifd.rowsperstrip, ifd.imagelength), ifd.imagewidth)
    check_pixels(path, *tile)
    if ifd.compression in _DEFLATE:
        most = math.prod(tile) * 4 * 8  # four samples of eight bytes
        for start, size in zip(ifd.dataoffsets, ifd.databytecounts):
            if size * 1032 > most:  # deflate's highest ratio
                ifd.parent.filehandle.seek(start)
                if len(zlib.decompressobj().decompress(ifd.parent.filehandle.read(size), most + 1)) > most:
                    raise DataError(f"{path}: cannot be read: the compressed data is larger than the image it states")


def _values(ifd, path: Path) -> np.ndarray:
    bits = ifd.bitspersample
    if bits in (1, 8, 16, 32, 64):
        values = ifd.asarray()
        return np.moveaxis(values, 0, -1) if ifd.axes.startswith("S") else values
    if bits > 24 or ifd.samplesperpixel != 1 or ifd.is_tiled or ifd.predictor != 1:
        raise DataError(f"{path}: {bits}-bit TIFF samples are read only as grey strips without predictor")
    strips = []
    for number, (start, size) in enumerate(zip(ifd.dataoffsets, ifd.databytecounts)):
        ifd.parent.filehandle.seek(start)
        data = ifd.parent.filehandle.read(size)
        rows = min(ifd.rowsperstrip, ifd.imagelength - number * ifd.rowsperstrip)
        strips.append(unpack_bits(data if ifd.compression == 1 else zlib.decompress(data), rows, ifd.imagewidth, bits))
    return np.concatenate(strips)


def unpack_bits(data: bytes, rows: int, width: int, bits: int) -> np.ndarray:
    """(rows, width) of ``bits`` (at most 24) each, packed from the highest bit on; every row starts a byte."""
    stride = -(-width * bits // 8)
    packed = np.zeros((rows, stride + 3), np.uint8)
    packed[:, :stride] = np.frombuffer(data, np.uint8, rows * stride).reshape(rows, stride)
    first, offset = np.divmod(np.arange(width) * bits, 8)
    window = np.zeros((rows, width), np.uint32)
    for byte in range(4):
        window = window << 8 | packed[:, first + byte]
    return (window >> (32 - bits - offset).astype(np.uint32) & ((1 << bits) - 1)).astype(np.uint8 if bits < 8 else np.uint16 if bits < 16 else np.uint32)


def _interpret(values: np.ndarray, ifd, path: Path) -> RawImage:
    if ifd.photometric == _PALETTE and ifd.colormap is not None:
        return from_array(np.moveaxis(ifd.colormap[:, values], 0, -1), path, "TIFF palette")
    bits = ifd.bitspersample
    raw = from_array(values, path, f"TIFF {values.dtype}", bits if bits not in (1, 8, 16, 32, 64) else None)
    if ifd.photometric == _WHITE_IS_ZERO and raw.full_scale:
        white = np.array(raw.full_scale).astype(raw.values.dtype)
        return RawImage(white ^ raw.values if raw.values.dtype == bool else white - raw.values, raw.full_scale, raw.mode)
    return raw


def _through_pillow(path: Path, ifd, page: int) -> RawImage:
    """Pillow knows LZW, PackBits and JPEG inside TIFF; it is exact for 8 bits and for grey."""
    if ifd.samplesperpixel != 1 and ifd.bitspersample > 8:
        raise DataError(f"{path}: compressed colour TIFF above 8 bits is read only uncompressed or deflated")
    with open(path, "rb") as file, TiffImageFile(file) as image:
        image.seek(page)
        mode = image.mode
        values = np.asarray(image.convert("RGB") if mode in ("CMYK", "YCbCr") else image)
    if mode == "P":
        return _interpret(values, ifd, path)
    if mode[0] == "I":
        return _interpret(values.astype(ifd.dtype), ifd, path)
    if mode not in ("1", "L", "LA", "RGB", "RGBA", "RGBX", "F", "CMYK", "YCbCr"):
        raise DataError(f"{path}: TIFF images of mode {mode} are not read")
    return from_array(values, path, f"TIFF {mode}")
