"""Detection by target size and by signal-to-clutter ratio."""
from __future__ import annotations

import math
from typing import Any, Sequence

import numpy as np

from irstd_ext import targets
from irstd_ext.targets import Match, Region
from python_models.data.augment.ring import target_and_ring

from .inputs import Reading, as_images, ratio

SIZES = (9, 20, 40, 80)  # px, the last area of each bin: 1-9, 10-20, 21-40, 41-80, more
SCRS = (3.0, 6.0, 10.0, 15.0)  # the first SCR of each further bin: < 3, 3-6, 6-10, 10-15, >= 15


def target_scr(image: Any, gt_mask: Any, region: Region) -> float:
    """Signal-to-clutter ratio |mu_t - mu_b| / sigma_b of one target of an image.

    mu_t is the mean over the target's pixels; mu_b and sigma_b (population) are taken over the ring: max(10, width, height)
    px around the target's box, cut at the image's edge, without the box and without any other target. The synthetic
    generator uses the same definition. ``image`` [H, W] or [1, H, W], of any scale; ``gt_mask`` [H, W], non-zero =
    target; ``region`` one of :func:`irstd_ext.targets.regions` of it.

    A ring of one value gives inf, or 0 where the target has that value too; a target that leaves no ring gives NaN.
    Raises ValueError where the shapes differ or the region is no component of the mask.

    >>> image, mask = np.tile([0.0, 2.0], (40, 20)), np.zeros((40, 40), bool)
    >>> mask[20:23, 20:22] = True; image[mask] = 6
    >>> target_scr(image, mask, targets.regions(mask)[0])
    5.0
    """
    grey, mask = targets.as_array(image), targets.as_array(gt_mask) != 0
    grey = grey[0] if grey.ndim == 3 and len(grey) == 1 else grey
    if mask.ndim != 2 or grey.shape != mask.shape:
        raise ValueError(f"target_scr: image and gt_mask must have one shape [H, W], got {grey.shape} and {mask.shape}")
    try:
        window, target, ring = target_and_ring(mask, region)
    except ValueError as error:
        raise ValueError(f"target_scr: {error}") from None
    if not ring.any():
        return math.nan
    values = grey[window].astype(np.float64)
    around = values[ring]
    if around.min() == around.max():  # flat; its rounded deviation need not be 0
        return math.inf if (values[target] != around[0]).any() else 0.0
    return abs(float(values[target].mean() - around.mean())) / float(around.std())


