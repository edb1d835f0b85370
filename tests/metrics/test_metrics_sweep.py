"""Coarse sweep at the thresholds of papers."""
import doctest

import numpy as np
import pytest

from irstd_ext import targets
from python_models.metrics import THRESHOLDS, CoarseSweep, IRSTDMetrics, sweep

RNG = np.random.default_rng(0)
MASK = RNG.random((4, 20, 30)) < 0.03
SCORE = np.clip(RNG.random((4, 20, 30)) * 0.7 + 0.3 * MASK, 0, 1).astype(np.float32)


def filled(score, mask, **options):
    metric = CoarseSweep(**options)
    metric.update(score, mask)
    return metric


def same(a, b):
    return all(np.array_equal(a[k], b[k], equal_nan=True) for k in a)


def test_each_threshold_equals_irstd_metrics():
    got = filled(SCORE, MASK).compute()
    for k, threshold in enumerate(THRESHOLDS):
        metric = IRSTDMetrics(input="scores", threshold=threshold)
        metric.update(SCORE, MASK)
        c = metric.counts
        assert [got[f][k] for f in ("roc_tp", "roc_fp", "sweep_n_hit", "sweep_fa_pixels_exact", "sweep_fa_pixels_legacy")] == [
            c["TP"], c["FP"], c["n_hit"], c["fa_pixels_exact"], c["fa_pixels_legacy"]]
    curve = targets.curve(list(SCORE), list(MASK))
    assert got["sweep_n_hit"].tolist() == [int(curve.n_hit[curve.at(t)]) for t in THRESHOLDS]


def test_logits_and_scores_agree():
    score = np.array([[[0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95]]])
    mask = np.ones_like(score, bool)
    assert same(filled(score, mask).compute(), filled(np.log(score / (1 - score)), mask, input="logits").compute())


def test_merge_and_order_change_nothing():
    whole = filled(SCORE, MASK).compute()
    parts = filled(SCORE[3:], MASK[3:]).merge(filled(SCORE[:1], MASK[:1])).merge(filled(SCORE[1:3], MASK[1:3]))
    assert same(parts.compute(), whole) and whole["n_images"] == 4 and whole["n_gt"] > 4
    parts.reset()
    assert parts.compute()["n_gt"] == 0 and np.isnan(parts.compute()["roc_tpr"]).all()


def test_invalid_inputs_give_one_line():
    for call, message in (
            (lambda: CoarseSweep("mask"), "CoarseSweep: input must be one of logits, scores, got 'mask'"),
            (lambda: filled(SCORE + 1, MASK), "CoarseSweep: scores must lie in [0, 1], got"),
            (lambda: filled(SCORE[:1], MASK), "CoarseSweep: prediction and mask must have one shape, got (1, 20, 30) and (4, 20, 30)"),
            (lambda: filled(SCORE * np.nan, MASK), "CoarseSweep: scores must be finite, got nan"),
            (lambda: CoarseSweep(gt_rule="some"), "CoarseSweep: gt_rule must be one of half, full, nonzero, got 'some'"),
            (lambda: CoarseSweep().merge(CoarseSweep("logits")), "CoarseSweep.merge: options must be equal, got"),
            (lambda: CoarseSweep().merge(CoarseSweep(gt_rule="full")), "CoarseSweep.merge: options must be equal, got")):
        with pytest.raises(ValueError) as error:
            call()
        assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_docstring_examples():
    result = doctest.testmod(sweep)
    assert result.failed == 0 and result.attempted >= 3
