"""Matching: against a plain Python oracle in exact fractions, and the rules of every protocol."""
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from irstd_ext import _targets, _targets_numpy, targets

SPARSE = st.floats(0.02, 0.5).flatmap(lambda d: st.tuples(st.just(d), st.integers(0, 2**32 - 1)))
PAIRS = st.tuples(st.integers(1, 24), st.integers(1, 24)).flatmap(
    lambda s: st.tuples(hnp.arrays(bool, s, elements=st.booleans()), hnp.arrays(bool, s, elements=st.booleans())))
quick = settings(max_examples=120, deadline=None, derandomize=True, database=None)


def blank(*pixels, shape=(40, 40)):
    mask = np.zeros(shape, bool)
    for row, col in pixels:
        mask[row, col] = True
    return mask


def fractions(mask):
    labels, n = ndimage.label(mask, np.ones((3, 3)))
    out = []
    for k in range(1, n + 1):
        rows, cols = np.nonzero(labels == k)
        out.append((Fraction(int(rows.sum()), len(rows)), Fraction(int(cols.sum()), len(cols)), len(rows)))
    return out


def oracle(pred, gt):
    """(pred_of_gt, exact area, legacy area), the rules word for word."""
    p, used, result = fractions(pred), set(), []
    for row, col, _ in fractions(gt):
        near = [k for k, (r, c, _) in enumerate(p) if k not in used and (r - row) ** 2 + (c - col) ** 2 < 9]
        result.append(near[0] if near else -1)
        used.update(near[:1])
    matched = [p[k][2] for k in used]
    return (result, sum(a for k, (_, _, a) in enumerate(p) if k not in used), sum(a for _, _, a in p if a not in matched))


def check(pred, gt):
    want, exact, legacy = oracle(pred, gt)
    for form in (_targets, _targets_numpy):
        got, a, b = form.match(form.regions(pred.view(np.uint8)), form.regions(gt.view(np.uint8)))
        assert got.dtype == np.int32 and got.tolist() == want and (a, b) == (exact, legacy)
    result = targets.match(pred, gt, "exact")
    assert result.pred_of_gt.tolist() == want and result.n_gt == len(want) and result.n_hit == sum(k >= 0 for k in want)
    assert result.fa_pixels == result.fa_pixels_exact == exact and result.fa_pixels_legacy == legacy
    assert targets.match(pred, gt, "legacy").fa_pixels == legacy <= exact
    assert result.fp_objects == len(fractions(pred)) - result.n_hit


@quick
@given(PAIRS)
def test_equals_oracle(pair):
    check(*pair)


@quick
@given(SPARSE, st.integers(-4, 4), st.integers(-4, 4))
def test_equals_oracle_on_shifted_copies(density_seed, dr, dc):
    rng = np.random.default_rng(density_seed[1])
    gt = rng.random((32, 32)) < density_seed[0] / 6
    pred = np.roll(gt, (dr, dc), (0, 1)) | (rng.random((32, 32)) < 0.02)
    check(pred, gt)


@pytest.mark.parametrize("shift, hits", [((0, 3), 0), ((3, 0), 0), ((0, 2), 1), ((2, 2), 1), ((2, 3), 0), ((-3, 0), 0), ((-2, -2), 1)])
def test_distance_is_strictly_below_three(shift, hits):
    gt = blank((20, 20))
    assert targets.match(np.roll(gt, shift, (0, 1)), gt).n_hit == hits


def test_three_pixels_is_never_a_match_wherever_a_target_lies():
    """Thirds: rounded centroids give 2.9999999999999996 at some of these places."""
    rounded = 0
    for row in range(30):
        gt = blank((row, 5), (row, 6), (row + 1, 5))
        pred = np.roll(gt, 3, axis=0)
        assert targets.match(pred, gt).n_hit == 0
        rounded += (row * 3 + 10) / 3 - (row * 3 + 1) / 3 < 3
    assert rounded > 0  # the trap exists


@pytest.mark.parametrize("form", [_targets, _targets_numpy])
@pytest.mark.parametrize("row, col, found", [(9, 12, -1), (9, 11, 0), (-12, 9, -1), (-11, 9, 0), (-9, -12, -1), (12, -8, 0)])
def test_oblique_distance_is_strictly_below_three(form, row, col, found):
    """Five pixels each, centroids (row, col) / 5 apart: 9 and 12 fifths are exactly 3 px."""
    def stats(r, c):
        return np.array([[5, 100 + r, 100 + c, 0, 0, 1, 1]], np.int64)
    assert form.match(stats(row, col), stats(0, 0))[0].tolist() == [found]


