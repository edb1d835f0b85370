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


class Cached(Dataset[Sample]):
    """A data set that keeps what it has read in memory, up to ``room`` bytes, since small sets are read many times."""

    def __init__(self, dataset: Sequence[Sample], room: int = 2**30) -> None:
        self.dataset, self.room = dataset, room
        self._kept: dict[int, Sample] = {}

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        if index not in self._kept:
            sample = self.dataset[index]
            size = sample["image"].nbytes + sample["mask"].nbytes
            if size > self.room:
                return sample
            self._kept[index], self.room = sample, self.room - size
        return dict(self._kept[index])


class TrainItems(Dataset[dict[str, torch.Tensor]]):
    """Augmented training items, indexed by (epoch, index)."""

    def __init__(self, dataset: Sequence[Sample], augment: Callable[[Sample, torch.Generator], Sample], seed: int) -> None:
        self.dataset, self.augment, self.seed = dataset, augment, seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, torch.Tensor]:
        epoch, index = key
        sample = self.augment(self.dataset[index], item_generator(self.seed, epoch, index))
        return {"image": sample["image"], "mask": sample["mask"]}


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
