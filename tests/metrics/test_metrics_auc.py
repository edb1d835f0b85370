"""Exact area under the pixel ROC, in two passes."""
import doctest
import math
import weakref

import numpy as np
import pytest
import torch

from irstd_ext import targets
from python_models.metrics import PixelAUC, auc, pixel_auc


def naive_auc(scores, truth):
    """Probability that a target pixel scores above a background pixel, ties half."""
    wins = sum((p > n) + 0.5 * (p == n) for p in scores[truth] for n in scores[~truth])
    return wins / (truth.sum() * (~truth).sum())


@pytest.mark.parametrize("levels", [2, 3, 7, 1000])
def test_auc_is_the_rank_statistic(levels):
    rng = np.random.default_rng(levels)
    scores, truth = rng.integers(0, levels, (2, 9, 12)) / levels, rng.random((2, 9, 12)) < 0.2
    got = pixel_auc(list(scores), list(truth))
    assert abs(got - naive_auc(scores.ravel(), truth.ravel())) < 1e-12
    assert got == pixel_auc(list(scores[::-1]), list(truth[::-1])) == pixel_auc([scores], [truth])
    assert got == pixel_auc(list(torch.from_numpy(scores * 6 - 3)), list(truth))  # only the order counts
    shifted = abs(pixel_auc(list(np.roll(scores, 1, 2)), list(truth)) - naive_auc(scores.ravel(), truth.ravel()))
    assert shifted > 1e-12  # negative control of the tolerance


@pytest.mark.parametrize("levels", [3, 1000])
def test_parts_of_a_set_merge_to_the_area_of_the_whole(levels):
    rng = np.random.default_rng(levels)
    scores, truth = rng.integers(0, levels, (6, 9, 12)) / levels, rng.random((6, 9, 12)) < 0.1
    positives = np.concatenate([PixelAUC.positives(s, t) for s, t in zip(scores, truth)])
    parts = [PixelAUC(rng.permutation(positives)) for _ in range(3)]
    for k in range(6):
        parts[k % 3].update(scores[k], truth[k])
    assert parts[2].merge(parts[0]).merge(parts[1]).compute() == pixel_auc([scores], [truth])
    half = PixelAUC(positives)
    half.update(scores[:3], truth[:3])
    with pytest.raises(ValueError, match=f"both passes must see one set, got {truth.sum()} and {truth[:3].sum()} target pixels"):
        half.compute()
    with pytest.raises(ValueError, match="must be made with the positives of the whole set"):
        half.merge(PixelAUC(positives[1:]))


def test_area_of_the_curve_is_the_same_area():
    """The trapezoids over every threshold of the exact curve."""
    rng = np.random.default_rng(2)
    scores, truth = rng.integers(0, 20, (3, 16, 16)) / 20, rng.random((3, 16, 16)) < 0.1
    c = targets.curve(list(scores), list(truth))
    tpr, fpr = (np.append(0, x) / x[-1] for x in (c.tp, c.fp))
    trapezoids = float(((tpr[1:] + tpr[:-1]) / 2 * np.diff(fpr)).sum())
    got = pixel_auc(list(scores), list(truth))
    assert abs(got - trapezoids) < 1e-12 < abs(got - float((tpr[1:] * np.diff(fpr)).sum()))


def test_one_image_at_a_time_is_in_memory():
    """The images come from objects that make them when asked; none of them is kept."""
    class Lazy:
        def __init__(self, make):
            self.make, self.made, self.most = make, [], 0

        def __len__(self):
            return 8

        def __getitem__(self, k):
            image = self.make(np.random.default_rng(range(8)[k]))
            self.made.append(weakref.ref(image))
            self.most = max(self.most, sum(r() is not None for r in self.made))
            return image

    scores, masks = Lazy(lambda rng: rng.random((8, 8))), Lazy(lambda rng: rng.random((8, 8)) > 0.8)
    assert pixel_auc(scores, masks) == 1.0  # the same numbers: above 0.8 is a target
    assert scores.most <= 2 and masks.most <= 2 and len(scores.made) == 16
    kept = list(scores)
    assert scores.most == len(kept)  # negative control


def test_auc_ends():
    truth = np.array([[True, False]])
    assert pixel_auc([np.array([[2.0, 1.0]])], [truth]) == 1 and pixel_auc([np.array([[1.0, 2.0]])], [truth]) == 0
    assert pixel_auc([np.ones((1, 2))], [truth]) == 0.5
    for undefined in (truth & False, truth | True):
        assert math.isnan(pixel_auc([np.ones((1, 2))], [undefined]))
    assert math.isnan(pixel_auc([], []))


def test_gt_rule():
    score, mask = np.array([[0.9, 0.8, 0.1, 0.2]]), np.array([[255, 200, 100, 0]], np.uint8)
    assert [pixel_auc([score], [mask], gt_rule=rule) for rule in ("half", "full", "nonzero")] == [1.0, 1.0, 2 / 3]


def test_invalid_inputs_give_one_line():
    score, mask = np.ones((2, 2)), np.ones((2, 2), bool)
    for call, message in (
            (lambda: pixel_auc([score], []), "pixel_auc: predictions and masks must be lists of one length, got 1 and 0"),
            (lambda: pixel_auc([score * np.inf], [mask]), "pixel_auc: predictions must be finite, got"),
            (lambda: pixel_auc([score], [mask[:1]]), "pixel_auc: prediction and mask must have one shape, got (1, 2, 2) and (1, 1, 2)"),
            (lambda: PixelAUC([], gt_rule="few"), "PixelAUC: gt_rule must be one of half, full, nonzero, got 'few'"),
            (lambda: pixel_auc([score], [mask], gt_rule="few"), "pixel_auc: gt_rule must be one of half, full, nonzero, got 'few'")):
        with pytest.raises(ValueError) as error:
            call()
        assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_docstring_examples():
    result = doctest.testmod(auc)
    assert result.failed == 0 and result.attempted >= 4