def test_distance_2_99_matches():
    """100 pixels in a row; one pixel moved so that the centroid shifts by 2.99."""
    gt = np.zeros((10, 400), bool)
    gt[5, 10:110] = True
    pred = np.zeros_like(gt)
    pred[5, 13:113] = True
    assert targets.match(pred, gt).n_hit == 0
    pred[5, 112] = False
    pred[6, 111] = True  # -1 column, +1 row of 100 pixels: (2.99, 0.01)
    assert targets.match(pred, gt).n_hit == 1


def test_first_prediction_in_order_wins_not_the_nearest():
    gt = blank((20, 20))
    pred = blank((18, 20), (20, 20))
    assert targets.match(pred, gt).pred_of_gt.tolist() == [0]
    assert targets.match(pred, gt).fa_pixels == 1


def test_each_prediction_is_used_once():
    gt, pred = blank((20, 18), (20, 20)), blank((20, 19))
    result = targets.match(pred, gt)
    assert result.pred_of_gt.tolist() == [0, -1] and result.hit.tolist() == [True, False]


def test_equal_areas_hide_a_false_alarm_from_legacy_only():
    gt = blank((20, 20))
    pred = blank((20, 20), (35, 35))
    assert targets.match(pred, gt, "exact").fa_pixels == 1
    assert targets.match(pred, gt, "legacy").fa_pixels == 0
    assert targets.match(pred | blank((35, 36)), gt, "legacy").fa_pixels == 2


def test_overlap_needs_one_pixel_and_counts_pixels():
    gt = blank((20, 20), (20, 21), (5, 5))
    pred = blank((20, 21), (20, 22), (20, 23))
    result = targets.match(pred, gt, "overlap")
    assert result.hit.tolist() == [False, True] and result.fa_pixels == 2 and result.background_pixels == 1597
    assert result.pred_of_gt is None and result.fp_objects is None


@pytest.mark.parametrize("distance, hit, false", [(0, 1, 0), (1, 1, 0), (2, 0, 0), (4, 0, 0), (5, 0, 1)])
@pytest.mark.parametrize("direction", [(1, 0), (0, 1), (-1, 1), (1, 1), (-1, -1)])
def test_shooting_radii_at_their_boundaries(distance, hit, false, direction):
    gt = blank((20, 20))
    result = targets.match(np.roll(gt, np.multiply(direction, distance), (0, 1)), gt, "shooting")
    assert (result.n_hit, result.fa_pixels) == (hit, false)


@quick
@given(PAIRS)
def test_pixel_protocols_equal_scipy_dilation(pair):
    pred, gt = pair
    labels, n = ndimage.label(gt, np.ones((3, 3)))
    for protocol, reach, free in (("overlap", 0, 0), ("shooting", 1, 4)):
        near = ndimage.maximum_filter(pred, 2 * reach + 1, mode="constant") if reach else pred
        safe = ndimage.maximum_filter(gt, 2 * free + 1, mode="constant") if free else gt
        result = targets.match(pred, gt, protocol)
        assert result.hit.tolist() == [bool(near[labels == k].any()) for k in range(1, n + 1)]
        assert result.fa_pixels == (pred & ~safe).sum()


def test_shooting_on_images_smaller_than_its_radii():
    one = np.ones((1, 1), bool)
    assert targets.match(one, one, "shooting").n_hit == 1
    assert targets.match(np.zeros((0, 3), bool), np.zeros((0, 3), bool), "shooting").n_gt == 0
    assert targets.match(np.ones((2, 3), bool), np.zeros((2, 3), bool), "shooting").fa_pixels == 6


@pytest.mark.parametrize("protocol", targets.PROTOCOLS)
def test_perfect_and_empty_predictions(protocol):
    gt = blank((5, 5), (20, 21), (20, 20), (33, 3))
    perfect, nothing = targets.match(gt, gt, protocol), targets.match(gt & False, gt, protocol)
    assert (perfect.n_gt, perfect.n_hit, perfect.fa_pixels) == (3, 3, 0)
    assert (nothing.n_gt, nothing.n_hit, nothing.fa_pixels) == (3, 0, 0)


def test_huge_areas_are_compared_without_overflow():
    """Two blocks whose products of sum and area pass 2^64; centroids 2 and 3 px apart."""
    size = 2**29
    def stats(col):
        return np.array([[size, size * 2**30, size * col, 0, 0, 1, 1]], np.int64)
    for form in (_targets, _targets_numpy):
        assert form.match(stats(2**30), stats(2**30 + 2))[0].tolist() == [0]
        assert form.match(stats(2**30), stats(2**30 + 3))[0].tolist() == [-1]
