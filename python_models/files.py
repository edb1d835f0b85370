"""Writing files whole or not at all: text, JSON, PNG, weights in safetensors."""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file


def atomic_write(path: str | os.PathLike[str], write: Callable[[Path], None]) -> None:
    """Call ``write(temporary_path)`` and move the result to ``path`` only when it is complete on disk.

    Whatever fails on the way (a full disk, an exception in ``write``), the file that was at ``path`` stays as it was.
    OSError names ``path``.
    """
    path = Path(path)
    # short, since a name may be as long as the file system allows; by file, as several are written side by side
    temporary = path.with_name(f".{zlib.crc32(os.fsencode(path.name)):08x}{path.suffix[-16:]}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777  # what the user's umask gives; some writers make private files
        write(temporary)
        os.chmod(temporary, mode)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except SafetensorError as error:  # its way of saying that the disk is full
        raise OSError(f"{path}: {' '.join(str(error).split())}") from None
    except OSError as error:
        if error.strerror:
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` (UTF-8) to ``path`` atomically."""
    atomic_write(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write ``value`` as indented JSON to ``path`` atomically; NaN and infinities become null."""
    write_text(path, json.dumps(_finite(value), indent=2) + "\n")


def write_weights(path: str | os.PathLike[str], tensors: Mapping[str, torch.Tensor]) -> None:
    """Write named tensors to a safetensors file atomically, detached from any shared memory."""
    own = {name: t.detach().to("cpu").clone().contiguous() for name, t in tensors.items()}
    atomic_write(path, lambda temporary: save_file(own, str(temporary)))


def read_weights(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """Read a safetensors file to the CPU; a missing or damaged file is one clear error."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"weights: {path} {'is not a file' if Path(path).exists() else 'does not exist'}")
    if Path(path).suffix in (".pt", ".pth"):
        raise ValueError(f"weights: {path} must be a safetensors file; irstd convert makes one of IRSAM's and MobileSAM's")
    try:
        return load_file(str(path))
    except (SafetensorError, OSError) as error:
        raise ValueError(f"weights: {path} is not a whole safetensors file ({error})") from None


def save_png(path: Path, picture: Image.Image) -> None:
    """Write a picture as PNG atomically."""
    buffer = BytesIO()
    picture.save(buffer, format="PNG")
    atomic_write(path, lambda temporary: temporary.write_bytes(buffer.getvalue()))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, os.PathLike) else value
