"""Pd by size and by SCR, and the SCR of one target."""
import doctest
import math

import numpy as np
import pytest
import torch

from irstd_ext import targets
from python_models.data import SynthConfig, make_scene
from python_models.metrics import Breakdown, breakdown, target_scr

RNG = np.random.default_rng(0)


def blocks(*boxes, shape=(64, 80)):
    """A mask of boxes (row, col, height, width)."""
    mask = np.zeros(shape, bool)
    for row, col, height, width in boxes:
        mask[row:row + height, col:col + width] = True
    return mask


def naive_scr(image, mask, region):
    """The definition, pixel by pixel."""
    labels, _ = targets.label(mask)
    x, y, w, h = region.box
    reach = max(10, w, h)
    ring = [image[r, c] for r in range(y - reach, y + h + reach) for c in range(x - reach, x + w + reach)
            if 0 <= r < mask.shape[0] and 0 <= c < mask.shape[1] and not (y <= r < y + h and x <= c < x + w) and not mask[r, c]]
    return abs(image[labels == region.label].mean() - np.mean(ring)) / np.std(ring)


def test_scr_equals_its_definition():
    mask = blocks((0, 0, 3, 4), (30, 30, 2, 2), (35, 33, 1, 5), (60, 70, 4, 10), (20, 60, 15, 12), (45, 40, 2, 17))
    mask |= np.eye(64, 80, -20, bool) & (np.arange(80) < 12)  # a diagonal: its box holds little of it
    mask[22, 8] = True  # ... and a target inside that box
    image = RNG.normal(size=mask.shape) + 3 * mask
    found = targets.regions(mask)
    assert len(found) == 8
    for region in found:
        got = target_scr(image, mask, region)
        assert abs(got - naive_scr(image, mask, region)) < 1e-12
        assert abs(got - naive_scr(image + 0.01 * np.arange(80), mask, region)) > 1e-12  # negative control
        assert got == target_scr(torch.from_numpy(image)[None], torch.from_numpy(mask), region)
        assert abs(got - target_scr(7 - 2 * image, mask, region)) < 1e-12  # neither scale nor sign matters


def test_scr_of_synthetic_scenes_is_the_one_in_their_metadata():
    checked = 0
    for index in range(12):
        scene = make_scene(index, 96, seed=5, config=SynthConfig(empty=0.0))
        for region, meta in zip(targets.regions(scene.mask), scene.meta["targets"]):
            assert list(region.box) == meta["box"]
            assert target_scr(scene.raw, scene.mask, region) == pytest.approx(meta["scr"], rel=1e-12)
            assert target_scr(scene.image, scene.mask, region) == pytest.approx(meta["scr_8bit"], rel=1e-12)
            assert target_scr(scene.image, scene.mask, region) != pytest.approx(meta["scr"], rel=1e-12)  # negative control
            checked += 1
    assert checked >= 12


def test_scr_of_flat_and_missing_rings():
    mask = blocks((5, 5, 2, 2), shape=(16, 16))
    region, flat = targets.regions(mask)[0], np.full(mask.shape, 0.1, np.float32)
    assert target_scr(flat, mask, region) == 0 and target_scr(flat + mask, mask, region) == math.inf
    full = np.ones((4, 4), bool)
    assert math.isnan(target_scr(flat[:4, :4], full, targets.regions(full)[0]))


def test_bins_and_their_ends():
    mask = blocks((2, 2, 3, 3), (2, 20, 2, 5), (2, 40, 4, 5), (20, 2, 4, 10), (20, 40, 8, 10), (50, 2, 9, 9))
    assert sorted(r.area for r in targets.regions(mask)) == [9, 10, 20, 40, 80, 81]
    b = Breakdown()
    b.update(np.where(mask & (np.arange(80) < 30), 1.0, -1.0), mask)
    assert b.compute()["by_size"] == [
        {"low": 1, "high": 9, "n_gt": 1, "n_hit": 1, "Pd": 1}, {"low": 10, "high": 20, "n_gt": 2, "n_hit": 1, "Pd": 0.5},
        {"low": 21, "high": 40, "n_gt": 1, "n_hit": 1, "Pd": 1}, {"low": 41, "high": 80, "n_gt": 1, "n_hit": 0, "Pd": 0},
        {"low": 81, "high": None, "n_gt": 1, "n_hit": 1, "Pd": 1}]
    assert [(x["low"], x["high"]) for x in b.compute()["by_scr"]] == [(0, 3), (3, 6), (6, 10), (10, 15), (15, None)]
    assert all(x["n_gt"] == 0 and math.isnan(x["Pd"]) for x in b.compute()["by_scr"])  # no image was given


