"""IRSTDMetrics: pixel and target metrics accumulated as integers over a data set."""
from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from irstd_ext import targets

from .inputs import above, check_predictions, cut, pairs, planes, ratio

COUNTS = ("n_images", "n_empty_images", "pixels", "TP", "FP", "FN", "TN", "iou_high", "iou_low", "n_gt", "n_hit",
          "n_fp_objects", "fa_pixels", "fa_pixels_exact", "fa_pixels_legacy", "background_pixels")
_HALF = 31  # an image's IoU is summed as an integer of 2 * 31 fractional bits in two words, so order cannot matter


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
                 fixed_pixels: int | None = None, maxnorm: bool = False, empty: str = "zero") -> None:
        for name, value, known in (("protocol", protocol, targets.PROTOCOLS), ("input", input, ("logits", "scores")),
                                   ("empty", empty, ("zero", "skip"))):
            if value not in known:
                raise ValueError(f"IRSTDMetrics: {name} must be one of {', '.join(known)}, got {value!r}")
        if not 0 <= threshold <= 1:
            raise ValueError(f"IRSTDMetrics: threshold must lie in [0, 1], got {threshold}")
        if fixed_pixels is not None and (protocol == "overlap" or int(fixed_pixels) != fixed_pixels or fixed_pixels < 1):
            raise ValueError("IRSTDMetrics: fixed_pixels must be an integer >= 1 and not used with overlap, "
                             f"got {fixed_pixels} with {protocol}")
        if maxnorm and input != "scores":
            raise ValueError('IRSTDMetrics: maxnorm must be used with input="scores", got input="logits"')
        self.options: dict[str, Any] = {"protocol": protocol, "input": input, "threshold": float(threshold),
                                        "fixed_pixels": fixed_pixels, "maxnorm": bool(maxnorm), "empty": empty}
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

        ``prediction``: finite, as ``input`` says. ``mask``: boolean, float in [0, 1] (> 0.5 is a target) or
        integer (above half of its full scale, 1, 255 or 65535 by the image's largest value). ValueError otherwise;
        a batch that is refused leaves the counts as they were.
        """
        self._counts = self._counts + self.count(prediction, mask)

    def count(self, prediction: Any, mask: Any) -> np.ndarray:
        """Counts int64 [len(COUNTS)] of one batch alone, without adding them."""
        o = self.options
        values, gt = pairs(prediction, mask, "IRSTDMetrics")
        check_predictions(values, "IRSTDMetrics", o["input"], bounded=not o["maxnorm"])
        if o["maxnorm"] and values.numel():
            peak = values.double().amax(dim=(-2, -1), keepdim=True)
            pred = values.double() > o["threshold"] * peak  # no division: nothing is rounded, an empty score stays empty
        else:
            pred = above(values, cut(o["input"], o["threshold"]))
        total = np.zeros(len(COUNTS), np.int64)
        for p, g in planes(pred, gt):
            one = self._count_image(p, g)
            total += np.array([one[name] for name in COUNTS], np.int64)
        return total

    def _count_image(self, pred: np.ndarray, gt: np.ndarray) -> dict[str, int]:
        protocol = self.options["protocol"]
        tp = int(np.count_nonzero(pred & gt))
        fp, fn = int(np.count_nonzero(pred)) - tp, int(np.count_nonzero(gt)) - tp
        union = tp + fp + fn
        iou = ((tp << (2 * _HALF + 1)) // union + 1) >> 1 if union else 0  # rounded to nearest
        one = dict.fromkeys(COUNTS, 0) | {
            "n_images": 1, "n_empty_images": int(union == 0), "pixels": gt.size, "TP": tp, "FP": fp, "FN": fn,
            "TN": gt.size - union, "iou_high": iou >> _HALF, "iou_low": iou & ((1 << _HALF) - 1)}
        if protocol == "overlap" and self.options["maxnorm"] and tp + fn == 0:
            return one
        m = targets.match(pred, gt, protocol)
        one |= {"n_gt": m.n_gt, "n_hit": m.n_hit, "fa_pixels": m.fa_pixels, "background_pixels": m.background_pixels}
        if protocol in ("exact", "legacy"):
            one |= {"n_fp_objects": m.fp_objects, "fa_pixels_exact": m.fa_pixels_exact, "fa_pixels_legacy": m.fa_pixels_legacy}
        return one

    def compute(self) -> dict[str, Any]:
        """All results as one flat dict: numbers, and the protocol's name.

        ``Pd``, ``Fa``, ``n_hit``, ``fa_pixels`` follow the protocol and are repeated under its own field names
        (``Fa_exact``, ``overlap_Pd``, ...). ``nIoU`` follows ``empty``; ``nIoU_zero`` and ``nIoU_skip`` give both.
        """
        c, o = self.counts, self.options
        n, tp, fp, fn = c["n_images"], c["TP"], c["FP"], c["FN"]
        iou_sum, one = (c["iou_high"] << _HALF) + c["iou_low"], 1 << (2 * _HALF)
        p_eps, r_eps = tp / (tp + fp + 1e-3), tp / (tp + fn + 1e-3)
        keep = ("n_images", "n_empty_images", "pixels", "TP", "FP", "FN", "TN", "n_gt", "n_hit", "fa_pixels", "background_pixels")
        out: dict[str, Any] = {"protocol": o["protocol"], "threshold": o["threshold"]} | {k: c[k] for k in keep}
        out |= {"IoU": ratio(tp, tp + fp + fn), "nIoU_zero": ratio(iou_sum, n * one),
                "nIoU_skip": ratio(iou_sum, (n - c["n_empty_images"]) * one),
                "precision": ratio(tp, tp + fp), "recall": ratio(tp, tp + fn), "F1": ratio(2 * tp, 2 * tp + fp + fn),
                "F1_eps": 2 * p_eps * r_eps / (p_eps + r_eps + 1e-5)}
        out["nIoU"] = out["nIoU_" + o["empty"]]
        size = n * o["fixed_pixels"] if o["fixed_pixels"] else c["pixels"]
        area = c["background_pixels"] if o["protocol"] == "overlap" else size
        out |= {"Pd": ratio(c["n_hit"], c["n_gt"]), "Fa": ratio(c["fa_pixels"], area)}
        if o["protocol"] in ("exact", "legacy"):
            out |= {k: c[k] for k in ("n_fp_objects", "fa_pixels_exact", "fa_pixels_legacy")}
            out |= {"Fa_exact": ratio(c["fa_pixels_exact"], size), "Fa_legacy": ratio(c["fa_pixels_legacy"], size),
                    "Fa_objects_per_image": ratio(c["n_fp_objects"], n)}
        else:
            prefix = o["protocol"] + ("_maxnorm_" if o["maxnorm"] else "_")
            out |= {prefix + k: out[k] for k in ("n_hit", "fa_pixels", "Pd", "Fa")}
        return out

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
