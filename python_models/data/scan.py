"""Looking over image-mask pairs before they are used: sizes from the headers, values of the masks."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import DataError, some
from .images import image_size
from .layouts import Pair
from .masks import read_mask, same_aspect


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


def scan_pairs(pairs: list[Pair]) -> Findings:
    """Reads every header and every mask once. Raises :class:`DataError` for the first file that cannot be read."""
    mismatches, grey, faint = [], [], []
    for pair in pairs:
        size = image_size(pair.image)
        mask = read_mask(pair.mask)
        if mask.values.shape != size:
            mismatches.append(Mismatch(pair, size, mask.values.shape))
        if mask.grey:
            grey.append(pair.name)
        if mask.faint:
            faint.append(pair.name)
    return Findings(tuple(mismatches), tuple(grey), tuple(faint))


def mask_warning(found: Findings, total: int) -> str | None:
    """One sentence that counts the grey masks, or None."""
    if not found.grey:
        return None
    text = f"{len(found.grey)} of {total} masks are not binary and were binarised at half scale: {some(list(found.grey))}"
    if found.faint:
        text += f"; {len(found.faint)} of them hold nothing above half scale and are empty now: {some(list(found.faint))}"
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
            raise DataError(f"mask and image differ in size and in shape (mask_mismatch='skip' leaves it out): {mismatch}")
    return set(), f"mask resized to its image by nearest neighbour: {text}"