def test_scr_ends_belong_to_the_upper_bin_and_undefined_ones_stand_apart():
    mask = blocks(*((2 + 6 * (k // 4), 2 + 12 * (k % 4), 2, 2) for k in range(8)))
    match = targets.match(mask, mask, "exact")
    b = Breakdown()
    b.add(match, targets.regions(mask), [0.0, 2.999, 3.0, 6.0, 10.0, 14.9, 15.0, math.inf])
    assert [x["n_gt"] for x in b.compute()["by_scr"]] == [2, 1, 1, 2, 2]
    b.add(match, targets.regions(mask), [math.nan] * 8)
    assert b.compute()["by_scr"][-1] == {"low": None, "high": None, "n_gt": 8, "n_hit": 8, "Pd": 1.0}


@pytest.mark.parametrize("protocol", targets.PROTOCOLS)
def test_update_equals_add_and_totals_equal_the_match(protocol):
    mask = np.stack([blocks((5, 5, 3, 3), (30, 30, 4, 6)), blocks((50, 60, 1, 2))])
    image = RNG.normal(size=mask.shape) + mask * 4
    score = np.roll(mask, 1, 2) * 0.9
    one, two = Breakdown(protocol, input="scores"), Breakdown(protocol, input="scores")
    one.update(score, mask, image)
    for s, g, i in zip(score, mask, image):
        regions = targets.regions(g)
        two.add(targets.match(s > 0.5, g, protocol), regions, [target_scr(i, g, r) for r in regions])
    three = Breakdown(protocol, input="scores")
    three.update(torch.from_numpy(score)[:, None], torch.from_numpy(mask)[:, None], torch.from_numpy(image)[:, None])
    assert repr(one.compute()) == repr(two.compute()) == repr(three.compute())
    for bins in one.compute().values():
        assert sum(b["n_gt"] for b in bins) == 3
        assert sum(b["n_hit"] for b in bins) == sum(targets.match(s > 0.5, g, protocol).n_hit for s, g in zip(score, mask))


def test_merge_order_and_reset():
    mask = RNG.random((4, 32, 32)) < 0.01
    image, logits = RNG.normal(size=mask.shape) + 5 * mask, RNG.normal(size=mask.shape) + 2 * mask - 1
    whole, parts = Breakdown(), [Breakdown() for _ in range(4)]
    whole.update(logits, mask, image)
    for k in range(4):
        parts[k].update(logits[k], mask[k], image[k])
    assert repr(parts[3].merge(parts[1]).merge(parts[0]).merge(parts[2]).compute()) == repr(whole.compute())
    whole.reset()
    assert sum(b["n_gt"] for b in whole.compute()["by_size"]) == 0
    with pytest.raises(ValueError, match="Breakdown.merge: options must be equal"):
        whole.merge(Breakdown(sizes=(5,)))


def test_invalid_inputs_give_one_line():
    mask = blocks((2, 2, 2, 2), shape=(8, 8))
    region = targets.regions(mask)[0]
    match = targets.match(mask, mask)
    for call, message in (
            (lambda: Breakdown("exakt"), "Breakdown: protocol must be one of exact, legacy, overlap, shooting, got 'exakt'"),
            (lambda: Breakdown(sizes=(9, 9)), "Breakdown: sizes must be rising numbers > 0, got (9, 9)"),
            (lambda: Breakdown(scr=()), "Breakdown: scr must be rising numbers > 0, got ()"),
            (lambda: Breakdown().update(mask, mask, np.zeros((8, 9))), "Breakdown: image and mask must have one shape, got (1, 8, 9) for 1 masks"),
            (lambda: Breakdown("legacy").add(match, [region]), "Breakdown.add: match must be legacy of as many targets"),
            (lambda: Breakdown().add(match, []), "Breakdown.add: match must be exact of as many targets as regions and scr, got exact with 1, 0 and no"),
            (lambda: target_scr(np.zeros((8, 9)), mask, region), "target_scr: image and gt_mask must have one shape [H, W], got (8, 9) and (8, 8)"),
            (lambda: target_scr(mask, ~mask, region), "target_scr: region must be a component of the mask, got box (2, 2, 2, 2) with 4 px")):
        with pytest.raises(ValueError) as error:
            call()
        assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_docstring_examples():
    result = doctest.testmod(breakdown)
    assert result.failed == 0 and result.attempted >= 6
