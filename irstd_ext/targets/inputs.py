"""Which form computes, and what the public functions take as masks and score maps."""
from __future__ import annotations

import importlib
import warnings
from typing import Any

import numpy as np
import torch

try:
    _form: Any = importlib.import_module("irstd_ext._targets")
except ImportError as error:
    _form = importlib.import_module("irstd_ext._targets_numpy")
    _missing: str | None = str(error)
else:
    _missing = None
_warned = False


def backend() -> str:
    """``"native"`` where the compiled module is in use, else ``"numpy"``."""
    return "native" if _missing is None else "numpy"


def compute() -> Any:
    """The module that does the work; called by a public function itself, so that the warning points at its caller."""
    global _warned
    if _missing is not None and not _warned:
        _warned = True
        warnings.warn(f"irstd_ext.targets: compiled module not loaded ({_missing}); using the slower NumPy form",
                      RuntimeWarning, stacklevel=3)
    return _form


def as_array(x: Any) -> np.ndarray:
    """NumPy view or copy of an array or of a torch tensor of any device and dtype (bfloat16 as float32)."""
    if isinstance(x, torch.Tensor):
        x = x.detach().cpu()
        return (x.float() if x.dtype == torch.bfloat16 else x).numpy()
    return np.asarray(x)


def _plane(x: Any, op: str, name: str) -> np.ndarray:
    x = as_array(x)
    if x.ndim != 2:
        raise ValueError(f"{op}: {name} must be 2-D [H, W], got {x.ndim}-D")
    if x.dtype.kind not in "buif":
        raise ValueError(f"{op}: {name} must be boolean, integer or float, got {x.dtype}")
    return x


def as_mask(x: Any, op: str, name: str) -> np.ndarray:
    """Contiguous uint8 form of a mask, a view where it can be."""
    x = _plane(x, op, name)
    if x.size >= 2**31:
        raise ValueError(f"{op}: {name} must have fewer than 2^31 pixels, got {x.shape[0]} x {x.shape[1]}")
    if x.dtype.kind == "f":
        wrong = x[(x != 0) & (x != 1)]
        if wrong.size:
            raise ValueError(f"{op}: {name} must hold only 0 and 1 where it is float, got {wrong[0]:g}; threshold it first")
    if x.dtype != np.uint8:
        x = (x if x.dtype == bool else x != 0).view(np.uint8)
    return np.ascontiguousarray(x)


def _one_shape(first: np.ndarray, second: np.ndarray, op: str, names: tuple[str, str]) -> None:
    if first.shape != second.shape:
        raise ValueError(f"{op}: {names[0]} and {names[1]} must have one shape, got {first.shape} and {second.shape}")


def mask_pair(pred: Any, gt: Any, op: str) -> tuple[np.ndarray, np.ndarray]:
    """Both masks as contiguous uint8."""
    p, g = as_mask(pred, op, "pred"), as_mask(gt, op, "gt")
    _one_shape(p, g, op, ("pred", "gt"))
    return p, g


def score_pair(score: Any, gt: Any, op: str) -> tuple[np.ndarray, np.ndarray]:
    """A finite score map as contiguous float64, in which its values keep their order and ties, and its mask as uint8."""
    s, g = _plane(score, op, "score"), as_mask(gt, op, "gt")
    _one_shape(s, g, op, ("score", "gt"))
    if not np.isfinite(s).all():
        raise ValueError(f"{op}: score must be finite, got {s[~np.isfinite(s)][0]}")
    wide = np.ascontiguousarray(s, np.float64)
    if s.dtype.itemsize >= 8 and s.dtype != np.float64:
        inexact = np.abs(wide) >= 2**53 if s.dtype.kind in "iu" else wide != s
        if inexact.any():
            raise ValueError(f"{op}: score must be exact in float64, got {s[inexact][0]!s}")
    return wide, g
