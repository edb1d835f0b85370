"""What the metrics warn of, once for each object: probabilities given as logits, masks too faint to hold a target."""
import warnings

import numpy as np
import pytest
import torch

from python_models.data import DataWarning
from python_models.metrics import Breakdown, CoarseSweep, IRSTDMetrics, ProtocolMetrics


def batch(seed, n=6, shape=(33, 41)):
    """Logits and masks; the first image has neither target nor prediction."""
    rng = np.random.default_rng(seed)
    mask = torch.from_numpy(rng.random((n, 1, *shape)) < 0.01)
    logits = torch.from_numpy(rng.normal(size=(n, 1, *shape)) - 2.2).float() + 4 * mask
    mask[0], logits[0] = False, -1
    return logits, mask.float()


def warned(metric, *batches):
    """What updates of one object warn of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for prediction, mask in batches:
            metric.update(prediction, mask)
    return [str(w.message) for w in caught if issubclass(w.category, DataWarning)]


PROBABILITIES = "every logit lies in [0, 1], so probabilities were probably given; input=\"scores\" takes them"


@pytest.mark.parametrize("make", [IRSTDMetrics, ProtocolMetrics, Breakdown, lambda **o: CoarseSweep(**{"input": "logits", **o})])
def test_probabilities_given_as_logits_warn_once(make):
    logits, mask = batch(7)
    scores = logits.sigmoid()
    (text,) = warned(make(), (scores, mask), (scores, mask))
    assert text.endswith(": " + PROBABILITIES)
    assert warned(make(), (logits, mask), (logits.abs() * 3, mask)) == []  # real logits, also without a negative one
    assert warned(make(), (mask, mask), (mask > 0, mask), (scores[:1], mask[:1])) == []  # masks as predictions; no target
    assert warned(make(input="scores"), (scores, mask)) == []


@pytest.mark.parametrize("top, dtype, full", [(7, np.uint8, 255), (127, np.int64, 255), (300, np.uint16, 65535), (32767, np.int32, 65535)])
def test_masks_too_faint_to_hold_a_target_warn_once_with_their_value(top, dtype, full):
    mask = np.zeros((2, 6, 6), dtype)
    mask[1, 2:4, 2:4] = top
    prediction = np.where(mask, 3.0, -3.0)
    (text,) = warned(IRSTDMetrics(), (prediction, mask), (prediction, mask))
    assert text == (f"IRSTDMetrics: a mask whose largest value is {top} holds no target, none is above half of full scale {full}; "
                    'give 0 and 1, or gt_rule="nonzero"')
    assert len(warned(ProtocolMetrics(gt_rule="full"), (prediction, mask))) == 1 and warned(IRSTDMetrics(gt_rule="nonzero"), (prediction, mask)) == []
    for good in (1, 128, 255, 40000, 65535):
        assert warned(IRSTDMetrics(), (prediction, (mask.astype(np.int64) > 0) * good)) == []
