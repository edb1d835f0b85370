"""The exact curve: against labelling and matching anew at every threshold, and by hand where matches change."""
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from irstd_ext import _targets, _targets_numpy, targets

FIELDS = ("n_hit", "fa_pixels", "fp_objects", "tp", "fp")
IMAGE = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(lambda s: st.tuples(
    hnp.arrays(np.float32, s, elements=st.sampled_from([0, 0.25, 0.5, 0.75, 1, -1])), hnp.arrays(bool, s, elements=st.booleans())))
quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)


def brute(scores, masks, threshold):
    total = np.zeros(5, int)
    for score, gt in zip(scores, masks):
        pred = score.astype(np.float64) > threshold
        m = targets.match(pred, gt)
        total += (m.n_hit, m.fa_pixels, m.fp_objects, (pred & gt).sum(), (pred & ~gt).sum())
    return total.tolist()


def check_sweeps(score, gt):
    """Both forms of one image against the definition, at every level."""
    levels = sorted(set((score + 0.0).ravel().tolist()), reverse=True)
    want = [brute([score], [gt], t) for t in levels[1:] + [-np.inf]]
    for form in (_targets, _targets_numpy):
        thr, counts, n_gt = form.sweep(np.ascontiguousarray(score, np.float64), gt.view(np.uint8))
        assert thr.dtype == np.float64 and counts.dtype == np.int64 and thr.tolist() == levels
        assert counts.T.tolist() == want and n_gt == targets.label(gt)[1]


@quick
@given(st.lists(IMAGE, min_size=1, max_size=3))
def test_equals_relabelling_at_every_threshold(images):
    scores, masks = zip(*images)
    c = targets.curve(scores, masks)
    distinct = sorted({float(v) for s in scores for v in s.ravel()}, reverse=True)
    assert c.thr.tolist() == distinct + [-np.inf]
    for k, threshold in enumerate(c.thr):
        assert [int(getattr(c, f)[k]) for f in FIELDS] == brute(scores, masks, threshold)
    assert c.tp[-1] == c.gt_pixels == sum(m.sum() for m in masks) and c.fp[-1] == c.pixels - c.gt_pixels
    assert c.n_images == len(images) and c.n_gt == sum(targets.label(m)[1] for m in masks)
    for threshold in (-2.0, -1.0, 0.1, 0.5, 0.6, 1.0, 7.0, np.inf, -np.inf):
        assert [int(getattr(c, f)[c.at(threshold)]) for f in FIELDS] == brute(scores, masks, threshold)


def rings(shape):
    row, col = np.indices(shape)
    return np.maximum(abs(2 * row - shape[0] + 1), abs(2 * col - shape[1] + 1)) // 2 % 2 == 0


def spiral(shape):
    """One path of one pixel's width, with a gap of one pixel between its turns."""
    mask, at, step = np.zeros(shape, bool), [0, 0], (0, 1)
    for length in [shape[1], *(n for k in range(max(shape)) for n in (shape[0] - 2 * k, shape[1] - 2 * k))]:
        for _ in range(length - 1):
            if not (0 <= at[0] < shape[0] and 0 <= at[1] < shape[1]):
                break
            mask[tuple(at)] = True
            at = [at[0] + step[0], at[1] + step[1]]
        step = (step[1], -step[0])
    return mask


def comb(shape):
    """U-shapes: teeth that meet in the last row only."""
    mask = np.indices(shape)[1] % 2 == 0
    mask[-1] = True
    return mask


SHAPES = {"rings": rings, "spiral": spiral, "comb": comb,
          "checkerboard": lambda s: np.indices(s).sum(0) % 2 == 0, "islands": lambda s: (np.indices(s) % 2 == 0).all(0)}


def landscape(kind, rng, shape):
    size = shape[0] * shape[1]
    distinct = rng.permutation(size).reshape(shape)
    if kind == "few":
        return rng.integers(-2, 2, shape) * 0.5
    if kind == "plateaus":
        return np.round(ndimage.gaussian_filter(rng.random(shape), rng.uniform(0.5, 2)) * rng.integers(5, 60))
    if kind == "distinct":
        return distinct.astype(float)
    # the shape first, pixel by pixel or part by part, then what joins its parts
    return np.where(SHAPES[kind](shape), size, 0) + distinct // rng.integers(1, 30)


def truth(rng, score):
    """Some pixels, a third of them grown to L-shapes (centroids at thirds), or a level of the map moved by up to 3 px."""
    if rng.random() < 0.4:
        level = np.quantile(score, rng.uniform(0.5, 0.98))
        return np.roll(score > level, rng.integers(-3, 4, 2), (0, 1))
    gt = rng.random(score.shape) < rng.choice([0.01, 0.05, 0.2])
    some = gt & (rng.random(score.shape) < 0.3)
    return gt | np.roll(some, 1, 0) | np.roll(some, 1, 1)


