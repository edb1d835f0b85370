"""Two things Pillow does not do for PNG: 16-bit colour without loss, and noticing rows that are not there."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL.PngImagePlugin import PngImageFile

from .errors import DataError

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # samples of a pixel by colour type
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))  # x, y, step x, step y


def is_deep_colour(head: bytes) -> bool:
    """Whether the first bytes of a PNG say 16 bits a sample and more than one sample a pixel."""
    return head[24] == 16 and head[25] in (2, 4, 6)


def read_deep_colour(path: Path, head: bytes) -> np.ndarray:
    """uint16 (H, W, 3), or (H, W) of grey with alpha; alpha is dropped.

    Pillow stores 8 bits a sample and keeps one byte of the two: the first by its raw mode ``;16B`` and the second by
    ``;16L``, so two passes give both. Grey with alpha is laid out like 8-bit RGBA and read as that.
    """
    if head[25] == 4:
        data = bytearray(path.read_bytes())
        data[24:26] = 8, 6
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
        with PngImageFile(BytesIO(data)) as image:
            return np.asarray(image).view(">u2")[:, :, 0]
    name = "RGB" if head[25] == 2 else "RGBA"
    high, low = (_plane(path, f"{name};16{order}") for order in "BL")
    return high[:, :, :3].astype(np.uint16) << 8 | low[:, :, :3]


def _plane(path: Path, raw_mode: str) -> np.ndarray:
    with open(path, "rb") as file, PngImageFile(file) as image:
        image.tile = [(*image.tile[0][:3], raw_mode)]
        return np.asarray(image)


def check_rows(path: Path) -> None:
    """Raises where the compressed rows end before the image does: Pillow makes the rest black without a word."""
    need, got, inflate = 0, 0, zlib.decompressobj()
    with open(path, "rb") as file:
        file.seek(8)
        while len(start := file.read(8)) == 8:
            size, kind = struct.unpack(">I4s", start)
            data = file.read(size)
            file.seek(4, 1)
            if kind == b"IHDR":
                need = _row_bytes(*struct.unpack(">IIBBBBB", data))
            elif kind == b"IDAT":
                while data and got < need:
                    got += len(inflate.decompress(data, 1 << 20))
                    data = inflate.unconsumed_tail
            elif kind == b"IEND":
                break
    if got < need:
        raise DataError(f"{path}: cannot be read: the file ends after {got} of {need} bytes of its rows")


def _row_bytes(width: int, height: int, depth: int, colour: int, _compression: int, _filter: int, interlace: int) -> int:
    bits = depth * _CHANNELS[colour]
    total = 0
    for x, y, dx, dy in _ADAM7 if interlace else ((0, 0, 1, 1),):
        columns, rows = -(-(width - x) // dx), -(-(height - y) // dy)
        if columns > 0 and rows > 0:
            total += rows * (1 + -(-columns * bits // 8))
    return total
