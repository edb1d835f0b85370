"""Cutting an axis of an image into tiles whose results join into that of the whole image.

The network sees a window: the tile's core and a halo of context around it. Only the core is used, so where the halo
is at least the network's receptive radius, and windows begin on the grid of its pooling, nothing differs from the
whole image. Image borders stay borders: a window ends where the image ends.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Span:
    """A tile along one axis: the network sees pixels start..stop, of which low..high are used, with ``weight`` (high - low)."""

    start: int
    stop: int
    low: int
    high: int
    weight: Tensor


def spans(length: int, tile: int, halo: int = 0, overlap: int = 0, stride: int = 1, least: int = 1, window: int | None = None) -> list[Span]:
    """The tiles of an axis of ``length`` pixels: cores of ``tile``, neighbours sharing ``overlap``, ``halo`` on both sides.

    Windows begin and end on multiples of ``stride`` or at the image border, and hold at least ``least`` pixels where the
    axis does. With ``window`` every window has exactly that size: it is moved inside the image, and beyond the image
    where that is smaller. The weights of all tiles sum to 1 at every pixel.

    >>> [(s.start, s.stop, s.low, s.high) for s in spans(100, tile=40, halo=10, stride=16)]
    [(0, 64, 0, 40), (16, 96, 40, 80), (64, 100, 80, 100)]
    """
    found = []
    for low in range(0, max(1, length - overlap), tile - overlap):
        high = min(low + tile, length)
        if window is not None:
            start = max(0, min(low - halo, length - window))
            stop = start + window
        else:
            start = max(0, min(low - halo, length - least)) // stride * stride
            stop = min(length, -(-max(high + halo, start + least) // stride) * stride)
        weight = torch.ones(high - low)
        if low > 0:
            weight[:overlap] = _ramp(overlap)
        if high < length:
            weight[high - low - overlap :] = _ramp(overlap).flip(0)
        found.append(Span(start, stop, low, high, weight))
    return found


def _ramp(size: int) -> Tensor:
    """sin^2 from 0 to 1 at ``size`` pixel centres; with its mirror image it sums to 1."""
    return torch.sin((torch.arange(size) + 0.5) / max(size, 1) * (torch.pi / 2)) ** 2
