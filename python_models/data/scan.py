"""Looking over image-mask pairs before they are used: sizes from the headers, values of the masks."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from .errors import DataError, some
from .images import image_size
from .layouts import Pair
from .masks import MASK_RULES, Mask, read_mask, same_aspect


@dataclass(frozen=True)
class Mismatch:
    """An image and its mask of two sizes, each (height, width)."""

    pair: Pair
    image: tuple[int, int]
    mask: tuple[int, int]

    def __str__(self) -> str:
        (h, w), (mh, mw) = self.image, self.mask
        return f"{self.pair.mask.name} is {mw} x {mh}, its image {self.pair.image.name} is {w} x {h}"


@dataclass(frozen=True)
class Findings:
    """What a scan met: pairs of two sizes, masks with grey values, and those among them that come out empty."""

    mismatches: tuple[Mismatch, ...]
    grey: tuple[str, ...]
    faint: tuple[str, ...]


def scan_pairs(pairs: list[Pair], rule: str = "binarise") -> Findings:
    """Reads every header and every mask once, several files at a time.

    Raises :class:`DataError` for the first file in order that cannot be read.
    """
    mismatches, grey, faint = [], [], []
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for pair, (size, mask_size, is_grey, is_faint) in zip(pairs, pool.map(partial(_look, rule=rule), pairs)):
            if mask_size != size:
                mismatches.append(Mismatch(pair, size, mask_size))
            if is_grey:
                grey.append(pair.name)
            if is_faint:
                faint.append(pair.name)
    return Findings(tuple(mismatches), tuple(grey), tuple(faint))


def _look(pair: Pair, rule: str) -> tuple[tuple[int, int], tuple[int, int], bool, bool]:
    size = image_size(pair.image)
    mask: Mask = read_mask(pair.mask, rule)
    return size, mask.values.shape, mask.grey, mask.faint


def mask_warning(found: Findings, total: int, rule: str = "binarise") -> str | None:
    """One sentence that counts the grey masks, or None."""
    if not found.grey:
        return None
    text = f"{len(found.grey)} of {total} masks are not binary and were {MASK_RULES[rule]}: {some(list(found.grey))}"
    if found.faint:
        text += f"; {len(found.faint)} of them came out empty: {some(list(found.faint))}"
    return text


def resolve_mismatches(found: Findings, policy: str) -> tuple[set[str], str | None]:
    """(names to leave out, one warning or None) by ``policy``: "resize", "skip" or "error".

    "resize" wants the two width / height ratios to agree within 1 %. Raises :class:`DataError` otherwise.
    """
    if not found.mismatches:
        return set(), None
    text = "; ".join(map(str, found.mismatches[:5]))
    if len(found.mismatches) > 5:
        text += f" and {len(found.mismatches) - 5} more"
    if policy == "error":
        raise DataError(f"mask and image differ in size: {text}")
    if policy == "skip":
        return {m.pair.name for m in found.mismatches}, f"left out, mask and image differ in size: {text}"
    for mismatch in found.mismatches:
        if not same_aspect(mismatch.image, mismatch.mask):
            raise DataError(f"mask and image differ in size and in shape (mask_mismatch=skip leaves it out): {mismatch}")
    return set(), f"mask resized to its image by nearest neighbour: {text}"
