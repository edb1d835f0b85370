"""The boundaries of every rule, empty sets, and what options reproduce, each on the smallest case that shows it."""
import math

import numpy as np
import pytest

from irstd_ext import targets
from python_models.metrics import Breakdown, CoarseSweep, IRSTDMetrics, ProtocolMetrics


def judged(score, mask, protocol="exact", **options):
    metric = IRSTDMetrics(protocol, input="scores", **options)
    metric.update(score, mask)
    together = ProtocolMetrics(input="scores", **options)
    together.update(score, mask)
    assert repr(together.compute(protocol)) == repr(metric.compute())
    return metric.compute()


def dots(*pixels, shape=(40, 40)):
    mask = np.zeros(shape, bool)
    for row, col in pixels:
        mask[row, col] = True
    return mask


def test_a_shift_of_3_loses_the_match_and_2_99_keeps_it():
    gt = np.zeros((10, 400), bool)
    gt[5, 10:110] = True
    moved = np.roll(gt, 3, 1)
    assert judged(moved, gt)["Pd"] == 0
    moved[5, 112], moved[6, 111] = False, True  # one of 100 pixels back by one column: 2.99
    assert judged(moved, gt)["Pd"] == 1


def test_equal_areas_are_free_under_legacy_only():
    gt, pred = dots((10, 10)), dots((10, 10), (30, 30))
    assert judged(pred, gt, "legacy")["Fa"] == 0 < judged(pred, gt)["Fa"] == 1 / 1600
    assert judged(pred | dots((30, 31)), gt, "legacy")["Fa"] == 2 / 1600  # another area is counted


@pytest.mark.parametrize("step", [(1, 0), (0, -1), (1, 1), (-1, 1)])
def test_shooting_and_overlap_at_their_radii(step):
    gt, found, false = dots((20, 20)), {}, {}
    for distance in (0, 1, 2, 4, 5):
        pred = np.roll(gt, np.multiply(step, distance), (0, 1))
        for protocol in ("shooting", "overlap"):
            result = judged(pred, gt, protocol)
            found[protocol, distance], false[protocol, distance] = result["n_hit"], result["fa_pixels"]
    assert [found["shooting", d] for d in (0, 1, 2, 4, 5)] == [1, 1, 0, 0, 0] and [false["shooting", d] for d in (0, 1, 2, 4, 5)] == [0, 0, 0, 0, 1]
    assert [found["overlap", d] for d in (0, 1, 2, 4, 5)] == [1, 0, 0, 0, 0] and [false["overlap", d] for d in (0, 1, 2, 4, 5)] == [0, 1, 1, 1, 1]


def test_diagonal_pixels_are_one_target():
    assert judged(dots(), dots((3, 3), (4, 4), (5, 3)))["n_gt"] == 1 < judged(dots(), dots((3, 3), (3, 5)))["n_gt"]


def test_no_target_in_the_set():
    for protocol in targets.PROTOCOLS:
        result = judged(dots((3, 3)), dots(), protocol)
        assert math.isnan(result["Pd"]) and math.isnan(result["recall"]) and result["Fa"] == 1 / 1600
        assert result["IoU"] == result["nIoU_zero"] == result["nIoU_skip"] == result["precision"] == result["F1"] == 0
    for bins in (b for part in breakdown_of(dots((3, 3)), dots()).values() for b in part):
        assert bins["n_gt"] == 0 and math.isnan(bins["Pd"])


def breakdown_of(score, mask):
    breakdown = Breakdown(input="scores")
    breakdown.update(score, mask, np.arange(mask.size, dtype=float).reshape(mask.shape))
    return breakdown.compute()


def test_no_prediction():
    for protocol in targets.PROTOCOLS:
        result = judged(dots(), dots((3, 3)), protocol)
        assert result["Fa"] == result["Pd"] == result["IoU"] == result["nIoU"] == result["F1"] == 0 and math.isnan(result["precision"])


def test_both_empty():
    for protocol in targets.PROTOCOLS:
        result = judged(dots(), dots(), protocol)
        assert all(math.isnan(result[k]) for k in ("IoU", "F1", "Pd", "precision", "recall", "nIoU_skip"))
        assert result["Fa"] == result["nIoU"] == result["nIoU_zero"] == result["F1_eps"] == 0
        assert math.isnan(judged(dots(), dots(), protocol, empty="skip")["nIoU"])


def test_no_background():
    full = np.ones((4, 4), bool)
    assert math.isnan(judged(full, full, "overlap")["Fa"]) and judged(full, full, "exact")["Fa"] == judged(full, full, "shooting")["Fa"] == 0
    sweep = CoarseSweep()
    sweep.update(full, full)
    assert np.isnan(sweep.compute()["roc_fpr"]).all() and sweep.compute()["roc_fpr_eps"].tolist() == [0] * 11


