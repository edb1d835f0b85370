"""IRSTDMetrics: accumulation, options, properties of the specification, messages."""
import doctest
import json
import math
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from irstd_ext import targets
from python_models.data import DataWarning
from python_models.metrics import COUNTS, IRSTDMetrics, accumulator, inputs

VARIANTS = [{"protocol": p} for p in targets.PROTOCOLS] + [{"protocol": "exact", "fixed_pixels": 65536}, {"protocol": "legacy", "empty": "skip"}]
quick = settings(max_examples=50, deadline=None, derandomize=True, database=None)


def batch(seed, n=6, shape=(33, 41)):
    rng = np.random.default_rng(seed)
    mask = torch.from_numpy(rng.random((n, 1, *shape)) < 0.01)
    logits = torch.from_numpy(rng.normal(size=(n, 1, *shape)) - 2.2).float() + 4 * mask
    mask[0], logits[0] = False, -1  # an image without target and prediction
    return logits, mask.float()


def filled(logits, mask, **options):
    metric = IRSTDMetrics(**options)
    metric.update(logits, mask)
    return metric


def equal(a, b):
    return a.keys() == b.keys() and all(a[k] == b[k] or a[k] != a[k] and b[k] != b[k] for k in a)


@quick
@given(st.integers(0, 2**32 - 1), st.permutations(range(6)), st.integers(1, 6), st.sampled_from(VARIANTS))
def test_order_batch_size_and_merging_change_nothing(seed, order, size, options):
    logits, mask = batch(seed)
    whole = filled(logits, mask, **options)
    parts = [IRSTDMetrics(**options), IRSTDMetrics(**options)]
    for k in range(0, 6, size):
        index = list(order[k:k + size])
        parts[k % 2].update(logits[index], mask[index])
    assert parts[0].merge(parts[1]).counts == whole.counts
    assert equal(parts[0].compute(), whole.compute())
    summed = IRSTDMetrics(**options)
    summed.load_counts(sum(filled(logits[k], mask[k], **options).counts_tensor() for k in order))
    assert equal(summed.compute(), whole.compute())


@quick
@given(st.integers(0, 2**32 - 1))
def test_properties_of_the_protocols(seed):
    logits, mask = batch(seed)
    exact, legacy = (filled(logits, mask, protocol=p).compute() for p in ("exact", "legacy"))
    assert exact["Fa"] == exact["Fa_exact"] == legacy["Fa_exact"] and legacy["Fa"] == legacy["Fa_legacy"] <= exact["Fa"]
    assert math.isclose(exact["F1"], 2 * exact["IoU"] / (1 + exact["IoU"]), rel_tol=1e-14)
    assert exact["TP"] + exact["FP"] + exact["FN"] + exact["TN"] == exact["pixels"] == mask.numel()


def test_niou_is_the_mean_of_exact_fractions():
    logits, mask = batch(5, n=9)
    pred, gt = (logits > 0).numpy(), mask.numpy() > 0
    ious = [Fraction(int((p & g).sum()), int((p | g).sum())) for p, g in zip(pred, gt) if (p | g).any()]
    result = filled(logits, mask).compute()
    assert len(ious) == 8 and result["n_empty_images"] == 1
    assert abs(Fraction(result["nIoU_zero"]) - sum(ious) / 9) < Fraction(1, 10**15)
    assert abs(Fraction(result["nIoU_skip"]) - sum(ious) / 8) < Fraction(1, 10**15)
    assert result["nIoU"] == result["nIoU_zero"] != result["nIoU_skip"]
    assert filled(logits, mask, empty="skip").compute()["nIoU"] == result["nIoU_skip"]


@pytest.mark.parametrize("protocol", targets.PROTOCOLS)
def test_perfect_prediction(protocol):
    _, mask = batch(2)
    result = filled(mask * 6 - 3, mask, protocol=protocol).compute()
    assert result["IoU"] == result["nIoU_skip"] == result["F1"] == result["Pd"] == 1 and result["Fa"] == 0


def test_half_is_background_in_every_precision():
    mask = torch.ones(1, 2, 2)
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        above = torch.nextafter(torch.tensor(0.5, dtype=dtype), torch.tensor(1.0, dtype=dtype))
        assert filled(torch.full((1, 2, 2), 0.5, dtype=dtype), mask, input="scores").counts["TP"] == 0
        assert filled(above.expand(1, 2, 2), mask, input="scores").counts["TP"] == 4
        tiny = torch.full((1, 2, 2), 1e-7, dtype=dtype)  # its sigmoid rounds to 0.5 in 16 bit
        with pytest.warns(DataWarning, match="every logit lies in"):
            assert filled(tiny, mask).counts["TP"] == 4
        assert filled(0 * tiny, mask).counts["TP"] == 0


