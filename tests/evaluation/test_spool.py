"""Scores on disk: what comes back, how many are distinct, and thresholds of 8 significant bits that lie on the exact curve."""
import numpy as np
import pytest

from irstd_ext.targets import curve
from python_models.evaluation.spool import Spool, coarsen


def images(seed=0, sizes=((9, 11), (8, 8), (1, 13))):
    rng = np.random.default_rng(seed)
    return [(rng.normal(0, 4, size).astype(dtype), rng.random(size) > 0.9) for size, dtype in zip(sizes, (np.float32, np.float64, np.float32))]


def test_images_come_back_as_often_as_wanted():
    spool = Spool(1000)
    for score, gt in images():
        spool.add(score, gt)
    for _ in range(2):
        for (score, gt), (own, truth) in zip(images(), spool, strict=True):
            assert score.dtype == own.dtype and np.array_equal(score, own) and np.array_equal(gt, truth)


@pytest.mark.parametrize("limit,distinct", [(25, 25), (24, None), (1, None), (1000, 25)])
def test_distinct_scores_are_counted_up_to_the_limit(limit, distinct):
    spool = Spool(limit)
    for start in (0, 10, 3):
        spool.add(np.arange(start, start + 15, dtype=np.float32).reshape(3, 5), np.zeros((3, 5), bool))
    assert spool.distinct == distinct


def counts(c, thresholds):
    at = [c.at(t) for t in thresholds]
    return [getattr(c, name)[at].tolist() for name in ("n_hit", "fa_pixels", "fp_objects", "tp", "fp")]


CASES = [("logits", 0.0), ("logits", 1.234), ("logits", -3.21), ("scores", 0.5), ("scores", 0.123), ("scores", 0.987)]


def exact_and_rounded(input, cut, rounding):
    rng = np.random.default_rng(3)
    score = rng.normal(0, 3, (24, 24)).astype(np.float32)
    score = 1 / (1 + np.exp(-score)) if input == "scores" else score
    gt = rng.random(score.shape) > 0.97
    return curve(score, gt), curve(rounding(score), gt)


@pytest.mark.parametrize("input,cut", CASES)
def test_every_point_of_a_rounded_curve_is_exact(input, cut):
    exact, rounded = exact_and_rounded(input, cut, lambda s: coarsen(s, input, cut))
    assert counts(rounded, rounded.thr) == counts(exact, rounded.thr)
    assert counts(rounded, [cut]) == counts(exact, [cut])  # the operating point
    budgets = [1e-3, 1e-2, 0.1]
    assert (rounded.pd_at_fa(budgets) <= exact.pd_at_fa(budgets)).all()


@pytest.mark.parametrize("input,cut", CASES)
def test_plain_rounding_would_not_do(input, cut):
    """Negative control: the nearest bfloat16-like number moves scores across thresholds."""
    def nearest(score):
        mantissa, exponent = np.frexp(score.astype(np.float64))
        return np.ldexp(np.rint(mantissa * 256), exponent - 8)

    exact, rounded = exact_and_rounded(input, cut, nearest)
    assert counts(rounded, rounded.thr) != counts(exact, rounded.thr)


@pytest.mark.parametrize("input", ["logits", "scores"])
def test_rounding_keeps_order_sign_and_ends(input):
    rng = np.random.default_rng(1)
    values = np.sort(np.concatenate([rng.random(4000), [0, 0.5, 1], 10.0 ** -rng.uniform(0, 30, 100)]))
    values = np.concatenate([-values[::-1], values]) if input == "logits" else values
    cut = 0.0 if input == "logits" else 0.5
    out = coarsen(values.astype(np.float32), input, cut)
    assert (np.diff(out) >= 0).all() and (out >= values.astype(np.float32)).all()
    assert ((out > cut) == (values.astype(np.float32) > cut)).all() and not np.signbit(out[out == 0]).any()
    assert len(np.unique(out)) < 0.6 * len(values) and (input == "logits" or out.max() == 1)
    assert np.abs(out - values).max() <= 2**-7
