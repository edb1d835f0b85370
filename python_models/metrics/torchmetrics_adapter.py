"""IRSTDMetrics as a torchmetrics.Metric; importing this module needs torchmetrics."""
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from .accumulator import COUNTS, IRSTDMetrics


class IRSTDTorchMetric(Metric):
    """:class:`IRSTDMetrics` with its options, its counts one int64 state summed over processes.

    ``compute()`` returns the numbers of :meth:`IRSTDMetrics.compute`, without the protocol's name, as Python numbers.

    >>> metric = IRSTDTorchMetric(protocol="legacy")
    >>> metric.update(torch.full((1, 1, 4, 4), -1.0), torch.zeros(1, 1, 4, 4))
    >>> metric.compute()["Fa"]
    0.0
    """

    is_differentiable = False
    higher_is_better = None
    full_state_update = False
    counts: Tensor

    def __init__(self, protocol: str = "exact", *, input: str = "logits", threshold: float = 0.5,
                 fixed_pixels: int | None = None, maxnorm: bool = False, empty: str = "zero", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.engine = IRSTDMetrics(protocol, input=input, threshold=threshold, fixed_pixels=fixed_pixels,
                                   maxnorm=maxnorm, empty=empty)
        self.add_state("counts", default=torch.zeros(len(COUNTS), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, mask: Tensor) -> None:
        batch = torch.from_numpy(self.engine.count(prediction, mask))
        self.counts = self.counts + batch.to(self.counts.device)

    def compute(self) -> dict[str, Any]:
        self.engine.load_counts(self.counts)
        return {k: v for k, v in self.engine.compute().items() if not isinstance(v, str)}
