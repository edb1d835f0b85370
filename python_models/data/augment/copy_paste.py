"""Copy-paste of targets: a bank cut from a training list alone, and targets pasted over other backgrounds of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from irstd_ext import targets

from ..errors import DataError, some
from ..splits import split_hash
from .ring import target_and_ring

MARGIN = 3  # px around a target's box that go with it: the skirt of its blur, and the least gap to another target
_TRIES = 6  # places tried for one target
_PER_TARGET = 3 + 2 * _TRIES  # random numbers: which target, its strength, how it is turned; row and column of each place
_ROOM = 0.98  # share of the way to black or to full scale that a paste may use


@dataclass(frozen=True)
class Cut:
    """One target: ``values`` float64 (h, w), what it adds to a background; ``mask`` bool (h, w); ``contrast``: the mean of
    ``values`` over the mask, which is mean(target) - mean(ring); ``name`` of the image it comes from."""

    values: np.ndarray
    mask: np.ndarray
    contrast: float
    name: str


@dataclass(frozen=True)
class Paste:
    """What was pasted: index of the cut in the bank, place of its top-left corner, factor on its values."""

    cut: int
    top: int
    left: int
    strength: float


@dataclass(frozen=True)
class TargetBank:
    """The targets of a training list. Made by :meth:`collect`; ``len(bank)`` targets, ``bank.cuts``.

    ``part``, ``names`` (every image of the list) and ``split_hash`` (of the names) say where they come from.
    """

    cuts: tuple[Cut, ...]
    part: str
    names: tuple[str, ...]
    split_hash: str

    def __len__(self) -> int:
        return len(self.cuts)

    @classmethod
    def collect(cls, dataset: Any, limit: int | None = None, never: Iterable[str] = ()) -> TargetBank:
        """Cut every 8-connected target of ``dataset``, the first ``limit`` of them where given.

        ``dataset`` has ``part``, ``names`` and items with ``image`` (1, H, W) in [0, 1] and ``mask`` (1, H, W), as
        :func:`python_models.data.open_dataset` and :class:`~python_models.data.SyntheticDataset` give them. ``never``:
        names that must not be among its names, such as those of the test list. A target is cut as image minus the mean of
        the ring around it (max(10, its size) px, no other target), with 3 px of margin in which only what has the target's
        sign is kept and fades out. A target that leaves no ring is not cut.

        Raises :class:`DataError` for any part but train and trainval, and for a name of ``never``.
        """
        part, names = getattr(dataset, "part", None), getattr(dataset, "names", None)
        if part not in ("train", "trainval") or names is None:
            raise DataError(f"TargetBank.collect: targets come from named training lists only, got part {part!r}")
        if limit is not None and limit < 1:
            raise DataError(f"TargetBank.collect: limit must be >= 1, got {limit}")
        leaked = sorted(set(names) & set(never))
        if leaked:
            raise DataError(f"TargetBank.collect: the training list must share no name with the forbidden list, got {some(leaked)}")
        cuts: list[Cut] = []
        for index, name in enumerate(names):
            if limit is not None and len(cuts) >= limit:
                break
            sample = dataset[index]
            cuts += _cut_all(sample["image"][0].double().numpy(), sample["mask"][0].numpy() > 0.5, name)
        return cls(tuple(cuts[:limit]), part, tuple(names), split_hash(names))


def _cut_all(image: np.ndarray, mask: np.ndarray, name: str) -> list[Cut]:
    cuts = []
    for region in targets.regions(mask):
        window, target, ring = target_and_ring(mask, region)
        if ring.any():
            level = float(image[window][ring].mean())
            cuts.append(_cut(np.pad(image[window] - level, MARGIN), np.pad(target, MARGIN), np.pad(mask[window], MARGIN), name))
    return cuts


def _cut(values: np.ndarray, target: np.ndarray, mask: np.ndarray, name: str) -> Cut:
    """The target of a window that is padded by ``MARGIN`` zeros, cut with its margin."""
    rows, cols = (np.flatnonzero(target.any(axis=axis)) for axis in (1, 0))
    where = (slice(rows[0] - MARGIN, rows[-1] + MARGIN + 1), slice(cols[0] - MARGIN, cols[-1] + MARGIN + 1))
    values, target, other = values[where], target[where], (mask & ~target)[where]
    contrast = float(values[target].mean())
    reached, weight = target, target.astype(np.float64)
    for step in range(1, MARGIN + 1):
        grown = _grow(reached)
        weight[grown & ~reached] = 1 - step / (MARGIN + 1)
        reached = grown
    skirt = np.maximum(values, 0) if contrast > 0 else np.minimum(values, 0)
    weight[_grow(other) & ~target] = 0
    return Cut(np.where(target, values, weight * skirt), target, contrast, name)


def _grow(mask: np.ndarray) -> np.ndarray:
    """``mask`` and its 8 neighbours."""
    padded = np.pad(mask, 1)
    tall = padded[:-2] | padded[1:-1] | padded[2:]
    return tall[:, :-2] | tall[:, 1:-1] | tall[:, 2:]


@dataclass(frozen=True)
class CopyPaste:
    """``copy_paste(sample, generator)`` -> sample with targets of ``bank`` pasted into ``image`` and ``mask`` (1, H, W).

    With ``probability``, 1 to ``max_targets`` targets are tried, each turned at random (flips and transpose). A target is
    added to the background that is there: ``strength`` (log-uniform in this range) times its values, so that its contrast is
    kept within these bounds. ``visible``: that contrast is at least this many standard deviations of the background it
    covers. The mask gets exactly the target's pixels. A place is used only where the target with its margin lies inside the
    image, at least 3 background pixels away from every other target, and stays clear of 0 and 1; after 6 places that
    will not do the target is left out. Other entries of the sample pass through; nothing is written into the input.

    Everything random comes from ``generator``: always 2 + 15 * max_targets numbers, whatever the data.

    >>> from python_models.data import SyntheticDataset
    >>> train = SyntheticDataset(4, size=64, seed=1)
    >>> copy_paste = CopyPaste(TargetBank.collect(train), probability=1.0)
    >>> sample, pasted = copy_paste.paste(train[0], torch.Generator().manual_seed(0))
    >>> len(targets.regions(sample["mask"][0])) - len(targets.regions(train[0]["mask"][0])) == len(pasted) > 0
    True
    """

    bank: TargetBank
    probability: float = 0.5
    max_targets: int = 3
    strength: tuple[float, float] = (0.5, 1.5)
    visible: float = 2.0

    def __post_init__(self) -> None:
        if not len(self.bank):
            raise DataError("CopyPaste: bank must hold a target, got none")
        if not 0 <= self.probability <= 1:
            raise DataError(f"CopyPaste: probability must lie in [0, 1], got {self.probability}")
        if self.max_targets < 1:
            raise DataError(f"CopyPaste: max_targets must be >= 1, got {self.max_targets}")
        if not 0 < self.strength[0] <= self.strength[1] < np.inf:
            raise DataError(f"CopyPaste: strength must be a range (low, high) with 0 < low <= high, got {self.strength}")
        if not self.visible >= 0:
            raise DataError(f"CopyPaste: visible must be >= 0, got {self.visible}")

    def __call__(self, sample: dict, generator: torch.Generator) -> dict:
        return self.paste(sample, generator)[0]

    def paste(self, sample: dict, generator: torch.Generator) -> tuple[dict, list[Paste]]:
        """The sample, and what was pasted into it."""
        u = torch.rand(2 + self.max_targets * _PER_TARGET, generator=generator, dtype=torch.float64).tolist()
        if u[0] >= self.probability:
            return sample, []
        image, mask = sample["image"].clone(), sample["mask"].clone()
        tried = (u[2 + k * _PER_TARGET :][:_PER_TARGET] for k in range(1 + int(u[1] * self.max_targets)))
        pasted = [self._paste_one(image[0].numpy(), mask[0].numpy(), draws) for draws in tried]
        return {**sample, "image": image, "mask": mask}, [p for p in pasted if p is not None]

    def _paste_one(self, image: np.ndarray, mask: np.ndarray, u: list[float]) -> Paste | None:
        """Writes one target into ``image`` and ``mask``, unless no place will do."""
        index = int(u[0] * len(self.bank))
        cut = self.bank.cuts[index]
        values, shape = (_turn(x, int(u[2] * 8)) for x in (cut.values, cut.mask))
        free = [have - need + 1 for have, need in zip(mask.shape, shape.shape)]
        for row, col in zip(u[3::2], u[4::2]) if min(free) > 0 else ():
            top, left = int(row * free[0]), int(col * free[1])
            where = (slice(top, top + shape.shape[0]), slice(left, left + shape.shape[1]))
            background = image[where].astype(np.float64)
            strength = None if mask[where].any() else self._strength(background, values, cut.contrast, u[1])
            if strength is not None:
                image[where] = background + strength * values
                mask[where][shape] = 1
                return Paste(index, top, left, strength)
        return None

    def _strength(self, background: np.ndarray, values: np.ndarray, contrast: float, u: float) -> float | None:
        up, down = values > 0, values < 0
        room = np.concatenate([(1 - background[up]) / values[up], background[down] / -values[down]]).min(initial=np.inf)
        high = min(self.strength[1], _ROOM * room)
        low = self.strength[0]
        if self.visible * background.std() > low * abs(contrast):
            low = self.visible * background.std() / abs(contrast) if contrast else np.inf
        return float(low * (high / low) ** u) if low <= high else None


def _turn(x: np.ndarray, which: int) -> np.ndarray:
    """One of the eight flips and transposes."""
    x = x[:: -1 if which & 1 else 1, :: -1 if which & 2 else 1]
    return x.T if which & 4 else x
