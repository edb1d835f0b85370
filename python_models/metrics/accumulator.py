"""IRSTDMetrics: pixel and target metrics accumulated as integers over a data set."""
from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from irstd_ext import targets

from .counting import COUNTS, check_options, count_image, figures, of_protocol
from .inputs import Reading


class IRSTDMetrics:
    """IoU, nIoU, F1, Pd and Fa of a data set under one named protocol.

    Counts are int64 sums over images and every ratio is taken once, in :meth:`compute`: image order, batch
    size and the number of processes change nothing. Ratios without a denominator are NaN.

    Args:
        protocol: ``"exact"``, ``"legacy"``, ``"overlap"`` or ``"shooting"``, see :func:`irstd_ext.targets.match`.
        input: ``"logits"`` (compared with 0 directly) or ``"scores"`` in [0, 1] (compared with 0.5); both strict.
        threshold: score threshold in [0, 1]; for logits its logit is used.
        fixed_pixels: pixels counted per image in the denominator of Fa instead of the true H*W
            (256*256 reproduces DNANet); not for ``"overlap"``, whose denominator is the background.
        maxnorm: compare with ``threshold`` times the image's own maximum (RPCANet, AGPCNet), scores only, any scale
            >= 0. Under ``"overlap"`` images without targets then count neither hits nor background.
        empty: ``"zero"`` counts nIoU 0 for an image without target and prediction, ``"skip"`` leaves it out.
        gt_rule: true pixels of a mask that holds grey values: ``"half"`` (above half of full scale), ``"full"`` (at full
            scale, as code that casts to int64 reads it) or ``"nonzero"``.

    Source: specification of the field's public code, by protocol name; F1_eps as in ABC and SCTransNet.

    >>> import torch
    >>> mask = torch.zeros(1, 1, 8, 8); mask[..., 2:4, 2:4] = 1
    >>> metric = IRSTDMetrics()
    >>> metric.update(10 * mask - 5, mask)
    >>> result = metric.compute()
    >>> result["IoU"], result["Pd"], result["Fa"]
    (1.0, 1.0, 0.0)
    """

    def __init__(self, protocol: str = "exact", *, input: str = "logits", threshold: float = 0.5,
                 fixed_pixels: int | None = None, maxnorm: bool = False, empty: str = "zero", gt_rule: str = "half") -> None:
        if protocol not in targets.PROTOCOLS:
            raise ValueError(f"IRSTDMetrics: protocol must be one of {', '.join(targets.PROTOCOLS)}, got {protocol!r}")
        self._reading = Reading("IRSTDMetrics", input, float(threshold), bool(maxnorm), gt_rule)
        check_options("IRSTDMetrics", fixed_pixels, empty)
        if fixed_pixels is not None and protocol == "overlap":
            raise ValueError(f"IRSTDMetrics: fixed_pixels must not be used with overlap, got {fixed_pixels}")
        self.options: dict[str, Any] = {"protocol": protocol, "input": input, "threshold": float(threshold),
                                        "fixed_pixels": fixed_pixels, "maxnorm": bool(maxnorm), "empty": empty, "gt_rule": gt_rule}
        self.reset()

    def __repr__(self) -> str:
        options = ", ".join(f"{k}={v!r}" for k, v in self.options.items())
        return f"IRSTDMetrics({options}; {self.counts['n_images']} images)"

    def reset(self) -> None:
        """Clears every count."""
        self._counts = np.zeros(len(COUNTS), np.int64)

    @property
    def counts(self) -> dict[str, int]:
        """The integers accumulated so far, by name."""
        return dict(zip(COUNTS, self._counts.tolist()))

    def update(self, prediction: Any, mask: Any) -> None:
        """Adds a batch, [H, W], [B, H, W] or [B, 1, H, W], of any device and layout.

        ``prediction``: finite, as ``input`` says. ``mask``: boolean, float in [0, 1] (full scale 1) or integer (full
        scale 1, 255 or 65535 by the image's largest value), read by ``gt_rule``. ValueError otherwise; a batch that
        is refused leaves the counts as they were. A warning, once: logits that look like probabilities, masks too faint to hold a target.
        """
        self._counts = self._counts + self.count(prediction, mask)

    def count(self, prediction: Any, mask: Any) -> np.ndarray:
        """Counts int64 [len(COUNTS)] of one batch alone, without adding them."""
        protocol, maxnorm = self.options["protocol"], self.options["maxnorm"]
        total = np.zeros(len(COUNTS), np.int64)
        for pred, gt in self._reading.planes(prediction, mask):
            one = of_protocol(count_image(pred, gt, (protocol,), maxnorm), protocol)
            total += np.array([one[name] for name in COUNTS], np.int64)
        return total

    def compute(self) -> dict[str, Any]:
        """All results as one flat dict: numbers, and the names of protocol and ``gt_rule``.

        ``Pd``, ``Fa``, ``n_hit``, ``fa_pixels`` follow the protocol and are repeated under its own field names
        (``Fa_exact``, ``overlap_Pd``, ...). ``nIoU`` follows ``empty``; ``nIoU_zero`` and ``nIoU_skip`` give both.
        """
        o = self.options
        names = {k: o[k] for k in ("protocol", "threshold", "gt_rule")}
        return names | figures(self.counts, o["protocol"], o["fixed_pixels"], o["maxnorm"], o["empty"])

    def merge(self, other: "IRSTDMetrics") -> "IRSTDMetrics":
        """Adds the counts of another object with the same options; returns self."""
        if not isinstance(other, IRSTDMetrics) or other.options != self.options:
            raise ValueError(f"IRSTDMetrics.merge: options must be equal, got {self!r} and {other!r}")
        self._counts = self._counts + other._counts
        return self

    def counts_tensor(self) -> Tensor:
        """Counts as an int64 tensor [len(COUNTS)], a copy; sum it over processes and hand it to :meth:`load_counts`."""
        return torch.from_numpy(self._counts.copy())

    def load_counts(self, counts: Any) -> None:
        """Replaces the counts by an integer tensor or array [len(COUNTS)]."""
        values = targets.as_array(counts)
        if values.shape != self._counts.shape or values.dtype.kind not in "iu":
            raise ValueError(f"IRSTDMetrics.load_counts: counts must be integers of shape {self._counts.shape}, "
                             f"got {values.dtype} {values.shape}")
        self._counts = values.astype(np.int64)

    def state_dict(self) -> dict[str, Any]:
        """Options and counts, plain Python values that JSON can hold."""
        return {"options": dict(self.options), "counts": self.counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores counts saved by :meth:`state_dict` of an object with the same options."""
        if state.get("options") != self.options or set(state.get("counts", ())) != set(COUNTS):
            raise ValueError("IRSTDMetrics.load_state_dict: state must hold every count and the options "
                             f"{self.options}, got {state.get('options')}")
        self._counts = np.array([state["counts"][name] for name in COUNTS], np.int64)