@pytest.mark.parametrize("kind", ["few", "plateaus", "distinct", *SHAPES])
def test_both_forms_equal_relabelling(kind):
    rng = np.random.default_rng(sum(map(ord, kind)))
    for _ in range(12):
        score = landscape(kind, rng, tuple(rng.integers(1, 16, 2)))
        check_sweeps(score, truth(rng, score))


@pytest.mark.parametrize("density, many", [(0.002, 5), (0.03, 100), (0.1, 300)])
def test_native_form_equals_relabelling_with_hundreds_of_targets(density, many):
    rng = np.random.default_rng(7)
    score, gt = rng.integers(0, 60, (90, 70)).astype(float), rng.random((90, 70)) < density
    levels, counts, n_gt = _targets.sweep(score, gt.view(np.uint8))
    assert len(levels) == 60 and n_gt == targets.label(gt)[1] > many
    assert counts.T.tolist() == [brute([score], [gt], level - 1) for level in levels]


def steps(gt, *levels):
    """n_hit, fa_pixels, fp_objects after each level of pixels has joined, on an empty 24 x 24 background."""
    score, mask = np.zeros((24, 24)), np.zeros((24, 24), bool)
    for k, pixels in enumerate(levels):
        for pixel in pixels:
            score[pixel] = len(levels) - k
    for pixel in gt:
        mask[pixel] = True
    check_sweeps(score, mask)
    return _targets.sweep(score, mask.view(np.uint8))[1][:3, :-1].T.tolist()


def test_a_prediction_whose_first_pixel_moves_up_takes_the_target():
    a, b = (11, 11), (12, 8)
    assert steps([(10, 10)], [a], [b], [(11, 8)]) == [[1, 0, 0], [1, 1, 1], [1, 1, 1]]  # at last b (2 px) is matched, a (1 px) not


def test_an_earlier_target_takes_the_prediction_of_a_later_one():
    p, q, left = (5, 8), (7, 9), (5, 7)
    assert steps([(5, 5), (5, 8)], [p], [left]) == [[1, 0, 0], [1, 0, 0]]
    assert steps([(5, 5), (5, 8)], [p], [q], [left]) == [[1, 0, 0], [1, 1, 1], [2, 0, 0]]  # the later one takes the next


def test_a_released_prediction_goes_to_a_later_target():
    p, q = (6, 4), (5, 3)
    # the first target changes from p to what joins before it; p is free for the second
    assert steps([(5, 5), (7, 4)], [p], [(3, 5)]) == [[1, 0, 0], [2, 0, 0]]
    assert steps([(5, 5)], [p], [q]) == [[1, 0, 0], [1, 0, 0]]


def test_merged_predictions_hit_once_or_not_at_all():
    assert steps([(5, 5), (5, 9)], [(5, 5), (5, 9)], [(5, 6), (5, 7), (5, 8)]) == [[2, 0, 0], [1, 0, 0]]
    far = [(5, c) for c in range(6, 14)]
    assert steps([(5, 5), (5, 14)], [(5, 5), (5, 14)], far) == [[2, 0, 0], [0, 10, 1]]


def test_a_prediction_leaves_at_exactly_three_pixels():
    row = [(5, c) for c in range(5, 12)]  # its centroid moves by half a pixel a level
    assert steps([(5, 5)], *[[p] for p in row]) == [[1, 0, 0]] * 6 + [[0, 7, 1]]
    rounded = 0
    for r in range(19):  # at thirds, where a rounded distance is below 3 px in some rows
        assert steps([(r, 5), (r, 6), (r + 1, 5)], [(r + 3, 5)], [(r + 3, 6)], [(r + 4, 5)]) == [[1, 0, 0], [1, 0, 0], [0, 3, 1]]
        rounded += (r * 3 + 10) / 3 - (r * 3 + 1) / 3 < 3
    assert rounded > 0


def test_all_pixels_of_a_level_join_before_it_counts():
    """Taken one by one, the first pixel of the plateau alone would hit."""
    assert steps([(5, 5)], [(5, c) for c in range(5, 15)]) == [[0, 10, 1]]


def test_pd_is_not_forced_to_be_monotone():
    gt = np.zeros((20, 20), bool)
    gt[2, 2] = True
    score = np.where(gt, 0.9, 0.1)
    c = targets.curve(score, gt)
    assert c.thr.tolist() == [0.9, 0.1, -np.inf] and c.n_hit.tolist() == [0, 1, 0]


