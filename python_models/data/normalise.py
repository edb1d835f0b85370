"""Grey-level normalisation: the published constants by name, and the one computed from a training list."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from .errors import DataError

# (mean, std) on the 0..255 scale. Published with the data sets' code as the mean of the images' means and of their
# standard deviations, partly over train and test together: for comparison with papers, not a property of the data.
PRESETS: dict[str, tuple[float, float]] = {
    "NUAA-SIRST": (101.06385, 34.61961),
    "NUDT-SIRST": (107.80905, 33.02275),
    "IRSTD-1K": (87.46619, 39.71953),
    "NUDT-SIRST-Sea": (43.62404, 18.91838),
    "SIRST4": (62.10432, 23.96998),
    "IRDST-real": (101.54053, 56.49856),
    "LimitIRSTD-track2": (64.21671, 24.50886),
}
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PRESET_NAMES = (*PRESETS, "ImageNet")


def normalisation_preset(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) per channel on the [0, 1] scale of one of ``PRESET_NAMES``: one value each, three for ``"ImageNet"``.

    >>> normalisation_preset("IRSTD-1K")[0][0] * 255
    87.46619
    """
    if name == "ImageNet":
        return IMAGENET
    if name not in PRESETS:
        raise DataError(f"normalisation_preset: name must be one of {', '.join(PRESET_NAMES)}, got {name!r}")
    mean, std = PRESETS[name]
    return (mean / 255,), (std / 255,)


def compute_normalisation(ds: Dataset) -> tuple[float, float]:
    """(mean of all pixels, their pooled standard deviation) of a training list, on the [0, 1] scale.

    Population deviation about the common mean, in float64; the order of the images does not change a bit of it. Raises
    :class:`DataError` for a val or test part, an empty set, and a set whose pixels are all equal.
    """
    part = getattr(ds, "part", "train")
    if part not in ("train", "trainval"):
        raise DataError(f"compute_normalisation: statistics come from training images only, got part {part!r}")
    read = getattr(ds, "image", None) or (lambda i: ds[i]["image"])
    counts, sums, inner = [], [], []
    for i in range(len(ds)):
        pixels = np.asarray(read(i), dtype=np.float64)
        counts.append(pixels.size)
        sums.append(float(pixels.sum()))
        inner.append(float(((pixels - sums[-1] / pixels.size) ** 2).sum()))
    if not counts:
        raise DataError("compute_normalisation: the set holds no image")
    total = sum(counts)
    mean = math.fsum(sums) / total
    between = (n * (s / n - mean) ** 2 for n, s in zip(counts, sums))
    std = math.sqrt(math.fsum([*inner, *between]) / total)
    if std == 0:
        raise DataError("compute_normalisation: all pixels of the set are equal, there is no scale to divide by")
    return mean, std


def normalisation(choice: str, train_set: Any) -> dict[str, Any]:
    """What a checkpoint stores: ``mean`` and ``std``, lists on the [0, 1] scale, and ``of``, where they come from.

    ``choice``: "data" for :func:`compute_normalisation` of ``train_set``, or one of ``PRESET_NAMES``.

    >>> normalisation("ImageNet", None)["of"]
    'preset ImageNet'
    """
    if choice != "data":
        mean, std = normalisation_preset(choice)
        return {"mean": list(mean), "std": list(std), "of": f"preset {choice}"}
    mean, std = compute_normalisation(train_set)
    where = "".join(f" {text}" for text in _origin(train_set))
    return {"mean": [mean], "std": [std], "of": f"{len(train_set)} images{where}, pooled pixels"}


def _origin(ds: Any) -> Iterator[str]:
    if getattr(ds, "split", None):
        yield f"of {ds.split}/{ds.part}"
    if getattr(ds, "split_hash", None):
        yield f"(hash {ds.split_hash})"