def test_threshold_is_compared_without_rounding():
    score = torch.full((1, 1, 1), 0.1, dtype=torch.float32)  # 0.10000000149, above 0.1
    mask = torch.ones(1, 1, 1)
    assert filled(score, mask, input="scores", threshold=0.1).counts["TP"] == 1
    assert not bool((score > 0.1).all())  # negative control: float32 comparison rounds 0.1 up
    assert filled(torch.tensor([[[-1.0]]]), mask, threshold=0.2).counts["TP"] == 1  # logit(0.2) = -1.386
    assert filled(torch.tensor([[[-1.5]]]), mask, threshold=0.2).counts["TP"] == 0
    assert filled(torch.tensor([[[-99.0]]]), mask, threshold=0).counts["TP"] == 1
    assert filled(torch.tensor([[[99.0]]]), mask, threshold=1).counts["TP"] == 0


def test_fixed_pixels_changes_the_denominator_of_fa_only():
    logits, mask = batch(3)
    true, fixed = filled(logits, mask).compute(), filled(logits, mask, fixed_pixels=256 * 256).compute()
    assert fixed["Fa"] == fixed["fa_pixels"] / (6 * 65536) and true["Fa"] == true["fa_pixels"] / mask.numel()
    assert fixed["Fa"] != true["Fa"] and fixed["Pd"] == true["Pd"] and fixed["IoU"] == true["IoU"]


def test_maxnorm():
    score, mask = np.zeros((3, 8, 8)), np.zeros((3, 8, 8))
    score[0, 2, 2], score[0, 6, 6], mask[0, 2, 2] = 0.2, 0.1, 1
    score[1, 5, 5] = 0.01  # no target here
    plain = filled(score, mask, input="scores", protocol="overlap").compute()
    norm = filled(score, mask, input="scores", protocol="overlap", maxnorm=True).compute()
    assert (plain["n_hit"], plain["background_pixels"]) == (0, 191)
    assert (norm["n_hit"], norm["fa_pixels"], norm["background_pixels"]) == (1, 0, 63)  # 0.1 / 0.2 is background
    assert norm["FP"] == 1 and "overlap_maxnorm_Pd" in norm
    exact = filled(score, mask, input="scores", maxnorm=True).compute()
    assert (exact["n_hit"], exact["fa_pixels"], exact["pixels"]) == (1, 1, 192)
    assert filled(score * 500, mask, input="scores", maxnorm=True).counts == filled(score, mask, input="scores", maxnorm=True).counts


def test_reset_and_new_objects_start_from_nothing():
    metric = filled(*batch(1))
    assert metric.counts["n_gt"] > 0
    metric.reset()
    assert set(metric.counts.values()) == {0}
    empty = metric.compute()
    assert math.isnan(empty["IoU"]) and math.isnan(empty["nIoU"]) and math.isnan(empty["Pd"]) and math.isnan(empty["Fa"])


def test_state_goes_through_json():
    metric = filled(*batch(1), protocol="legacy", fixed_pixels=99)
    other = IRSTDMetrics("legacy", fixed_pixels=99)
    other.load_state_dict(json.loads(json.dumps(metric.state_dict())))
    assert other.counts == metric.counts and equal(other.compute(), metric.compute())


def test_counts_pass_32_bits():
    metric = IRSTDMetrics()
    metric.load_counts(torch.full((len(COUNTS),), 2**40))
    metric.merge(metric)
    assert metric.counts["TP"] == 2**41 and metric.compute()["IoU"] == pytest.approx(1 / 3, rel=1e-15)


MASK = np.zeros((2, 9, 11), bool)
MASK[0, 3, 4:6] = MASK[1, 7, 7] = True


@pytest.mark.parametrize("mask", [
    MASK, MASK[:, None], MASK.astype(np.uint8), MASK.astype(np.uint8) * 255, MASK * np.uint8(128) + np.uint8(127), MASK.astype(np.uint16) * 65535,
    MASK.astype(np.int64), MASK.astype(np.int32) * 255, MASK.astype(np.float16), MASK * 0.51, np.asfortranarray(MASK),
    MASK[::-1].copy()[::-1], torch.from_numpy(MASK), torch.from_numpy(MASK).bfloat16()[:, None]])