def test_pd_at_fa_picks_the_best_point_within_the_budget():
    score = np.zeros((10, 10))
    gt = np.zeros((10, 10), bool)
    gt[1, 1] = gt[8, 8] = True
    score[1, 1], score[1, 8], score[8, 8] = 0.9, 0.8, 0.7  # the second target costs one false pixel
    c = targets.curve(score, gt)
    assert c.pd.tolist() == [0, 0.5, 0.5, 1.0, 0.0] and c.fa.tolist() == [0, 0, 0.01, 0.01, 1.0]
    assert c.pd_at_fa([0, 0.009, 0.01, 1]).tolist() == [0.5, 0.5, 1.0, 1.0]
    assert c.pd_at_fa(0.01) == 1.0 and isinstance(c.pd_at_fa(0.01), float)


def test_no_target_gives_nan():
    c = targets.curve(np.zeros((4, 4)), np.zeros((4, 4), bool))
    assert np.isnan(c.pd).all() and np.isnan(c.pd_at_fa(1e-6)) and c.fa.tolist() == [0, 1]


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0, 0)])
def test_no_pixel_gives_one_point(shape):
    c = targets.curve(np.zeros(shape), np.zeros(shape, bool))
    assert c.thr.tolist() == [-np.inf] and c.pixels == 0 and np.isnan(c.fa).all() and np.isnan(c.pd_at_fa(0.5))


def test_negative_zero_is_zero():
    score, gt = np.array([[0.0, -0.0, -1.0, -0.0, 0.0]]), np.array([[1, 0, 0, 0, 1]], np.uint8)
    for form in (_targets, _targets_numpy):
        levels, counts, _ = form.sweep(score, gt)
        assert levels.tolist() == [0.0, -1.0] and not np.signbit(levels[0]) and counts.shape == (5, 2)
        levels, _, _ = form.sweep(np.full((1, 5), -0.0), gt)
        assert levels.tolist() == [0.0] and not np.signbit(levels[0])
    c = targets.curve(-score * 0, gt * 255)  # any non-zero byte is a target
    assert c.tp.tolist() == [0, 2]
    assert c.thr.tolist() == [0.0, -np.inf] and not np.signbit(c.thr[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dyadic_scores_are_equal_in_every_dtype(dtype):
    rng = np.random.default_rng(0)
    score, gt = rng.integers(0, 9, (24, 24)) / 8, rng.random((24, 24)) < 0.05
    want, got = targets.curve(score, gt), targets.curve(torch.from_numpy(score).to(dtype), torch.from_numpy(gt))
    assert all(np.array_equal(getattr(want, f), getattr(got, f)) for f in ("thr", *FIELDS))


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int8, np.uint16, np.int32, ">i4", np.int64, np.uint64, ">f4", np.longdouble])
def test_scores_of_every_layout_and_dtype(dtype):
    rng = np.random.default_rng(1)
    score, gt = rng.integers(0, 2 if dtype is bool else 100, (21, 34)).astype(dtype), rng.random((21, 34)) < 0.05
    want = targets.curve(score.astype(np.float64), gt)
    for form in (score, np.asfortranarray(score), np.repeat(score, 2, 1)[:, ::2], score[::-1].copy()[::-1]):
        got = targets.curve(form, gt)
        assert all(np.array_equal(getattr(want, f), getattr(got, f)) for f in ("thr", *FIELDS))


def test_neighbouring_floats_are_two_levels():
    for one in (np.float32(0.7), np.float64(0.7), np.float64(-1e-300), np.float64(5e-324), np.float32(-3e38)):
        score = np.array([[one, np.nextafter(one, one.dtype.type(np.inf))]])
        assert targets.curve(score, np.zeros((1, 2), bool)).thr[:-1].tolist() == [float(score[0, 1]), float(one)]
    double = np.array([[0.7, np.nextafter(0.7, 1)]])
    assert len(targets.curve(double.astype(np.float32), np.zeros((1, 2), bool)).thr) == 2  # negative control: one level in float32


def test_integers_at_the_limit_of_float64():
    score = np.array([[2**53 - 1, 2**53 - 2, 1 - 2**53]])
    assert targets.curve(score, score > 0).thr[:-1].tolist() == [2**53 - 1, 2**53 - 2, 1 - 2**53]


@pytest.mark.skipif(np.finfo(np.longdouble).nmant <= 52, reason="long double is float64 here")
def test_long_doubles_between_two_doubles_are_refused():
    with pytest.raises(ValueError, match="^curve: score must be exact in float64, got 1.00000000"):
        targets.curve(np.nextafter(np.ones((1, 1), np.longdouble), 2), np.ones((1, 1), bool))


def test_input_is_not_modified():
    rng = np.random.default_rng(2)
    score, gt = rng.random((30, 40)), (rng.random((30, 40)) < 0.05).view(np.uint8)
    copies = score.copy(), gt.copy()
    first = targets.curve(score, gt)
    assert np.array_equal(score, copies[0]) and np.array_equal(gt, copies[1])
    assert all(np.array_equal(getattr(first, f), getattr(targets.curve(score, gt), f)) for f in FIELDS)
