"""The learning rate over the training: warm-up, then cosine, poly, step or constant."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from .config import TrainConfig

ScheduleName = Literal["cosine", "poly", "step", "constant"]
WarmupName = Literal["linear", "exponential", "constant"]


def learning_rate(config: TrainConfig, base: float, epoch: float) -> float:
    """Learning rate of a group of parameters whose full rate is ``base``, after ``epoch`` epochs (steps are fractions).

    ``schedule_by="epoch"`` rounds ``epoch`` down. Over the first w = ``warmup_epochs`` (at most half of E = ``epochs``) the
    rate grows from ``warmup_start`` times ``base``. Then, with e epochs since the warm-up, m = ``lr_min`` (at most ``base``):

    - cosine: m + (base - m) (1 + cos(pi e / T)) / 2 with T = ``cosine_period``, else E - w. A shorter T swings back up, as
      torch's CosineAnnealingLR does when it is stepped beyond T_max
    - poly: m + (base - m) (1 - e / (E - w)) ^ ``poly_power``
    - step: base times ``gamma`` for each of ``milestones`` (epochs since the start) that has passed, at least m
    - constant: base

    >>> from python_models.training.config import TrainConfig
    >>> config = TrainConfig(model="m", data=".", lr=1.0, epochs=10, warmup_epochs=2.0, warmup_start=0.0, lr_min=0.1)
    >>> [round(learning_rate(config, 1.0, e), 3) for e in (0, 1, 2, 6, 10)]
    [0.0, 0.5, 1.0, 0.55, 0.1]
    """
    if config.schedule_by == "epoch":
        epoch = math.floor(epoch)
    epoch = min(epoch, float(config.epochs))
    warm = min(config.warmup_epochs, config.epochs / 2)
    if epoch < warm:
        return base * _warmup(config.warmup, config.warmup_start, epoch / warm)
    since, left = epoch - warm, config.epochs - warm
    low = min(config.lr_min, base)
    if config.schedule == "cosine":
        return low + (base - low) * 0.5 * (1.0 + math.cos(math.pi * since / (config.cosine_period or left)))
    if config.schedule == "poly":
        return low + (base - low) * max(0.0, 1.0 - since / left) ** config.poly_power
    if config.schedule == "step":
        return max(low, base * config.gamma ** sum(m <= epoch for m in config.milestones))
    if config.schedule == "constant":
        return base
    raise ValueError(f"train: schedule must be cosine, poly, step or constant, got {config.schedule!r}")


def _warmup(form: WarmupName, start: float, share: float) -> float:
    """Factor after ``share`` in [0, 1) of the warm-up: a line or an exponential from ``start`` to 1, or ``start`` throughout."""
    if form == "linear":
        return start + (1.0 - start) * share
    if form == "exponential":
        return start ** (1.0 - share)
    if form == "constant":
        return start
    raise ValueError(f"train: warmup must be linear, exponential or constant, got {form!r}")
