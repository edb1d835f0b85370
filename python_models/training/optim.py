"""Optimizers by name, parameter groups, and the average of the weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import nn

OptimizerName = Literal["adamw", "adam", "adan", "sgd"]
BETAS = {"adamw": (0.9, 0.999), "adam": (0.9, 0.999), "adan": (0.98, 0.92, 0.99)}


def build_optimizer(
    parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
    name: OptimizerName,
    lr: float,
    weight_decay: float = 0.0,
    betas: Sequence[float] | None = None,
    eps: float = 1e-8,
    momentum: float = 0.9,
    nesterov: bool = True,
) -> torch.optim.Optimizer:
    """An optimizer over parameters, or over groups of them with rates and decays of their own.

    adamw, sgd, adam (whose decay is added to the gradient) are torch's. adan is arXiv 2208.06677 with the proximal decay
    theta = (theta - step) / (1 + lr decay); its betas weigh the new value by 1 - beta, as Adam's do. ``betas`` default to the
    optimizer's own. Raises ValueError for an unknown name or a wrong number of betas, ImportError without the extra `train`.

    >>> build_optimizer([nn.Parameter(torch.zeros(1))], "sgd", 0.1).defaults["momentum"]
    0.9
    """
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=lr, weight_decay=weight_decay, momentum=momentum, nesterov=nesterov and momentum > 0)
    if name not in BETAS:
        raise ValueError(f"train: optimizer must be adamw, adam, adan or sgd, got {name!r}")
    chosen = tuple(betas or BETAS[name])
    if len(chosen) != len(BETAS[name]):
        raise ValueError(f"train: betas must be {len(BETAS[name])} numbers for {name}, got {len(chosen)}")
    return _kind(name)(parameters, lr=lr, weight_decay=weight_decay, betas=chosen, eps=eps)


def _kind(name: OptimizerName) -> Any:
    if name != "adan":
        return {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[name]
    try:
        from pytorch_optimizer import Adan
    except ImportError:
        raise ImportError('train: pytorch_optimizer is not installed; run: pip install "irstd_ext[train]"') from None
    return Adan


def parameter_groups(net: nn.Module, lr: float, decay_norms: bool = True) -> list[dict[str, Any]]:
    """The groups a network is optimised in, each with ``params`` and the full learning rate ``lr``.

    A network with rates of its own defines ``parameter_groups(lr)``, which returns dicts with ``params`` and, where they
    differ from the run's, ``lr`` and ``weight_decay``; others are one group. Frozen parameters (``requires_grad=False``)
    belong to none. ``decay_norms=False``: no weight decay on vectors (norms, biases) and embeddings.
    Raises ValueError where a trainable parameter is in no group or in two, or where nothing is trainable.
    """
    trainable = {n: p for n, p in net.named_parameters() if p.requires_grad}
    if not trainable:
        raise ValueError(f"train: {type(net).__name__} must have a parameter to train, all are frozen")
    own = getattr(net, "parameter_groups", None)
    groups = [{**g, "params": list(g["params"])} for g in own(lr)] if own else [{"params": list(trainable.values())}]
    for name, parameter in trainable.items():
        times = sum(parameter is p for g in groups for p in g["params"])
        if times != 1:
            raise ValueError(f"train: parameter_groups of {type(net).__name__} must hold {name} once, got it {times} times")
    for group in groups:
        group["params"] = [p for p in group["params"] if p.requires_grad]
        group["base_lr"] = group.setdefault("lr", lr)
    groups = [g for g in groups if g["params"]]
    return groups if decay_norms else [part for g in groups for part in _split_decay(net, g)]


def _split_decay(net: nn.Module, group: Mapping[str, Any]) -> list[dict[str, Any]]:
    embeddings = {id(m.weight) for m in net.modules() if isinstance(m, nn.Embedding)}
    spared = [p for p in group["params"] if p.ndim <= 1 or id(p) in embeddings]
    kept = [p for p in group["params"] if p.ndim > 1 and id(p) not in embeddings]
    return [g for g in ({**group, "params": kept}, {**group, "params": spared, "weight_decay": 0.0}) if g["params"]]


class WeightAverage:
    """Exponential moving average of every floating entry of a network's state; others are copied.

    The decay warms up as min(decay, (1 + n) / (10 + n)), so that early weights are forgotten soon.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.shadow = {k: v.detach().clone() for k, v in net.state_dict().items()}

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """Take the current weights into the average, after an optimizer step."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, value in net.state_dict().items():
            if value.is_floating_point():
                self.shadow[name] = self.shadow[name].to(value.device).lerp_(value, 1.0 - decay)
            else:
                self.shadow[name] = value.detach().clone()

    def state(self) -> dict[str, object]:
        """What a resumed run needs."""
        return {"updates": self.updates, "shadow": self.shadow}

    def restore(self, state: dict[str, object]) -> None:
        """Take over what :meth:`state` returned."""
        self.updates = int(state["updates"])  # type: ignore[arg-type]
        for name, value in state["shadow"].items():  # type: ignore[attr-defined]
            self.shadow[name].copy_(value)
