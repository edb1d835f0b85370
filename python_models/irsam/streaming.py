"""Channels innermost, and inference on the CPU through small pieces, where a large new map costs more than the arithmetic on it."""
from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

_BUDGET = 4 << 20  # bytes of one piece of a hidden map for each thread: stays in the cache
_LEAST = 4  # rows of the result in one band: below this the rows computed twice cost more than the cache gains


def channels_last(x: Tensor) -> Tensor:
    """x (B, C, H, W) with its channels innermost; itself where they are. Under vmap too, which `contiguous(memory_format=...)` does not know."""
    return x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


def bands(height: int, row_bytes: int, stride: int) -> Iterator[tuple[int, int, int, int]]:
    """Bands (first, end, low, high) of a 3x3 convolution with padding 1 over `height` hidden rows of row_bytes each.

    Result rows first to end come from hidden rows low to high, of which -1 and `height` are padding.

    >>> list(bands(7, 1 << 40, 1))  # far too large: the least height
    [(0, 4, -1, 5), (4, 7, 3, 8)]
    """
    result = (height - 1) // stride + 1
    rows = max(_LEAST, (_budget() // row_bytes - 2) // stride)
    for first in range(0, result, rows):
        end = min(first + rows, result)
        yield first, end, first * stride - 1, (end - 1) * stride + 2


def pieces(length: int, row_bytes: int) -> Iterator[slice]:
    """Slices of `length` rows whose hidden rows, of row_bytes each, fill the budget.

    >>> list(pieces(2, 1 << 40))
    [slice(0, 1, None), slice(1, 2, None)]
    """
    rows = max(1, _budget() // row_bytes)
    return (slice(first, min(first + rows, length)) for first in range(0, length, rows))


def fits(elements: int, itemsize: int) -> bool:
    """Whether a hidden map is small enough to be one piece."""
    return elements * itemsize <= _budget()


def _budget() -> int:
    return _BUDGET * torch.get_num_threads()
