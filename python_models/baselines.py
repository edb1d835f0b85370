"""The top-hat filter: the classical detector whose figures stand beside a network's, so that they mean something."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class TopHat:
    """White top-hat with a square structuring element, thresholded per image at ``k`` standard deviations above its mean.

    top_hat(x) = x - opening(x), opening = dilation of the erosion, both over ``size`` x ``size`` pixels; borders repeat
    the image. The object is a scorer: image (1, H, W) -> (H, W), (top_hat - mean) / std - k, above 0 is target.

    >>> image = torch.zeros(1, 32, 32); image[0, 10, 12] = 1.0
    >>> (TopHat()(image) > 0).nonzero().tolist()
    [[10, 12]]
    """

    size: int = 9
    k: float = 8.0

    def __post_init__(self) -> None:
        if self.size < 3 or self.size % 2 == 0:
            raise ValueError(f"TopHat: size must be odd and >= 3, got {self.size}")

    def __call__(self, image: Tensor) -> Tensor:
        return self.contrast(image) - self.k

    def contrast(self, image: Tensor) -> Tensor:
        """(top_hat - mean) / std of an image (1, H, W), float32 (H, W); 0 everywhere for a flat response."""
        pad = self.size // 2
        x = image[None].float()
        around = F.pad(x, (pad,) * 4, mode="replicate")
        eroded = -F.max_pool2d(-around, self.size, stride=1)
        opened = F.max_pool2d(F.pad(eroded, (pad,) * 4, mode="replicate"), self.size, stride=1)
        response = (x - opened)[0, 0]
        std = response.std(correction=0)
        return (response - response.mean()) / std if std > 0 else torch.zeros_like(response)

    @staticmethod
    def fit(dataset: Sequence[Mapping[str, Any]], sizes: Sequence[int] = (5, 7, 9, 13), limit: int = 128) -> TopHat:
        """The size and threshold with the highest IoU on (up to ``limit`` evenly taken images of) a training list."""
        count = min(limit, len(dataset))
        samples = [dataset[i * len(dataset) // count] for i in range(count)]
        ks = torch.arange(1.0, 30.5, 0.5)
        best = (-1.0, TopHat())
        for size in sizes:
            hit, union = torch.zeros(len(ks)), torch.zeros(len(ks))
            for sample in samples:
                contrast, mask = TopHat(size).contrast(sample["image"]), sample["mask"][0] > 0.5
                for i, k in enumerate(ks):
                    found = contrast > k
                    hit[i] += (found & mask).sum()
                    union[i] += (found | mask).sum()
            iou = hit / union.clamp_min(1)
            i = int(iou.argmax())
            if float(iou[i]) > best[0]:
                best = (float(iou[i]), TopHat(size, float(ks[i])))
        return best[1]
