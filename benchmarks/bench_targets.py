"""Targets against SciPy and against the loop they replace: python benchmarks/run.py targets -k Targets writes results/targets.json.

Each case is checked for equal results first. As in harness.py, the baselines run once before each round of the native call.
"""
import time

import numpy as np
import pytest
from irstd_ext import bench, targets
from scipy import ndimage

ROUNDS = 15
MASKS = {256: 2, 512: 2, 1024: 2, 2048: 128}  # side: targets
FIELDS = ("n_hit", "fa_pixels", "fp_objects", "tp", "fp")


def masks(side: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """(pred, gt): n targets of 3 x 3 pixels on a jittered grid, all predicted one pixel aside, and a quarter as many false alarms."""
    rng = np.random.default_rng(0)
    across = int(np.ceil(np.sqrt(2 * n)))
    cells = rng.permutation(across**2)[: n + max(1, n // 4)]
    places = np.stack([cells // across, cells % across], 1) * (side // across) + rng.integers(8, side // across - 8, (len(cells), 2))
    gt = np.zeros((side, side), bool)
    pred = gt.copy()
    for k, (row, col) in enumerate(places):
        pred[row:row + 3, col + 1:col + 4] = True
        gt[row:row + 3, col:col + 3] |= k < n
    return pred, gt


def scipy_regions(mask: np.ndarray) -> np.ndarray:
    """Area and centroid [n, 3] of the 8-connected components."""
    labels, n = ndimage.label(mask, np.ones((3, 3)))
    row, col = np.nonzero(labels)
    found = labels[row, col]
    area = np.bincount(found, minlength=n + 1)[1:]
    return np.stack([area, np.bincount(found, row, n + 1)[1:] / area, np.bincount(found, col, n + 1)[1:] / area], 1)


def scipy_match(pred: np.ndarray, gt: np.ndarray) -> tuple[int, int]:
    """(n_hit, fa_pixels) of the protocol `exact`, from SciPy's labels."""
    p = scipy_regions(pred)
    free = np.ones(len(p), bool)
    for _, row, col in scipy_regions(gt):
        near = np.flatnonzero(free & ((p[:, 1] - row) ** 2 + (p[:, 2] - col) ** 2 < 9))
        free[near[:1]] = False
    return int((~free).sum()), int(p[free, 0].sum())


def relabelled(score: np.ndarray, gt: np.ndarray) -> np.ndarray:
    """The counts of the curve by labelling and matching anew at every level, with the native functions."""
    counts = [np.zeros(5, np.int64)]
    for level in np.unique(score)[::-1]:
        pred = score >= level
        m = targets.match(pred, gt)
        tp = np.count_nonzero(pred & gt)
        counts.append(np.array([m.n_hit, m.fa_pixels, m.fp_objects, tp, np.count_nonzero(pred) - tp]))
    return np.stack(counts, 1)


def timed(benchmark, ext, baselines: dict, rounds: int, **info) -> None:
    times: dict[str, list[float]] = {name: [] for name in ("again", *baselines)}

    def others():
        for name, call in {"again": ext, **baselines}.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)

    benchmark.pedantic(ext, setup=others, rounds=rounds, warmup_rounds=1)
    benchmark.extra_info.update(**info, mode="forward", threads=1, ext=bench.summary(list(benchmark.stats.stats.data)),
                                **{name: bench.summary(t[-rounds:]) for name, t in times.items()})


class BenchTargets:
    @pytest.mark.parametrize("side", MASKS)
    def test_label_and_match(self, benchmark, side):
        """`reference` does the same work; `label` labels and measures the prediction only, and matches nothing."""
        n = MASKS[side]
        pred, gt = masks(side, n)
        m = targets.match(pred, gt)
        assert (m.n_gt, m.n_hit, m.fa_pixels) == (n, n, 9 * max(1, n // 4)) and scipy_match(pred, gt) == (m.n_hit, m.fa_pixels)
        timed(benchmark, lambda: targets.match(pred, gt), {"reference": lambda: scipy_match(pred, gt), "label": lambda: scipy_regions(pred)}, ROUNDS,
              op="targets.match", case=f"{side}x{side}_{n}", sizes={"H": side, "W": side, "targets": n}, dtype="bool")

    @pytest.mark.parametrize("side, levels", [(128, None), (256, 256), (1024, 256), (256, None), (1024, None)])
    def test_curve(self, benchmark, side, levels):
        """White noise, the worst map: `reference` labels anew at every level, left out where that takes minutes."""
        rng = np.random.default_rng(0)
        score = rng.random((side, side), np.float32) if levels is None else rng.integers(0, levels, (side, side), np.uint8)
        gt = masks(side, 2)[1]
        baselines = {} if levels is None and side > 128 else {"reference": lambda: relabelled(score, gt)}
        c = targets.curve(score, gt)
        for baseline in baselines.values():
            assert np.array_equal(np.stack([getattr(c, f) for f in FIELDS]), baseline())
        timed(benchmark, lambda: targets.curve(score, gt), baselines, 5, op="targets.curve", case=f"{side}x{side}_{score.dtype}",
              sizes={"H": side, "W": side, "targets": 2, "levels": len(c.thr) - 1}, dtype=str(score.dtype))
