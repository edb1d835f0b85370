"""Optimizers and learning-rate schedules, both chosen by name."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import torch

OptimizerName = Literal["adamw", "adam", "sgd"]
ScheduleName = Literal["cosine", "poly", "constant"]


def build_optimizer(parameters: Iterable[torch.nn.Parameter], name: OptimizerName, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW and Adam with betas (0.9, 0.999), SGD with Nesterov momentum 0.9.

    >>> build_optimizer([torch.nn.Parameter(torch.zeros(1))], "sgd", 0.1, 0.0).defaults["momentum"]
    0.9
    """
    if name == "adamw":
        return torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay)
    if name == "adam":
        return torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay)
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=lr, weight_decay=weight_decay, momentum=0.9, nesterov=True)
    raise ValueError(f"train: optimizer must be adamw, adam or sgd, got {name!r}")


def lr_factor(progress: float, warmup: float, schedule: ScheduleName, power: float = 0.9, floor: float = 0.01) -> float:
    """Share of the base learning rate at ``progress`` in [0, 1] of the training.

    Linear warm-up over the first ``warmup`` share, then with t in [0, 1] over the rest: poly (1-t)^power, cosine
    (1+cos(pi t))/2, constant 1; never below ``floor``.

    >>> [round(lr_factor(p, 0.1, "cosine"), 3) for p in (0.05, 0.1, 0.55, 1.0)]
    [0.5, 1.0, 0.5, 0.01]
    """
    progress = min(max(progress, 0.0), 1.0)
    if progress < warmup:
        return max(progress / warmup, floor)
    t = (progress - warmup) / (1.0 - warmup) if warmup < 1.0 else 1.0
    if schedule == "cosine":
        factor = 0.5 * (1.0 + math.cos(math.pi * t))
    elif schedule == "poly":
        factor = (1.0 - t) ** power
    elif schedule == "constant":
        factor = 1.0
    else:
        raise ValueError(f"train: schedule must be cosine, poly or constant, got {schedule!r}")
    return max(factor, floor)


class WeightAverage:
    """Exponential moving average of every floating entry of a network's state; others are copied.

    The decay warms up as min(decay, (1 + n) / (10 + n)), so that early weights are forgotten soon.
    """

    def __init__(self, net: torch.nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.shadow = {k: v.detach().clone() for k, v in net.state_dict().items()}

    @torch.no_grad()
    def update(self, net: torch.nn.Module) -> None:
        """Take the current weights into the average, after an optimizer step."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, value in net.state_dict().items():
            if value.is_floating_point():
                self.shadow[name].lerp_(value.to(self.shadow[name].device), 1.0 - decay)
            else:
                self.shadow[name].copy_(value)

    def state(self) -> dict[str, object]:
        """What a resumed run needs."""
        return {"updates": self.updates, "shadow": self.shadow}

    def restore(self, state: dict[str, object]) -> None:
        """Take over what :meth:`state` returned."""
        self.updates = int(state["updates"])  # type: ignore[arg-type]
        for name, value in state["shadow"].items():  # type: ignore[attr-defined]
            self.shadow[name].copy_(value)
