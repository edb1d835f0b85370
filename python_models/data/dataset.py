"""Torch data sets over image files."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import torch
from torch.utils.data import Dataset

from .errors import DataError, DataWarning
from .images import read_image, saturation
from .layouts import Pair, find_layout
from .layouts.layout import describe_faults
from .masks import MASK_RULES, read_mask, resize_nearest
from .scan import mask_warning, resolve_mismatches, scan_pairs
from .splits import choose, split_hash

MISMATCH_RULES = ("resize", "skip", "error")


class IRSTDDataset(Dataset):
    """Image-mask pairs of one part of one named split.

    ``ds[i]`` -> ``image`` float32 (1, H, W) grey in [0, 1], ``mask`` float32 (1, H, W) in {0, 1}, ``name``, ``path``.
    Images keep their native sizes and the order of the list. ``names``, ``split``, ``part``, ``split_hash`` (of the names
    in use), ``root`` and ``findings`` (what the scan at opening met) describe it. Made by :func:`open_dataset`.
    """

    def __init__(self, pairs: list[Pair], root: Path, split: str, part: str, masks: str = "binarise",
                 mask_mismatch: str = "resize", full_scale: float | None = None, cache: bool = False):
        for argument, value, allowed in (("masks", masks, MASK_RULES), ("mask_mismatch", mask_mismatch, MISMATCH_RULES)):
            if value not in allowed:
                raise DataError(f"open_dataset: {argument} must be one of {', '.join(allowed)}, got {value!r}")
        where = f"{root} {split}/{part}"
        self.findings = scan_pairs(pairs, masks)
        grey = mask_warning(self.findings, len(pairs), masks)
        if masks == "strict" and grey:
            raise DataError(f"{where}: {grey} (masks=strict allows only 0 and full scale)")
        try:
            left_out, resized = resolve_mismatches(self.findings, mask_mismatch)
        except DataError as error:
            raise DataError(f"{where}: {error}") from None
        for text in (grey, resized):
            if text:
                warnings.warn(f"{where}: {text}", DataWarning, stacklevel=3)
        self.pairs = [p for p in pairs if p.name not in left_out]
        self.root, self.split, self.part, self.masks, self.full_scale = root, split, part, masks, full_scale
        self.names = [p.name for p in self.pairs]
        self.split_hash = split_hash(self.names)
        self._told_saturated = False
        self._cache: dict[int, tuple[torch.Tensor, torch.Tensor]] | None = {} if cache else None

    def __len__(self) -> int:
        return len(self.pairs)

    def image(self, index: int) -> torch.Tensor:
        """The image alone: float32 (1, H, W). The first one with more than 1 % of its pixels at full scale brings a warning."""
        path = self.pairs[index].image
        image = read_image(path, self.full_scale)
        if not self._told_saturated and (share := saturation(image)):
            self._told_saturated = True
            text = f"{self.root} {self.split}/{self.part}: {path.name} has {100 * share:.1f} % of its pixels at full scale, where what is brighter is lost"
            warnings.warn(f"{text} (irstd data check names every such image)", DataWarning, stacklevel=2)
        return torch.from_numpy(image)[None]

    def __getitem__(self, index: int) -> dict:
        pair = self.pairs[index]  # IndexError past the end, as a sequence should
        index %= len(self.pairs)
        if self._cache is not None and index in self._cache:
            image, mask = self._cache[index]
        else:
            image = self.image(index)
            values = read_mask(pair.mask, self.masks).values
            if values.shape != tuple(image.shape[1:]):
                values = resize_nearest(values, tuple(image.shape[1:]))
            mask = torch.from_numpy(values.astype("float32"))[None]
            if self._cache is not None:
                self._cache[index] = (image, mask)
        if self._cache is not None:
            image, mask = image.clone(), mask.clone()  # a caller may write into what it got
        return {"image": image, "mask": mask, "name": pair.name, "path": str(pair.image)}

    def __repr__(self) -> str:
        return f"IRSTDDataset({self.root.name} {self.split}/{self.part}, {len(self)} images, hash {self.split_hash})"


def open_dataset(root: str | PathLike, split: str | PathLike | None = None, part: str | None = None, masks: str = "binarise",
                 mask_mismatch: str = "resize", full_scale: float | None = None, cache: bool = False,
                 val_seed: int = 0) -> IRSTDDataset:
    """Open one part of a named split of a data-set folder, in any of the layouts of ``docs/data.md``.

    ``split``: a name (``find_layout(root).splits()`` has them), None where there is one only, or the path of a list file
    (``hard.txt``), whose names are opened as a test part. ``part``: "train" (default of a named split), "val", "test" or
    "trainval"; where the split has no val list, val is 15 % of train chosen by ``val_seed`` and train leaves it out, with
    one warning. ``masks``: "binarise" (value > half of full scale), "full" (value >= full scale) or "nonzero" (value > 0),
    each with one warning that counts grey masks, or "strict" (grey masks raise). ``mask_mismatch``, for a mask whose size
    is not its image's: "resize" (nearest neighbour, only where width / height agrees within 1 %, with one warning),
    "skip" (left out, with one warning) or "error". ``full_scale``: the value of an image file that means 1.0 (default:
    from its dtype). ``cache``: keep decoded images in memory.

    Raises :class:`DataError`, one line, for anything missing, unreadable or contradictory.

    >>> ds = open_dataset("NUAA-SIRST", "idx_427", "test")  # doctest: +SKIP
    >>> len(ds), ds[0]["image"].shape, ds.split_hash  # doctest: +SKIP
    """
    layout = find_layout(root)
    chosen = choose(layout, split, part, val_seed)
    faults = layout.faults(chosen.names)
    if faults:
        raise DataError(f"{chosen.where(next(iter(faults)))}: {describe_faults(faults, len(chosen.names))}")
    ds = IRSTDDataset(layout.pairs(chosen.names), layout.root, chosen.split, chosen.part, masks, mask_mismatch, full_scale, cache)
    if chosen.note:
        warnings.warn(f"{layout.root} {chosen.split}: {chosen.note}", DataWarning, stacklevel=2)
    return ds


def collate(samples: Sequence[dict]) -> dict:
    """A batch for a DataLoader: ``image`` and ``mask`` stacked to (B, 1, H, W), every other entry a list.

    (PyTorch's default cannot batch the ``meta`` of synthetic items.) Raises :class:`DataError` where sizes differ.
    """
    batch: dict = {key: [s[key] for s in samples] for key in samples[0]}
    for key in ("image", "mask"):
        if key in batch:
            sizes = sorted({tuple(t.shape) for t in batch[key]})
            if len(sizes) > 1:
                raise DataError(f"collate: one batch needs one size of {key}, got {sizes[0]} and {sizes[1]}; use crops or batch size 1")
            batch[key] = torch.stack(batch[key])
    return batch
