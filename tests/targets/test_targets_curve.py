"""The exact curve: against the vectors' definition, image by image and threshold by threshold."""
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from irstd_ext import targets

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


@quick
@given(st.lists(IMAGE, min_size=2, max_size=3))
def test_order_of_images_changes_nothing(images):
    one = targets.curve(*map(list, zip(*images)))
    two = targets.curve(*map(list, zip(*images[::-1])))
    assert all(np.array_equal(getattr(one, f), getattr(two, f)) for f in ("thr", *FIELDS))


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


def test_no_pixel_gives_one_point():
    c = targets.curve(np.zeros((0, 4)), np.zeros((0, 4), bool))
    assert c.thr.tolist() == [-np.inf] and c.pixels == 0 and np.isnan(c.fa).all() and np.isnan(c.pd_at_fa(0.5))


def test_negative_zero_is_zero():
    c = targets.curve(np.array([[0.0, -0.0]]), np.array([[1, 0]]))
    assert c.thr.tolist() == [0.0, -np.inf] and not np.signbit(c.thr[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dyadic_scores_are_equal_in_every_dtype(dtype):
    rng = np.random.default_rng(0)
    score, gt = rng.integers(0, 9, (24, 24)) / 8, rng.random((24, 24)) < 0.05
    want, got = targets.curve(score, gt), targets.curve(torch.from_numpy(score).to(dtype), torch.from_numpy(gt))
    assert all(np.array_equal(getattr(want, f), getattr(got, f)) for f in ("thr", *FIELDS))
