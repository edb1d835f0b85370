"""Feeding the trainer: an order and an augmentation that depend on (seed, epoch, index) alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

Sample = dict[str, Any]


def item_generator(seed: int, epoch: int, index: int) -> torch.Generator:
    """The generator of one training item: the same whichever worker, batch or resumed run draws it."""
    mixed = (seed * 1_000_003 + epoch) * 1_000_003 + index
    return torch.Generator().manual_seed(mixed % 2**63)


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields (epoch, index) in an order drawn from (seed, epoch); the trainer announces each epoch by ``set_epoch``."""

    def __init__(self, length: int, seed: int) -> None:
        self.length, self.seed, self.epoch = length, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of ``epoch``."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = torch.randperm(self.length, generator=item_generator(self.seed, self.epoch, -1))
        return iter([(self.epoch, int(i)) for i in order])


class TrainItems(Dataset[dict[str, torch.Tensor]]):
    """Augmented training items, indexed by (epoch, index).

    Read images are kept in memory up to ``cache_bytes``, since small sets are read many times.
    """

    def __init__(self, dataset: Sequence[Sample], augment: Callable[[Sample, torch.Generator], Sample], seed: int, cache_bytes: int = 2**30) -> None:
        self.dataset, self.augment, self.seed = dataset, augment, seed
        self._cache: dict[int, Sample] = {}
        self._room = cache_bytes

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, torch.Tensor]:
        epoch, index = key
        sample = self.augment(dict(self._read(index)), item_generator(self.seed, epoch, index))
        return {"image": sample["image"], "mask": sample["mask"]}

    def _read(self, index: int) -> Sample:
        sample = self._cache.get(index)
        if sample is None:
            sample = self.dataset[index]
            size = sample["image"].nbytes + sample["mask"].nbytes
            if size <= self._room:
                self._cache[index], self._room = sample, self._room - size
        return sample


def train_loader(items: TrainItems, batch_size: int, workers: int) -> DataLoader[dict[str, torch.Tensor]]:
    """Batches of ``items``; a last short batch is dropped unless it is the only one, since batch statistics need company."""
    return DataLoader(
        items,
        batch_size=batch_size,
        sampler=EpochSampler(len(items), items.seed),
        num_workers=workers,
        persistent_workers=workers > 0,
        drop_last=len(items) > batch_size,
        generator=torch.Generator().manual_seed(items.seed),
    )