def test_masks_of_any_scale_and_layout(mask):
    metric = filled(MASK * 2.0 - 1, mask)
    assert metric.counts["TP"] == 3 and metric.counts["FP"] == metric.counts["FN"] == 0 and metric.counts["n_gt"] == 2


@pytest.mark.parametrize("prediction", [MASK, MASK.astype(np.uint8), MASK.astype(np.int64), MASK * np.float16(3), torch.from_numpy(MASK)])
def test_masks_serve_as_predictions(prediction):
    assert filled(prediction, MASK).counts["TP"] == 3


def test_mask_rule_is_half_of_full_scale():
    grey = np.array([[[0, 1, 127, 128, 254, 255]]], np.uint8)
    assert inputs.truth(torch.from_numpy(grey)).int().tolist() == [[[0, 0, 0, 1, 1, 1]]]
    deep = np.array([[[0, 300, 32767, 32768, 65535]]], np.uint16)
    assert inputs.truth(torch.from_numpy(deep)).int().tolist() == [[[0, 0, 0, 1, 1]]]
    mixed = np.array([[[0, 1]], [[1, 255]]], np.uint8)  # each image by its own scale, whatever else is in the batch
    assert inputs.truth(torch.from_numpy(mixed)).int().tolist() == [[[0, 1]], [[0, 1]]]
    assert inputs.truth(torch.tensor([[[0.5, 0.51]]])).int().tolist() == [[[0, 1]]]


def test_one_image_equals_a_batch_of_one_and_empty_batches_add_nothing():
    logits, mask = batch(4)
    assert filled(logits[1, 0], mask[1, 0]).counts == filled(logits[1:2], mask[1:2]).counts == filled(logits[1:2, 0], mask[1:2]).counts
    assert set(filled(logits[:0], mask[:0]).counts.values()) == {0}
    flat = filled(torch.zeros(2, 0, 5), torch.zeros(2, 0, 5), input="scores", maxnorm=True)
    assert flat.counts["n_images"] == 2 and flat.counts["pixels"] == 0
    assert filled(torch.zeros(2, 0, 5), torch.zeros(2, 0, 5).byte()).counts["n_images"] == 2


def test_inputs_are_not_modified():
    logits, mask = batch(6)
    copies = logits.clone(), mask.clone()
    filled(logits.requires_grad_(), mask, protocol="shooting")
    assert torch.equal(logits, copies[0]) and torch.equal(mask, copies[1])


