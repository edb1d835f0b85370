"""Every protocol and option against an independent implementation of the published rules, on random images."""
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irstd_ext import targets
from metrics import independent
from python_models.metrics import GT_RULES, THRESHOLDS, Breakdown, CoarseSweep, IRSTDMetrics, PixelAUC, ProtocolMetrics

# Masks that are grey all over are wanted here; test_metrics_warnings.py holds what is said of them.
pytestmark = pytest.mark.filterwarnings("ignore:.*a mask whose largest value is:python_models.data.errors.DataWarning")
quick = settings(max_examples=80, deadline=None, derandomize=True, database=None)
OPTIONS = st.fixed_dictionaries({"threshold": st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), "maxnorm": st.booleans(),
                                 "empty": st.sampled_from(["zero", "skip"]), "gt_rule": st.sampled_from(GT_RULES)})


def images(seed, n):
    """Blobs, their shifted copies and clutter; grey edges in the masks; scores in eighths; empty images and images of any size."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(n):
        shape = tuple(rng.integers(1, 15, 2))
        mask = np.zeros(shape, np.uint8)
        for _ in range(rng.integers(0, 4)):
            row, col = rng.integers(0, shape)
            mask[row:row + rng.integers(1, 4), col:col + rng.integers(1, 4)] = 255
        mask[(rng.random(shape) < 0.1) & (mask > 0)] = rng.choice([2, 127, 128, 254])  # an image of 0 and 1 alone would have full scale 1
        score = np.roll(mask, rng.integers(-4, 5, 2), (0, 1)) / 255 + 0.6 * (rng.random(shape) < 0.08)
        score = score * (rng.random() < 0.9) * rng.integers(1, 9, shape) / 8
        out.append(((np.clip(np.round(8 * score), 0, 8) / 8).astype(np.float32), mask))
    return out


def agree(got, want):
    """Integers equal; ratios equal but for the last bits."""
    for name, value in want.items():
        if isinstance(value, int):
            if got[name] != value or isinstance(got[name], float):
                return False
        elif not (math.isnan(value) and math.isnan(got[name]) or math.isclose(got[name], value, rel_tol=1e-14)):
            return False
    return set(got) - set(want) <= {"protocol", "threshold", "gt_rule"}


@quick
@given(st.integers(0, 2**32 - 1), st.integers(0, 4), OPTIONS, st.sampled_from([None, 256 * 256]))
def test_all_protocols_equal_the_independent_rules(seed, n, options, fixed_pixels):
    sets = images(seed, n)
    together = ProtocolMetrics(input="scores", fixed_pixels=fixed_pixels, **options)
    for score, mask in sets:
        together.update(score, mask)
    for protocol in targets.PROTOCOLS:
        own = {} if protocol == "overlap" else {"fixed_pixels": fixed_pixels}
        want = independent.judge(sets, protocol, **own, **options)
        alone = IRSTDMetrics(protocol, input="scores", **own, **options)
        for score, mask in sets:
            alone.update(score, mask)
        assert agree(alone.compute(), want)
        assert repr(together.compute(protocol)) == repr(alone.compute())  # repr: NaN equals NaN, no digit lost
        for k, (score, mask) in enumerate(sets):
            assert agree(together.compute(protocol, rows=[k]), independent.judge([(score, mask)], protocol, **own, **options))


def nearest(pred, gt):
    used, found = set(), []
    for row, col in map(independent.centroid, gt):
        far = {k: (r - row) ** 2 + (c - col) ** 2 for k, (r, c) in enumerate(map(independent.centroid, pred)) if k not in used}
        found.append(min((k for k in far if far[k] < 9), key=far.get, default=None))
        used.add(found[-1])
    return found


@pytest.mark.parametrize("name, wrong", [
    ("greedy", nearest),
    ("CONNECTED", np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])), ("near", lambda d: d <= 9), ("near", lambda d: d < 8), ("above", lambda v, t: v >= t),
    ("true_pixels", lambda mask, rule: mask >= 127), ("distance", lambda p, q: min((abs(p[0] - r) + abs(p[1] - c) for r, c in q), default=10**9))])
def test_wrong_rules_do_not_agree(monkeypatch, name, wrong):
    """Negative control: the random images tell every one of these rules from the right one."""
    monkeypatch.setattr(independent, name, wrong)

    def differs(seed):
        sets, metric = images(seed, 3), ProtocolMetrics(input="scores")
        for score, mask in sets:
            metric.update(score, mask)
        return not all(agree(metric.compute(p), independent.judge(sets, p)) for p in targets.PROTOCOLS)

    assert any(differs(seed) for seed in range(120))


@settings(quick, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.sampled_from(GT_RULES))
def test_sweep_and_auc_equal_the_independent_rules(seed, rule):
    sets = images(seed, 3)
    sweep = CoarseSweep(gt_rule=rule)
    for score, mask in sets:
        sweep.update(score, mask)
    got = sweep.compute()
    for k, threshold in enumerate(THRESHOLDS):
        want = independent.judge(sets, "exact", threshold=threshold, gt_rule=rule)
        assert [got[f][k] for f in ("roc_tp", "roc_fp", "sweep_n_hit", "sweep_fa_pixels_exact", "sweep_fa_pixels_legacy")] == [
            want[f] for f in ("TP", "FP", "n_hit", "fa_pixels_exact", "fa_pixels_legacy")]
    truth = np.concatenate([independent.true_pixels(m, rule).ravel() for _, m in sets])
    values = np.concatenate([s.ravel() for s, _ in sets]).astype(float)
    auc = PixelAUC(np.concatenate([PixelAUC.positives(s, m, gt_rule=rule) for s, m in sets]), gt_rule=rule)
    for score, mask in sets:
        auc.update(score, mask)
    wins = sum(float((p > values[~truth]).sum() + 0.5 * (p == values[~truth]).sum()) for p in values[truth])
    want = wins / (truth.sum() * (~truth).sum()) if truth.any() and not truth.all() else math.nan
    assert auc.compute() == want or math.isnan(auc.compute()) and math.isnan(want)


@settings(quick, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from(targets.PROTOCOLS), st.sampled_from(GT_RULES))
def test_breakdown_by_size_equals_the_independent_rules(seed, protocol, rule):
    sets, edges = images(seed, 3), (1, 3, 8)
    breakdown = Breakdown(protocol, input="scores", sizes=edges, gt_rule=rule)
    want = np.zeros((2, 4), int)
    for score, mask in sets:
        breakdown.update(score, mask)
        hits = independent.count_image(score, mask, protocol, gt_rule=rule)["hits"]
        for target, hit in zip(independent.components(independent.true_pixels(mask, rule)), hits):
            k = sum(len(target) > e for e in edges)
            want[:, k] += (1, hit)
    got = breakdown.compute()["by_size"]
    assert [[b["n_gt"] for b in got], [b["n_hit"] for b in got]] == want.tolist()
