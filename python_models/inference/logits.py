"""A network's logits of one image at its own size."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from python_models.layers.network import IRSTDNet

Scorer = Callable[[Tensor], Tensor]
"""Image (1, H, W) in [0, 1] -> logits (H, W): above 0 is target."""


@torch.inference_mode()
def predict_logits(net: IRSTDNet, image: Tensor) -> Tensor:
    """Logits (H, W), float32 on the CPU, of one image (1, H, W) in [0, 1] at its own size.

    A network of fixed size sees the image resized (bilinear, antialiased) and its logits go back bilinearly. One image
    per call, so that a result cannot depend on what else is judged.
    """
    height, width = image.shape[-2:]
    x = resize(image[None].float(), net.input_size) if net.input_size else image[None].float()
    logits = net(net.preprocess(x))["logits"].float()
    if logits.shape[-2:] != (height, width):
        logits = F.interpolate(logits, size=(height, width), mode="bilinear", align_corners=False)
    return logits[0, 0].cpu()


def resize(image: Tensor, size: int) -> Tensor:
    """(B, 1, H, W) -> (B, 1, size, size), bilinear with antialiasing; untouched where it has that size."""
    if tuple(image.shape[-2:]) == (size, size):
        return image
    return F.interpolate(image, size=(size, size), mode="bilinear", align_corners=False, antialias=True)


def network_scorer(net: IRSTDNet) -> Scorer:
    """The network as a scorer; it must be in eval mode."""
    return lambda image: predict_logits(net, image)
