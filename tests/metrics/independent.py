"""The rules of the metrics once more, from their wording: SciPy's labelling, loops over components, exact fractions.

It shares nothing with the package; `CONNECTED`, `near` and `above` are replaced by wrong ones in negative controls.
"""
from fractions import Fraction

import numpy as np
from scipy import ndimage

CONNECTED = np.ones((3, 3))


def near(distance_squared):
    return distance_squared < 9


def above(value, threshold):
    return value > threshold


def components(mask):
    """Pixel lists [(row, col), ...], in the raster order of their first pixels."""
    labels, n = ndimage.label(mask, CONNECTED)
    return sorted([list(zip(*map(np.ndarray.tolist, np.nonzero(labels == k)))) for k in range(1, n + 1)])


def centroid(pixels):
    return tuple(Fraction(sum(p[axis] for p in pixels), len(pixels)) for axis in (0, 1))


def greedy(pred, gt):
    """Index of the prediction of every target, or None: first unused one whose centroid is less than 3 px away."""
    used, found = set(), []
    for target in gt:
        row, col = centroid(target)
        hit = None
        for k, blob in enumerate(pred):
            r, c = centroid(blob)
            if k not in used and near((r - row) ** 2 + (c - col) ** 2):
                hit = k
                used.add(k)
                break
        found.append(hit)
    return found


def predicted(score, threshold, maxnorm):
    peak = max((Fraction(float(v)) for v in score.ravel()), default=Fraction(0))
    if maxnorm and peak == 0:
        return np.zeros(score.shape, bool)
    scale = peak if maxnorm else 1
    return np.array([[above(Fraction(float(v)) / scale, Fraction(threshold)) for v in row] for row in score], bool).reshape(score.shape)


def true_pixels(mask, rule):
    """8-bit masks: full scale 255."""
    return {"half": mask > 127.5, "full": mask == 255, "nonzero": mask != 0}[rule]


def distance(pixel, pixels):
    return min((max(abs(pixel[0] - r), abs(pixel[1] - c)) for r, c in pixels), default=10**9)


def count_image(score, mask, protocol, threshold=0.5, maxnorm=False, gt_rule="half"):
    pred, gt = predicted(score, threshold, maxnorm), true_pixels(mask, gt_rule)
    tp, fp, fn, tn = (int((a & b).sum()) for a, b in ((pred, gt), (pred, ~gt), (~pred, gt), (~pred, ~gt)))
    blobs, true = components(pred), components(gt)
    c = {"TP": tp, "FP": fp, "FN": fn, "TN": tn, "pixels": gt.size, "n_gt": len(true), "background_pixels": int((~gt).sum())}
    if protocol in ("exact", "legacy"):
        found = greedy(blobs, true)
        free = [len(b) for k, b in enumerate(blobs) if k not in found]
        matched = [len(blobs[k]) for k in found if k is not None]
        c |= {"n_hit": len(matched), "n_fp_objects": len(free), "fa_pixels_exact": sum(free),
              "fa_pixels_legacy": sum(len(b) for b in blobs if len(b) not in matched), "hits": [k is not None for k in found]}
        c["fa_pixels"] = c["fa_pixels_" + protocol]
    else:
        reach, free = {"overlap": (0, 0), "shooting": (1, 4)}[protocol]
        on = list(zip(*map(np.ndarray.tolist, np.nonzero(pred))))
        at = [pixel for target in true for pixel in target]
        c["hits"] = [any(distance(pixel, target) <= reach for pixel in on) for target in true]
        c |= {"n_hit": sum(c["hits"]), "fa_pixels": sum(distance(pixel, at) > free for pixel in on)}
        if protocol == "overlap" and maxnorm and not true:
            c |= {"fa_pixels": 0, "background_pixels": 0}
    return c


def ratio(part, whole):
    return float(Fraction(part) / whole) if whole else float("nan")


def judge(images, protocol, fixed_pixels=None, maxnorm=False, empty="zero", **options):
    """Every number of a set of (score, mask), by the field names of the package."""
    each = [count_image(score, mask, protocol, maxnorm=maxnorm, **options) for score, mask in images]
    names = ["TP", "FP", "FN", "TN", "pixels", "n_gt", "background_pixels", "n_hit", "fa_pixels"]
    names += ["n_fp_objects", "fa_pixels_exact", "fa_pixels_legacy"] if protocol in ("exact", "legacy") else []
    out = {name: sum(c[name] for c in each) for name in names} | {"n_images": len(each)}
    ious = [Fraction(c["TP"], c["TP"] + c["FP"] + c["FN"]) for c in each if c["TP"] + c["FP"] + c["FN"]]
    out["n_empty_images"] = len(each) - len(ious)
    tp, fp, fn = out["TP"], out["FP"], out["FN"]
    p, r = tp / (tp + fp + 1e-3), tp / (tp + fn + 1e-3)
    out |= {"IoU": ratio(tp, tp + fp + fn), "F1": ratio(2 * tp, 2 * tp + fp + fn), "precision": ratio(tp, tp + fp), "recall": ratio(tp, tp + fn),
            "F1_eps": 2 * p * r / (p + r + 1e-5), "nIoU_zero": ratio(sum(ious), len(each)), "nIoU_skip": ratio(sum(ious), len(ious))}
    out["nIoU"] = out["nIoU_" + empty]
    size = fixed_pixels * len(each) if fixed_pixels else out["pixels"]
    out |= {"Pd": ratio(out["n_hit"], out["n_gt"]), "Fa": ratio(out["fa_pixels"], out["background_pixels"] if protocol == "overlap" else size)}
    if protocol in ("exact", "legacy"):
        return out | {"Fa_exact": ratio(out["fa_pixels_exact"], size), "Fa_legacy": ratio(out["fa_pixels_legacy"], size),
                      "Fa_objects_per_image": ratio(out["n_fp_objects"], len(each))}
    name = protocol + ("_maxnorm_" if maxnorm else "_")
    return out | {name + k: out[k] for k in ("n_hit", "fa_pixels", "Pd", "Fa")}
