"""The counting metrics as torchmetrics.Metric; importing this module needs torchmetrics."""
from __future__ import annotations

import re
from typing import Any, Sequence

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from .accumulator import COUNTS, IRSTDMetrics
from .breakdown import SCRS, SIZES, Breakdown
from .sweep import CoarseSweep


class _Counting(Metric):
    """A metric whose states are int64 sums, counted by ``engine`` and added over processes."""

    is_differentiable = False
    higher_is_better = None
    full_state_update = False
    engine: Any

    def _add_states(self, **sizes: tuple[int, ...]) -> None:
        # MetricCollection takes metrics whose states have equal names and, after the first batch, equal values for one and
        # the same, and updates only the first: the names therefore carry the options.
        options = re.sub(r"\W+", "_", "_".join(map(str, self.engine.options.values())))
        self._names = [f"{name}_{options}" for name in sizes]
        for name, size in zip(self._names, sizes.values()):
            self.add_state(name, default=torch.zeros(size, dtype=torch.int64), dist_reduce_fx="sum")

    @property
    def counts(self) -> tuple[Tensor, ...]:
        """The states, int64."""
        return tuple(getattr(self, name) for name in self._names)

    def _add(self, *batch: np.ndarray) -> None:
        for name, state, new in zip(self._names, self.counts, batch):
            setattr(self, name, state + torch.from_numpy(new).to(state.device))

    def update(self, prediction: Tensor, mask: Tensor) -> None:
        count = self.engine.count(prediction, mask)
        self._add(*(count if isinstance(count, tuple) else (count,)))

    def compute(self) -> dict[str, Any]:
        self.engine.load_counts(*(state.cpu().numpy() for state in self.counts))
        return {k: v for k, v in self.engine.compute().items() if not isinstance(v, str)}


class IRSTDTorchMetric(_Counting):
    """:class:`IRSTDMetrics` with its options as a torchmetrics class.

    ``compute()`` returns the numbers of :meth:`IRSTDMetrics.compute`, without the names in it, as Python numbers.

    >>> metric = IRSTDTorchMetric(protocol="legacy")
    >>> metric.update(torch.full((1, 1, 4, 4), -1.0), torch.zeros(1, 1, 4, 4))
    >>> metric.compute()["Fa"]
    0.0
    """

    def __init__(self, protocol: str = "exact", *, input: str = "logits", threshold: float = 0.5, fixed_pixels: int | None = None,
                 maxnorm: bool = False, empty: str = "zero", gt_rule: str = "half", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.engine = IRSTDMetrics(protocol, input=input, threshold=threshold, fixed_pixels=fixed_pixels, maxnorm=maxnorm, empty=empty,
                                   gt_rule=gt_rule)
        self._add_states(counts=(len(COUNTS),))


class CoarseSweepTorchMetric(_Counting):
    """:class:`CoarseSweep` with its options as a torchmetrics class; ``compute()`` returns the same arrays.

    >>> metric = CoarseSweepTorchMetric(input="logits")
    >>> metric.update(torch.full((1, 1, 4, 4), -1.0), torch.ones(1, 1, 4, 4))
    >>> metric.compute()["roc_tp"].tolist()
    [16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0]
    """

    def __init__(self, input: str = "scores", *, gt_rule: str = "half", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.engine = CoarseSweep(input, gt_rule=gt_rule)
        self._add_states(counts=(5, 11), sizes=(4,))


class BreakdownTorchMetric(_Counting):
    """:class:`Breakdown` with its options as a torchmetrics class; the image goes by name: ``update(p, m, image=x)``.

    >>> metric = BreakdownTorchMetric()
    >>> metric.update(torch.full((1, 1, 4, 4), -1.0), torch.ones(1, 1, 4, 4))
    >>> metric.compute()["by_size"][1]["n_gt"]
    1
    """

    def __init__(self, protocol: str = "exact", *, sizes: Sequence[int] = SIZES, scr: Sequence[float] = SCRS, input: str = "logits",
                 threshold: float = 0.5, maxnorm: bool = False, gt_rule: str = "half", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.engine = Breakdown(protocol, sizes=sizes, scr=scr, input=input, threshold=threshold, maxnorm=maxnorm, gt_rule=gt_rule)
        self._add_states(counts=(2, len(sizes) + len(scr) + 3))

    def update(self, prediction: Tensor, mask: Tensor, image: Tensor | None = None) -> None:
        self._add(self.engine.count(prediction, mask, image))