def test_no_image():
    empty = ProtocolMetrics()
    for protocol in targets.PROTOCOLS:
        result = empty.compute(protocol)
        assert all(math.isnan(result[k]) for k in ("IoU", "nIoU", "F1", "Pd", "Fa")) and result["n_images"] == 0


def test_gt_rule_reproduces_the_cast_to_int64():
    """Three target pixels, one of them 254: half of full scale finds three, the cast two, and the third is a false positive."""
    mask, pred = np.zeros((1, 8, 8), np.uint8), np.zeros((1, 8, 8))
    mask[0, 4, 2:5], pred[0, 4, 2:5] = (255, 254, 255), 1
    cast = (mask / 255).astype(np.int64) != 0  # what that code does
    result = {rule: judged(pred, mask, gt_rule=rule) for rule in ("half", "full", "nonzero")}
    assert result["half"]["IoU"] == 1 and round(result["full"]["IoU"], 2) == 0.67 and result["full"]["FP"] == 1
    assert {k: v for k, v in result["full"].items() if k != "gt_rule"} == {k: v for k, v in judged(pred, cast).items() if k != "gt_rule"}
    faint = np.where(mask == 254, 3, mask)
    assert [judged(pred, faint, gt_rule=rule)["TP"] for rule in ("half", "full", "nonzero")] == [2, 2, 3]


@pytest.mark.parametrize("mask", [np.array([[[0, 1, 1]]], bool), np.array([[[0, 1, 1]]]), np.array([[[0.0, 1.0, 1.0]]]), np.array([[[0, 255, 255]]]),
                                  np.array([[[0, 65535, 65535]]], np.uint16)])
@pytest.mark.parametrize("rule", ["half", "full", "nonzero"])
def test_binary_masks_are_the_same_under_every_rule(mask, rule):
    assert judged(np.array([[[0.9, 0.9, 0.1]]]), mask, gt_rule=rule)["TP"] == 1


@pytest.mark.parametrize("rule, count", [("half", 2), ("full", 1), ("nonzero", 4)])
def test_rules_on_grey_masks_of_every_kind(rule, count):
    for mask in (np.array([[0, 1, 127, 128, 255]], np.uint8), np.array([[0, 300, 32767, 32768, 65535]], np.uint16), np.array([[0, 0.1, 0.5, 254 / 255, 1]])):
        assert judged(np.ones(mask.shape), mask, gt_rule=rule)["TP"] == count


def test_fixed_pixels_reproduces_code_that_divides_by_the_network_size():
    gt, pred = dots((10, 10), shape=(400, 592)), dots((10, 10), (300, 300), shape=(400, 592))
    assert judged(pred, gt)["Fa"] == 1 / (400 * 592) and judged(pred, gt, fixed_pixels=256 * 256)["Fa"] == 1 / 65536
    assert judged(pred, gt, "shooting", fixed_pixels=256 * 256)["Fa"] == 1 / 65536
    both = ProtocolMetrics(input="scores", fixed_pixels=256 * 256)  # overlap keeps its own denominator
    both.update(pred, gt)
    assert both.compute("overlap")["Fa"] == 1 / (400 * 592 - 1) and both.compute("legacy")["Fa_exact"] == 1 / 65536


def test_maxnorm_reproduces_division_by_the_maximum():
    """As public code does it: score / score.max() > 0.5, images without targets left out of `overlap`."""
    rng = np.random.default_rng(3)
    scores, masks = rng.random((6, 20, 20)) ** 8, rng.random((6, 20, 20)) < 0.01
    masks[2] = masks[4] = False
    divided = scores / scores.max(axis=(1, 2), keepdims=True)
    kept = [k for k in range(6) if masks[k].any()]
    for protocol in targets.PROTOCOLS:
        own = judged(scores * 7, masks, protocol, maxnorm=True)
        reference = judged(divided, masks, protocol)
        assert all(own[k] == reference[k] for k in ("TP", "FP", "FN", "n_gt", "n_hit")) and own["FP"] > judged(scores, masks, protocol)["FP"]
        if protocol == "overlap":
            reference = judged(divided[kept], masks[kept], protocol)
        assert (own["fa_pixels"], own["Fa"], own["Pd"]) == (reference["fa_pixels"], reference["Fa"], reference["Pd"])
    faint = judged(np.full((1, 4, 4), 1e-9), np.zeros((1, 4, 4)), maxnorm=True)
    assert faint["FP"] == 16  # any image then has a detection
    assert judged(np.zeros((1, 4, 4)), np.zeros((1, 4, 4)), maxnorm=True)["FP"] == 0
