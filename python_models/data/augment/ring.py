"""A target and the ring of background around it, the window in which contrast and SCR are measured."""

from __future__ import annotations

import numpy as np

from irstd_ext import targets

REACH = 10  # px, or the target's own size where that is larger


def target_and_ring(mask: np.ndarray, region: targets.Region) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray]:
    """(rows and columns of the window, the target in it, the ring in it); the last two boolean.

    The window is the target's box and max(10, width, height) px around it, cut at the image's edge. The ring is the window
    without the box and without any other target. ``mask`` bool (H, W); ``region`` one of its 8-connected components.
    """
    x, y, w, h = region.box
    reach = max(REACH, w, h)
    rows, cols = slice(max(0, y - reach), y + h + reach), slice(max(0, x - reach), x + w + reach)
    ring = ~mask[rows, cols]
    inside = (slice(y - rows.start, y - rows.start + h), slice(x - cols.start, x - cols.start + w))
    ring[inside] = False
    target = np.zeros_like(ring)
    box = mask[y : y + h, x : x + w]
    labels, _ = targets.label(box)
    # two components of one box would have to cross, and then they would be one
    own = [part.label for part in targets.regions(box) if part.box == (0, 0, w, h) and part.area == region.area]
    if len(own) != 1:
        raise ValueError(f"region must be a component of the mask, got box {region.box} with {region.area} px")
    target[inside] = labels == own[0]
    return (rows, cols), target, ring
