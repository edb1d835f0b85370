"""Feeding the trainer: an order and an augmentation that depend on (seed, epoch, index) alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

Sample = dict[str, Any]
Change = Callable[[Sample, torch.Generator], Sample]
Key = tuple[int, int]
"""(epoch, index) of a training item."""


def item_generator(seed: int, epoch: int, index: int) -> torch.Generator:
    """The generator of one training item: the same whichever worker, batch, process or resumed run draws it."""
    mixed = (seed * 1_000_003 + epoch) * 1_000_003 + index
    return torch.Generator().manual_seed(mixed % 2**63)


class EpochSampler(Sampler[Key]):
    """Yields (epoch, index) in an order drawn from (seed, epoch); the trainer announces each epoch by ``set_epoch``."""

    def __init__(self, length: int, seed: int) -> None:
        self.length, self.seed, self.epoch = length, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of ``epoch``."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Key]:
        order = torch.randperm(self.length, generator=item_generator(self.seed, self.epoch, -1))
        return iter([(self.epoch, int(i)) for i in order])


def shares(count: int, world: int) -> list[int]:
    """How many of ``count`` images each of ``world`` processes takes: the first ones one more where it does not divide.

    >>> shares(8, 2), shares(5, 2)
    ([4, 4], [3, 2])
    """
    return [count // world + (rank < count % world) for rank in range(world)]


class SharedBatches(Sampler[list[Key]]):
    """The batches of a sampler, of each of which process ``rank`` of ``world`` takes its own consecutive part.

    The parts of all processes are together exactly the batch of a single one: none is repeated. A short last batch is left
    out with ``drop_last`` (unless it is the only one), and always where it has fewer images than there are processes.
    """

    def __init__(self, sampler: EpochSampler, batch_size: int, drop_last: bool = True, rank: int = 0, world: int = 1) -> None:
        self.sampler, self.rank = sampler, rank
        whole, rest = divmod(len(sampler), batch_size)
        sizes = [batch_size] * whole + [rest] * (rest >= world and (not drop_last or whole == 0))
        self.parts = [shares(size, world) for size in sizes]
        """images of each process, batch by batch"""

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[list[Key]]:
        keys, at = list(self.sampler), 0
        for part in self.parts:
            first = at + sum(part[: self.rank])
            yield keys[first : first + part[self.rank]]
            at += sum(part)


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


@dataclass(frozen=True)
class Unreadable:
    """In the place of an item or batch that could not be read: why. It travels from a worker as one line, without a traceback."""

    reason: str


@dataclass(frozen=True)
class Both:
    """One change of a sample after the other."""

    first: Change
    second: Change

    def __call__(self, sample: Sample, generator: torch.Generator) -> Sample:
        return self.second(self.first(sample, generator), generator)


class TrainItems(Dataset[Any]):
    """Augmented training items, indexed by (epoch, index)."""

    def __init__(self, dataset: Sequence[Sample], augment: Change, seed: int) -> None:
        self.dataset, self.augment, self.seed = dataset, augment, seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: Key) -> dict[str, torch.Tensor] | Unreadable:
        epoch, index = key
        try:
            sample = self.augment(self.dataset[index], item_generator(self.seed, epoch, index))
        except (ValueError, OSError) as error:
            return Unreadable(" ".join(str(error).split()))
        return {"image": sample["image"], "mask": sample["mask"]}


def collate(items: Sequence[Any]) -> Any:
    """A batch of tensors, or the first :class:`Unreadable` of the items."""
    return next((item for item in items if isinstance(item, Unreadable)), None) or default_collate(list(items))


def train_loader(items: TrainItems, batch_size: int, workers: int, drop_last: bool = True, rank: int = 0, world: int = 1) -> DataLoader[Any]:
    """Batches of ``items``, or this process's part of them; a short last batch is left out unless ``drop_last`` is off or it is the only one."""
    return DataLoader(
        items,
        batch_sampler=SharedBatches(EpochSampler(len(items), items.seed), batch_size, drop_last, rank, world),
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=collate,
        generator=torch.Generator().manual_seed(items.seed),
    )
