"""Metrics of infrared small target detection under named protocols, counted over ``irstd_ext.targets``.

The torchmetrics classes (``*TorchMetric``) are loaded when they are asked for, so torchmetrics stays optional.
"""
from __future__ import annotations

from typing import Any

from .accumulator import COUNTS, IRSTDMetrics
from .auc import PixelAUC, pixel_auc
from .breakdown import Breakdown, target_scr
from .inputs import GT_RULES
from .protocols import ProtocolMetrics, bootstrap
from .sweep import THRESHOLDS, CoarseSweep

__all__ = ["COUNTS", "GT_RULES", "THRESHOLDS", "Breakdown", "BreakdownTorchMetric", "CoarseSweep", "CoarseSweepTorchMetric", "IRSTDMetrics",
           "IRSTDTorchMetric", "PixelAUC", "ProtocolMetrics", "bootstrap", "pixel_auc", "target_scr"]


def __getattr__(name: str) -> Any:
    if name in ("BreakdownTorchMetric", "CoarseSweepTorchMetric", "IRSTDTorchMetric"):
        from . import torchmetrics_adapter
        return getattr(torchmetrics_adapter, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
