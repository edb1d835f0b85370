"""Masks: what counts as foreground, by named rules, and the rule for a mask whose size is not its image's."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike

import numpy as np

from .errors import DataError
from .images import RawImage, read_raw

ASPECT_TOLERANCE = 0.01  # two sizes show the same scene if width / height agrees to 1 %
MASK_RULES = {  # what each makes of a value that is neither 0 nor full scale
    "binarise": "binarised at half scale",
    "strict": "binarised at half scale",
    "full": "counted as foreground only at full scale (masks=full)",
    "nonzero": "counted as foreground wherever above 0 (masks=nonzero)",
}


@dataclass(frozen=True)
class Mask:
    """``values``: bool (H, W). ``grey``: the file held values other than 0 and its full scale.
    ``faint``: it held values above 0, but none that counted, so it came out empty."""

    values: np.ndarray
    grey: bool
    faint: bool


def binarise(raw: RawImage, path: str | PathLike = "mask", rule: str = "binarise") -> Mask:
    """Foreground is ``value > full_scale / 2`` (8 bits: > 127; 1 bit: 1; float: > 0.5, full scale 1).

    Other rules: "full" ``value >= full_scale`` (what code that casts value / 255 to an integer does) and "nonzero"
    ``value > 0``; "strict" is "binarise" for callers that refuse grey masks. They differ on grey masks only. Colour is
    averaged first. Raises :class:`DataError` for an unknown rule and for values outside 0..full scale.

    >>> binarise(RawImage(np.array([[0, 127, 128, 255]], np.uint8), 255, "")).values.tolist()
    [[False, False, True, True]]
    """
    if rule not in MASK_RULES:
        raise DataError(f"binarise: rule must be one of {', '.join(MASK_RULES)}, got {rule!r}")
    values = raw.values
    scale = raw.full_scale if raw.full_scale is not None else 1.0 if values.dtype.kind == "f" else None
    if scale is None:
        raise DataError(f"{path}: a mask of {values.dtype} has no known full scale")
    if values.dtype == np.bool_:
        return Mask(values, False, False)
    if values.ndim == 3:
        values = values.sum(axis=2, dtype=np.float64) / values.shape[2]
    low, high = values.min(initial=0), values.max(initial=0)
    if not (low >= 0 and high <= scale):
        raise DataError(f"{path}: mask values must lie in 0..{scale:g}, got {low:g}..{high:g}")
    foreground = values >= scale if rule == "full" else values > (0 if rule == "nonzero" else scale / 2)
    grey = bool(((values != 0) & (values != scale)).any())
    return Mask(foreground, grey, bool(high > 0 and not foreground.any()))


def read_mask(path: str | PathLike, rule: str = "binarise") -> Mask:
    """Read and :func:`binarise` a mask file."""
    return binarise(read_raw(path), path, rule)


def same_aspect(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two (height, width) have the same width / height to 1 %."""
    return abs(size[1] * other[0] / (size[0] * other[1]) - 1) <= ASPECT_TOLERANCE


def resize_nearest(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) to ``size`` (height, width): each output pixel takes the input pixel under its centre."""
    rows, cols = (((2 * np.arange(new) + 1) * old) // (2 * new) for new, old in zip(size, values.shape))
    return values[np.ix_(rows, cols)]
