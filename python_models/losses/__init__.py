"""Losses, called as `criterion(out, target)`."""
from python_models.losses.base import Criterion
from python_models.losses.bce_soft_iou import BCESoftIoULoss
from python_models.losses.dice_edge import DiceEdgeLoss
from python_models.losses.soft_iou import SoftIoULoss

__all__ = ["BCESoftIoULoss", "Criterion", "DiceEdgeLoss", "SoftIoULoss"]