class Breakdown:
    """Pd by target size (area in px) and by SCR, as counts of targets and hits that add up over images and processes.

    Args:
        protocol: what a hit is, see :func:`irstd_ext.targets.match`.
        sizes: last area of every bin but the open last one: (9, 20, 40, 80) gives 1-9, 10-20, 21-40, 41-80, > 80 px.
        scr: first SCR of every bin but the first: (3, 6, 10, 15) gives < 3, 3-6, 6-10, 10-15, >= 15; low <= SCR < high.
        input, threshold, maxnorm, gt_rule: as in :class:`IRSTDMetrics`.

    >>> mask = np.zeros((64, 64), bool); mask[10:13, 10:13] = mask[40:44, 40:45] = True
    >>> breakdown = Breakdown()
    >>> breakdown.update(np.where(mask & (np.arange(64) < 30), 1.0, -1.0), mask)
    >>> [(b["low"], b["high"], b["n_gt"], b["n_hit"]) for b in breakdown.compute()["by_size"]][:2]
    [(1, 9, 1, 1), (10, 20, 1, 0)]
    """

    def __init__(self, protocol: str = "exact", *, sizes: Sequence[int] = SIZES, scr: Sequence[float] = SCRS, input: str = "logits",
                 threshold: float = 0.5, maxnorm: bool = False, gt_rule: str = "half") -> None:
        if protocol not in targets.PROTOCOLS:
            raise ValueError(f"Breakdown: protocol must be one of {', '.join(targets.PROTOCOLS)}, got {protocol!r}")
        for name, edges in (("sizes", sizes), ("scr", scr)):
            if not edges or not all(0 < a < b for a, b in zip(edges, [*edges[1:], math.inf])):
                raise ValueError(f"Breakdown: {name} must be rising numbers > 0, got {tuple(edges)}")
        self._reading = Reading("Breakdown", input, float(threshold), bool(maxnorm), gt_rule)
        self.options: dict[str, Any] = {"protocol": protocol, "sizes": tuple(map(int, sizes)), "scr": tuple(map(float, scr)), "input": input,
                                        "threshold": float(threshold), "maxnorm": bool(maxnorm), "gt_rule": gt_rule}
        self.reset()

    def reset(self) -> None:
        """Clears every count."""
        self._counts = np.zeros((2, len(self.options["sizes"]) + len(self.options["scr"]) + 3), np.int64)

    def update(self, prediction: Any, mask: Any, image: Any = None) -> None:
        """Adds a batch, [H, W], [B, H, W] or [B, 1, H, W] each; without ``image`` the targets count by size only."""
        self.load_counts(self._counts + self.count(prediction, mask, image))

    def count(self, prediction: Any, mask: Any, image: Any = None) -> np.ndarray:
        """Counts int64 [2, bins] of one batch alone, targets and hits: sizes, SCRs, undefined SCR."""
        pairs = list(self._reading.planes(prediction, mask))
        images: list[Any] = [None] * len(pairs)
        if image is not None:
            stack = as_images(image, "Breakdown", "image")
            images = list(stack.double().cpu().numpy())
            if [i.shape for i in images] != [gt.shape for _, gt in pairs]:
                raise ValueError(f"Breakdown: image and mask must have one shape, got {tuple(stack.shape)} for {len(pairs)} masks")
        total = np.zeros_like(self._counts)
        for (pred, gt), grey in zip(pairs, images):
            regions = targets.regions(gt)
            scr = None if grey is None else [target_scr(grey, gt, r) for r in regions]
            total += self._count_image(targets.match(pred, gt, self.options["protocol"]), regions, scr)
        return total

    def add(self, match: Match, regions: Sequence[Region], scr: Sequence[float] | None = None) -> None:
        """Adds one image that is already matched: its true ``regions`` in their order, and their SCR where known."""
        if match.protocol != self.options["protocol"] or len(regions) != match.n_gt or (scr is not None and len(scr) != match.n_gt):
            raise ValueError(f"Breakdown.add: match must be {self.options['protocol']} of as many targets as regions and scr, got {match.protocol} "
                             f"with {match.n_gt}, {len(regions)} and {'no' if scr is None else len(scr)}")
        self.load_counts(self._counts + self._count_image(match, regions, scr))

    def _count_image(self, match: Match, regions: Sequence[Region], scr: Sequence[float] | None) -> np.ndarray:
        sizes, scrs = self.options["sizes"], self.options["scr"]
        places = [np.searchsorted(sizes, [r.area for r in regions], side="left")]
        if scr is not None:
            first = len(sizes) + 1
            values = np.asarray(scr, np.float64)
            places.append(np.where(np.isnan(values), first + len(scrs) + 1, first + np.searchsorted(scrs, values, side="right")))
        counts = np.zeros_like(self._counts)
        for place in places:
            np.add.at(counts[0], place.astype(np.intp), 1)
            np.add.at(counts[1], place.astype(np.intp), match.hit.astype(np.int64))
        return counts

    def compute(self) -> dict[str, list[dict[str, Any]]]:
        """``by_size`` and ``by_scr``: lists of ``{"low", "high", "n_gt", "n_hit", "Pd"}``, Pd NaN in an empty bin.

        Areas lie in low..high, both included; for SCR low <= value < high. An open end is None. Targets whose SCR is
        undefined, where there are any, make a last entry with both ends None.
        """
        sizes, scrs = self.options["sizes"], self.options["scr"]
        n_gt, n_hit = self._counts.tolist()
        ends: list[tuple[Any, Any]] = [*zip((1, *(s + 1 for s in sizes)), (*sizes, None)), *zip((0.0, *scrs), (*scrs, None)), (None, None)]
        bins = [{"low": low, "high": high, "n_gt": g, "n_hit": h, "Pd": ratio(h, g)} for (low, high), g, h in zip(ends, n_gt, n_hit)]
        split = len(sizes) + 1
        return {"by_size": bins[:split], "by_scr": bins[split:] if n_gt[-1] else bins[split:-1]}

    def load_counts(self, counts: np.ndarray) -> None:
        """Replaces the counts by those of :meth:`count`, or sums of them."""
        self._counts = np.asarray(counts, np.int64)

    def merge(self, other: "Breakdown") -> "Breakdown":
        """Adds the counts of another breakdown with the same options; returns self."""
        if not isinstance(other, Breakdown) or other.options != self.options:
            raise ValueError(f"Breakdown.merge: options must be equal, got {self.options} and {getattr(other, 'options', other)}")
        self.load_counts(self._counts + other._counts)
        return self
