"""ProtocolMetrics: every protocol in one pass, image by image, and bootstrap intervals over the images."""
from __future__ import annotations

import math
from typing import Any, Sequence

import numpy as np

from irstd_ext import targets

from .counting import ROW, check_options, count_image, figures, of_protocol
from .inputs import Reading

ROW_DTYPE = np.dtype([(name, np.int64) for name in ROW])
INTERVAL_FIELDS = ("IoU", "nIoU", "F1", "precision", "recall", "Pd", "Fa")
MAX_SAMPLES = 1_000_000  # the ends of an interval are then known to a thousandth of its width, and memory stays small
_CHUNK = 1 << 22  # weights drawn at a time


class ProtocolMetrics:
    """:class:`IRSTDMetrics` of all four protocols at once, keeping one row of integers per image.

    Options as there; ``fixed_pixels`` applies to all protocols but ``overlap``. The integers and figures equal those of
    four :class:`IRSTDMetrics`. The rows cost 160 bytes an image and allow per-image tables, :meth:`bootstrap`, and
    the figures of any choice of images.

    >>> mask = np.zeros((2, 8, 8), bool); mask[0, 2:4, 2:4] = True
    >>> metric = ProtocolMetrics()
    >>> metric.update(10.0 * mask - 5, mask)
    >>> metric.compute("legacy")["Pd"], metric.rows()["TP"].tolist(), metric.compute("exact", rows=[1])["Pd"]
    (1.0, [4, 0], nan)
    """

    def __init__(self, *, input: str = "logits", threshold: float = 0.5, fixed_pixels: int | None = None, maxnorm: bool = False,
                 empty: str = "zero", gt_rule: str = "half") -> None:
        self._reading = Reading("ProtocolMetrics", input, float(threshold), bool(maxnorm), gt_rule)
        check_options("ProtocolMetrics", fixed_pixels, empty)
        self.options: dict[str, Any] = {"input": input, "threshold": float(threshold), "fixed_pixels": fixed_pixels,
                                        "maxnorm": bool(maxnorm), "empty": empty, "gt_rule": gt_rule}
        self.reset()

    def reset(self) -> None:
        """Forgets every image."""
        self._rows: list[tuple[int, ...]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def update(self, prediction: Any, mask: Any) -> None:
        """Adds a batch, one row per image in its order; shapes, values and errors as in :meth:`IRSTDMetrics.update`."""
        planes = self._reading.planes(prediction, mask)
        counted = [count_image(pred, gt, maxnorm=self.options["maxnorm"]) for pred, gt in planes]
        self._rows += [tuple(row[name] for name in ROW) for row in counted]

    def rows(self) -> np.ndarray:
        """Structured int64 array [images] with the fields ``ROW``, a copy, in the order of the updates."""
        return np.array(self._rows, dtype=ROW_DTYPE)

    def compute(self, protocol: str = "exact", rows: Any = None) -> dict[str, Any]:
        """The dict of :meth:`IRSTDMetrics.compute` under ``protocol``, over all images or those that ``rows`` picks
        (indices, which may repeat, or booleans)."""
        _check_protocol(protocol, "ProtocolMetrics.compute")
        chosen = self.rows()
        if rows is not None:
            picked = np.asarray(rows)
            chosen = chosen[picked if picked.size else picked.astype(np.intp)]
        total = {name: int(chosen[name].sum()) for name in ROW}
        o = self.options
        names = {"protocol": protocol, "threshold": o["threshold"], "gt_rule": o["gt_rule"]}
        return names | figures(of_protocol(total, protocol), protocol, _pixels(o, protocol), o["maxnorm"], o["empty"])

    def bootstrap(self, protocol: str = "exact", fields: Sequence[str] = INTERVAL_FIELDS, samples: int = 1000, seed: int = 0,
                  level: float = 0.95) -> dict[str, tuple[float, float]]:
        """:func:`bootstrap` of these images with these options. One seed draws the same images for every protocol."""
        o = self.options
        return bootstrap(self.rows(), fields, samples, seed, level, protocol=protocol, fixed_pixels=_pixels(o, protocol),
                         maxnorm=o["maxnorm"], empty=o["empty"])

    def merge(self, other: "ProtocolMetrics") -> "ProtocolMetrics":
        """Appends the images of another object with the same options; returns self."""
        if not isinstance(other, ProtocolMetrics) or other.options != self.options:
            raise ValueError(f"ProtocolMetrics.merge: options must be equal, got {self.options} and {getattr(other, 'options', other)}")
        self._rows = self._rows + other._rows
        return self


def bootstrap(rows: np.ndarray, fields: Sequence[str] = INTERVAL_FIELDS, samples: int = 1000, seed: int = 0, level: float = 0.95, *,
              protocol: str = "exact", fixed_pixels: int | None = None, maxnorm: bool = False, empty: str = "zero") -> dict[str, tuple[float, float]]:
    """Percentile bootstrap intervals over images: {field: (low, high)}, from the rows of :meth:`ProtocolMetrics.rows`.

    ``samples`` times as many images as there are are drawn with replacement, as how often each is drawn: multinomial numbers
    of ``numpy.random.default_rng(seed)``. The figures of each draw are taken from its sums, and the interval holds the middle
    ``level`` of them (linear quantiles). Draws in which a field is undefined are left out of it; a field undefined in every
    draw, or in the whole set, gives (nan, nan). One seed gives one answer, whatever the order of the images. Memory: 8 bytes
    a sample and field, beside a bounded part.
    Source: Efron, "Nonparametric standard errors and confidence intervals", Canadian J. Statistics 9, 1981.

    Raises ValueError for an unknown protocol or field, samples outside 1 .. 1000000, or a level outside (0, 1).

    >>> metric, mask = ProtocolMetrics(input="scores"), np.ones((2, 4, 4))
    >>> metric.update(mask * [[[1, 1, 0, 0]]], mask)  # both images alike: half of each is found
    >>> bootstrap(metric.rows(), ["recall"])
    {'recall': (0.5, 0.5)}
    """
    _check_protocol(protocol, "bootstrap")
    if samples < 1 or not 0 < level < 1:
        raise ValueError(f"bootstrap: samples must be >= 1 and level in (0, 1), got {samples} and {level}")
    if samples > MAX_SAMPLES:
        raise ValueError(f"bootstrap: samples must be <= {MAX_SAMPLES}, got {samples}")
    n = len(rows)
    counts = np.stack([rows[name] for name in ROW], axis=1)
    counts = counts[np.lexsort(counts.T)]  # the order of the images cannot matter
    whole = dict(zip(ROW, counts.sum(axis=0).tolist()))

    def ratios(sums: dict[str, Any]) -> dict[str, Any]:
        return figures(of_protocol(sums, protocol), protocol, fixed_pixels, maxnorm, empty)

    once = ratios(whole)
    unknown = [f for f in fields if f not in once]
    if unknown:
        raise ValueError(f"bootstrap: fields must be among {', '.join(once)}, got {unknown[0]!r}")
    rng, step = np.random.default_rng(seed), max(1, _CHUNK // max(n, len(ROW)))
    drawn = {f: np.full(samples if n else 0, np.nan) for f in fields}
    for first in range(0, samples if n else 0, step):
        sums = rng.multinomial(n, np.full(n, 1 / n), size=min(step, samples - first)) @ counts
        found = ratios(dict(zip(ROW, sums.T)))
        for f, values in drawn.items():
            values[first : first + step] = found[f]
    return {f: (math.nan, math.nan) if math.isnan(once[f]) else _middle(drawn[f], level) for f in fields}


def _middle(values: np.ndarray, level: float) -> tuple[float, float]:
    values = values[~np.isnan(values)]
    if not len(values):
        return math.nan, math.nan
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _check_protocol(protocol: str, op: str) -> None:
    if protocol not in targets.PROTOCOLS:
        raise ValueError(f"{op}: protocol must be one of {', '.join(targets.PROTOCOLS)}, got {protocol!r}")


def _pixels(options: dict[str, Any], protocol: str) -> int | None:
    return None if protocol == "overlap" else options["fixed_pixels"]