Z, M = torch.zeros(1, 1, 4, 4), IRSTDMetrics
SCORES = {"input": "scores"}
BAD = [
    (lambda: M("exakt"), "IRSTDMetrics: protocol must be one of exact, legacy, overlap, shooting, got 'exakt'"),
    (lambda: M(input="prob"), "IRSTDMetrics: input must be one of logits, scores, got 'prob'"),
    (lambda: M(empty="one"), "IRSTDMetrics: empty must be one of zero, skip, got 'one'"),
    (lambda: M(threshold=math.nan), "IRSTDMetrics: threshold must lie in [0, 1], got nan"),
    (lambda: M(gt_rule="any"), "IRSTDMetrics: gt_rule must be one of half, full, nonzero, got 'any'"),
    (lambda: M(fixed_pixels=0), "IRSTDMetrics: fixed_pixels must be an integer >= 1, got 0"),
    (lambda: M(fixed_pixels=2.5), "IRSTDMetrics: fixed_pixels must be an integer >= 1, got 2.5"),
    (lambda: M("overlap", fixed_pixels=9), "IRSTDMetrics: fixed_pixels must not be used with overlap, got 9"),
    (lambda: M(maxnorm=True), 'IRSTDMetrics: maxnorm must be used with input="scores", got input="logits"'),
    (lambda: filled(torch.zeros(4), Z), "IRSTDMetrics: prediction must be [H, W], [B, H, W] or [B, 1, H, W], got (4,)"),
    (lambda: filled(torch.zeros(1, 2, 4, 4), Z), "IRSTDMetrics: prediction must be [H, W], [B, H, W] or [B, 1, H, W], got (1, 2, 4, 4)"),
    (lambda: filled(Z, torch.zeros(1, 3, 4, 4)), "IRSTDMetrics: mask must be [H, W], [B, H, W] or [B, 1, H, W], got (1, 3, 4, 4)"),
    (lambda: filled(Z, torch.zeros(1, 1, 4, 5)), "IRSTDMetrics: prediction and mask must have one shape, got (1, 4, 4) and (1, 4, 5)"),
    (lambda: filled(Z * math.nan, Z), "IRSTDMetrics: logits must be finite, got nan"),
    (lambda: filled(Z - math.inf, Z), "IRSTDMetrics: logits must be finite, got -inf"),
    (lambda: filled(Z * math.nan, Z, **SCORES), "IRSTDMetrics: scores must be finite, got nan"),
    (lambda: filled(Z + 3, Z, **SCORES), 'IRSTDMetrics: scores must lie in [0, 1], got 3 .. 3 (input="logits" takes logits)'),
    (lambda: filled(Z - 1, Z, maxnorm=True, **SCORES), 'IRSTDMetrics: scores must lie in [0, inf), got -1 .. -1 (input="logits" takes logits)'),
    (lambda: filled(Z.to(torch.complex64), Z), "IRSTDMetrics: logits must be real, got torch.complex64"),
    (lambda: filled(Z, Z + 255), "IRSTDMetrics: mask must lie in [0, 1] where it is float, got 255"),
    (lambda: filled(Z, Z * math.nan), "IRSTDMetrics: mask must lie in [0, 1] where it is float, got nan"),
    (lambda: filled(Z, (Z - 1).int()), "IRSTDMetrics: mask must lie in 0 .. 65535 where it is integer, got -1 .. -1"),
    (lambda: filled(Z, (Z + 70000).int()), "IRSTDMetrics: mask must lie in 0 .. 65535 where it is integer, got 70000 .. 70000"),
    (lambda: filled(Z, Z.to(torch.complex64)), "IRSTDMetrics: mask must be real, got torch.complex64"),
    (lambda: M().load_counts(torch.zeros(3)), f"IRSTDMetrics.load_counts: counts must be integers of shape ({len(COUNTS)},), got float32 (3,)"),
]


@pytest.mark.parametrize("call, message", BAD, ids=[m[14:70] for _, m in BAD])
def test_invalid_inputs_give_one_line(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert str(error.value) == message


def test_a_refused_batch_leaves_the_counts():
    metric = filled(*batch(1))
    before = metric.counts
    with pytest.raises(ValueError, match="must be finite"):
        metric.update(torch.tensor([[[1.0, math.nan]]]), torch.zeros(1, 1, 2))
    assert metric.counts == before


def test_different_options_do_not_merge_or_load():
    for other in (M("legacy"), M(threshold=0.4), M(empty="skip"), M(fixed_pixels=1)):
        with pytest.raises(ValueError, match=r"IRSTDMetrics.merge: options must be equal"):
            M().merge(other)
        with pytest.raises(ValueError, match="must hold every count and the options"):
            M().load_state_dict(other.state_dict())
    with pytest.raises(ValueError, match="must hold every count"):
        M().load_state_dict({"options": M().options, "counts": {"TP": 1}})


def test_docstring_examples():
    result = doctest.testmod(accumulator)
    assert result.failed == 0 and result.attempted >= 5


def test_import_is_light():
    code = "import sys, python_models.metrics; print([m for m in ('torchmetrics', 'pytorch_lightning', 'scipy', 'matplotlib') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, "PYTHONWARNINGS": "error"})
    assert run.stdout.strip() == "[]" and run.stderr == ""


DATA = os.environ.get("IRSTD_DATA")


@pytest.mark.skipif(not DATA, reason="IRSTD_DATA is not set")
@pytest.mark.parametrize("folder, split, suffix, count", [
    ("NUAA-SIRST", "idx_427/test", "_pixels0", 109), ("NUAA-SIRST", "50_50/test", "_pixels0", 263), ("NUDT-SIRST", "50_50/test", "", 945)])
def test_real_targets_are_counted_as_published(folder, split, suffix, count):
    from PIL import Image
    root = Path(DATA) / folder
    metric = IRSTDMetrics()
    for name in (root / f"{split}.txt").read_text().split():
        with Image.open(root / "masks" / f"{name}{suffix}.png") as image:
            mask = np.array(image.convert("L"))
        metric.update(mask > 127, mask)
    assert metric.counts["n_gt"] == metric.counts["n_hit"] == count and metric.compute()["IoU"] == 1
