"""NumPy form of the compiled module ``_targets``: same functions, same results, no SciPy.

Runs of foreground are found at once; runs of neighbouring rows that touch are joined by union-find. The sweep
labels and matches anew at every level.
"""
from __future__ import annotations

import numpy as np

MATCH_DISTANCE = 3


def _components(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(component of each run, length of each run, statistics int64 [n, 7])."""
    height, width = mask.shape
    padded = np.zeros((height, width + 2), np.int8)
    padded[:, 1:-1] = mask != 0
    edges = np.diff(padded, axis=1)
    row, begin = np.nonzero(edges == 1)
    end = np.nonzero(edges == -1)[1]
    # a key per run end, increasing over the image, in which rows cannot mix
    stride = width + 2
    first = np.searchsorted(row * stride + end, (row - 1) * stride + begin, side="left")
    stop = np.searchsorted(row * stride + begin, (row - 1) * stride + end, side="right")
    parent = list(range(len(row)))

    def find(k: int) -> int:
        while parent[k] != k:
            parent[k] = k = parent[parent[k]]
        return k

    for run in range(len(row)):
        for above in range(first[run], stop[run]):
            a, b = find(run), find(above)
            parent[max(a, b)] = min(a, b)
    roots = np.array([find(k) for k in range(len(row))], np.int64)
    kept, component = np.unique(roots, return_inverse=True)  # a root is its component's first run
    length = end - begin
    stats = np.zeros((len(kept), 7), np.int64)
    stats[:, 3:5] = np.iinfo(np.int64).max
    for column, values in enumerate((length, row * length, (begin + end - 1) * length // 2)):
        np.add.at(stats[:, column], component, values)
    np.minimum.at(stats[:, 3], component, row)
    np.minimum.at(stats[:, 4], component, begin)
    np.maximum.at(stats[:, 5], component, row + 1)
    np.maximum.at(stats[:, 6], component, end)
    return component, length, stats


def label(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    component, length, stats = _components(mask)
    labels = np.zeros(mask.shape, np.int32)
    labels[mask != 0] = np.repeat(component + 1, length)
    return labels, stats


def regions(mask: np.ndarray) -> np.ndarray:
    return _components(mask)[2]


def match(pred: np.ndarray, gt: np.ndarray) -> tuple[np.ndarray, int, int]:
    free = np.ones(len(pred), bool)
    centroids = pred[:, 1:3] / pred[:, :1]
    pred_of_gt = np.full(len(gt), -1, np.int32)
    for k, (area, row, col) in enumerate(gt[:, :3].tolist()):
        near = np.abs(centroids - (row / area, col / area)).max(axis=1, initial=0) <= MATCH_DISTANCE + 0.01
        for candidate in np.nonzero(free & near)[0].tolist():
            p_area, p_row, p_col = pred[candidate, :3].tolist()
            dr, dc = p_row * area - row * p_area, p_col * area - col * p_area
            if dr * dr + dc * dc < (MATCH_DISTANCE * area * p_area) ** 2:
                pred_of_gt[k] = candidate
                free[candidate] = False
                break
    areas = pred[:, 0]
    return pred_of_gt, int(areas[free].sum()), int(areas[~np.isin(areas, areas[~free])].sum())


def sweep(score: np.ndarray, gt: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    truth, levels = regions(gt), np.unique(score + 0.0)[::-1]  # + 0.0: no negative zero
    counts = np.zeros((5, len(levels)), np.int64)
    for k, level in enumerate(levels):
        mask = score >= level
        found = regions(mask)
        pred_of_gt, fa_pixels, _ = match(found, truth)
        n_hit, tp = int(np.count_nonzero(pred_of_gt >= 0)), int(np.count_nonzero(mask & (gt != 0)))
        counts[:, k] = n_hit, fa_pixels, len(found) - n_hit, tp, int(np.count_nonzero(mask)) - tp
    return levels, counts, len(truth)
