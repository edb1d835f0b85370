"""Integers of one image under every protocol, and the ratios taken from their sums."""
from __future__ import annotations

from typing import Any, Mapping

import numpy as np

from irstd_ext import targets

from .inputs import ratio

_HALF = 31  # an image's IoU is summed as an integer of 2 * 31 fractional bits in two words, so order cannot matter
_PIXEL = ("n_images", "n_empty_images", "pixels", "TP", "FP", "FN", "TN", "iou_high", "iou_low", "n_gt")
_MATCHING = ("n_fp_objects", "fa_pixels_exact", "fa_pixels_legacy")
# One image: pixel counts, then what each protocol counts (`exact` and `legacy` share one matching).
ROW = (*_PIXEL, "background_pixels", "n_hit", *_MATCHING, "overlap_n_hit", "overlap_fa_pixels", "overlap_background_pixels",
       "shooting_n_hit", "shooting_fa_pixels")
# One protocol: n_hit, fa_pixels and background_pixels are its own.
COUNTS = (*_PIXEL, "n_hit", "n_fp_objects", "fa_pixels", "fa_pixels_exact", "fa_pixels_legacy", "background_pixels")
_OWN = {"exact": ("n_hit", "fa_pixels_exact", "background_pixels"), "legacy": ("n_hit", "fa_pixels_legacy", "background_pixels"),
        "overlap": ("overlap_n_hit", "overlap_fa_pixels", "overlap_background_pixels"),
        "shooting": ("shooting_n_hit", "shooting_fa_pixels", "background_pixels")}


def count_image(pred: np.ndarray, gt: np.ndarray, protocols: tuple[str, ...] = targets.PROTOCOLS, maxnorm: bool = False) -> dict[str, int]:
    """The fields ``ROW`` of one boolean image [H, W]; those of protocols that are not asked for stay 0.

    ``maxnorm``: ``overlap`` counts neither hits nor background of an image without targets.
    """
    tp = int(np.count_nonzero(pred & gt))
    fp, fn = int(np.count_nonzero(pred)) - tp, int(np.count_nonzero(gt)) - tp
    union = tp + fp + fn
    iou = ((tp << (2 * _HALF + 1)) // union + 1) >> 1 if union else 0  # rounded to nearest
    row = dict.fromkeys(ROW, 0) | {
        "n_images": 1, "n_empty_images": int(union == 0), "pixels": gt.size, "background_pixels": gt.size - tp - fn,
        "TP": tp, "FP": fp, "FN": fn, "TN": gt.size - union, "iou_high": iou >> _HALF, "iou_low": iou & ((1 << _HALF) - 1)}
    if "exact" in protocols or "legacy" in protocols:
        m = targets.match(pred, gt, "exact")
        row |= {"n_gt": m.n_gt, "n_hit": m.n_hit, "n_fp_objects": m.fp_objects, "fa_pixels_exact": m.fa_pixels_exact,
                "fa_pixels_legacy": m.fa_pixels_legacy}
    if "overlap" in protocols and not (maxnorm and tp + fn == 0):
        m = targets.match(pred, gt, "overlap")
        row |= {"n_gt": m.n_gt, "overlap_n_hit": m.n_hit, "overlap_fa_pixels": m.fa_pixels, "overlap_background_pixels": m.background_pixels}
    if "shooting" in protocols:
        m = targets.match(pred, gt, "shooting")
        row |= {"n_gt": m.n_gt, "shooting_n_hit": m.n_hit, "shooting_fa_pixels": m.fa_pixels}
    return row


def of_protocol(row: Mapping[str, Any], protocol: str) -> dict[str, Any]:
    """The fields ``COUNTS`` of one protocol from the fields ``ROW``, integers or arrays."""
    n_hit, fa_pixels, background = _OWN[protocol]
    matching = {k: row[k] if protocol in ("exact", "legacy") else 0 * row[k] for k in _MATCHING}
    return {k: row[k] for k in _PIXEL} | matching | {"n_hit": row[n_hit], "fa_pixels": row[fa_pixels], "background_pixels": row[background]}


def figures(c: Mapping[str, Any], protocol: str, fixed_pixels: int | None = None, maxnorm: bool = False, empty: str = "zero") -> dict[str, Any]:
    """Counts and ratios by field name, from the sums ``COUNTS`` of one protocol: integers, or arrays of one shape."""
    n, tp, fp, fn = c["n_images"], c["TP"], c["FP"], c["FN"]
    iou_sum = c["iou_high"] / 2**_HALF + c["iou_low"] / 4**_HALF
    p_eps, r_eps = tp / (tp + fp + 1e-3), tp / (tp + fn + 1e-3)
    keep = ("n_images", "n_empty_images", "pixels", "TP", "FP", "FN", "TN", "n_gt", "n_hit", "fa_pixels", "background_pixels")
    out = {k: c[k] for k in keep}
    out |= {"IoU": ratio(tp, tp + fp + fn), "nIoU_zero": ratio(iou_sum, n), "nIoU_skip": ratio(iou_sum, n - c["n_empty_images"]),
            "precision": ratio(tp, tp + fp), "recall": ratio(tp, tp + fn), "F1": ratio(2 * tp, 2 * tp + fp + fn),
            "F1_eps": 2 * p_eps * r_eps / (p_eps + r_eps + 1e-5)}
    out["nIoU"] = out["nIoU_" + empty]
    size = n * fixed_pixels if fixed_pixels else c["pixels"]
    area = c["background_pixels"] if protocol == "overlap" else size
    out |= {"Pd": ratio(c["n_hit"], c["n_gt"]), "Fa": ratio(c["fa_pixels"], area)}
    if protocol in ("exact", "legacy"):
        out |= {k: c[k] for k in _MATCHING}
        out |= {"Fa_exact": ratio(c["fa_pixels_exact"], size), "Fa_legacy": ratio(c["fa_pixels_legacy"], size),
                "Fa_objects_per_image": ratio(c["n_fp_objects"], n)}
    else:
        prefix = protocol + ("_maxnorm_" if maxnorm else "_")
        out |= {prefix + k: out[k] for k in ("n_hit", "fa_pixels", "Pd", "Fa")}
    return out


def check_options(op: str, fixed_pixels: int | None, empty: str) -> None:
    """The options of the ratios."""
    if empty not in ("zero", "skip"):
        raise ValueError(f"{op}: empty must be one of zero, skip, got {empty!r}")
    if fixed_pixels is not None and (int(fixed_pixels) != fixed_pixels or fixed_pixels < 1):
        raise ValueError(f"{op}: fixed_pixels must be an integer >= 1, got {fixed_pixels}")
