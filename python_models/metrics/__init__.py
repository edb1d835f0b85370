"""Metrics of infrared small target detection under named protocols, counted over ``irstd_ext.targets``.

``IRSTDTorchMetric`` (a torchmetrics class) is loaded when it is asked for, so torchmetrics stays optional.
"""
from __future__ import annotations

from typing import Any

from .accumulator import COUNTS, IRSTDMetrics
from .sweep import THRESHOLDS, CoarseSweep, pixel_auc

__all__ = ["COUNTS", "THRESHOLDS", "CoarseSweep", "IRSTDMetrics", "IRSTDTorchMetric", "pixel_auc"]


def __getattr__(name: str) -> Any:
    if name == "IRSTDTorchMetric":
        from .torchmetrics_adapter import IRSTDTorchMetric
        return IRSTDTorchMetric
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
