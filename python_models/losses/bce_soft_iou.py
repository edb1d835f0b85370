"""Cross-entropy together with soft intersection over union."""
from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional as F

from python_models.losses.base import Criterion
from python_models.losses.soft_iou import SoftIoULoss


class BCESoftIoULoss(Criterion):
    """Binary cross-entropy of the logits, the mean over all pixels, plus `SoftIoULoss` for each image, the mean over images.

    The cross-entropy has a gradient at every pixel where the ratio of sums is flat; the ratio keeps the few target pixels from drowning in
    the background. smooth and per_image as `SoftIoULoss`. Computed in float32 (float64 for float64 logits), also under autocast.
    Arguments and errors as `Criterion`.

    >>> import torch
    >>> loss = BCESoftIoULoss()({"logits": torch.full((2, 1, 4, 4), 20.0)}, torch.ones(2, 4, 4))
    >>> round(loss.item(), 4)
    0.0
    """

    def __init__(self, smooth: float = 1.0, per_image: bool = True) -> None:
        super().__init__()
        self.soft_iou = SoftIoULoss(smooth, per_image)

    def forward(self, out: Mapping[str, Tensor] | Tensor, target: Mapping[str, Tensor] | Tensor) -> Tensor:
        logits, mask = self.read(out, target)
        cross_entropy = F.binary_cross_entropy_with_logits(logits, mask, reduction="sum") / max(logits.numel(), 1)
        return cross_entropy + self.soft_iou(logits, mask)
