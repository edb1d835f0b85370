"""Soft-IoU loss against its vectors, and at its edges."""
from pathlib import Path

import numpy as np
import pytest
import torch

from python_models.losses import SoftIoULoss

VARIANTS = {"batch_s1": SoftIoULoss(), "batch_s0": SoftIoULoss(smooth=0), "img_s1": SoftIoULoss(per_image=True)}


@pytest.fixture(scope="module")
def case():
    with np.load(Path(__file__).parents[1] / "vectors" / "soft_iou" / "soft_iou_small.npz", allow_pickle=False) as data:
        return {key: torch.from_numpy(data[key]) for key in data}


def _error(got, expected):
    return ((got.double() - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("dtype, tolerance, grad_tolerance", [(torch.float32, 2e-6, 1e-5), (torch.float64, 1e-12, 1e-11)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_vectors(case, variant, dtype, tolerance, grad_tolerance):
    logit = case["logit"].to(dtype, copy=True).requires_grad_()
    loss = VARIANTS[variant]({"logits": logit}, case["y"].to(dtype))
    loss.backward()
    assert loss.dtype == dtype and loss.shape == ()
    assert _error(loss.detach(), case[f"loss_{variant}"]) <= tolerance
    assert _error(logit.grad, case[f"d_{variant}"]) <= grad_tolerance
    for other in VARIANTS.keys() - {variant}:  # the tolerances tell the variants apart
        assert _error(loss.detach(), case[f"loss_{other}"]) > tolerance
        assert _error(logit.grad, case[f"d_{other}"]) > grad_tolerance


def test_per_image_differs_from_batch():
    logit, y = torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 4)
    y[0, 0, :2] = 1
    assert abs(SoftIoULoss()(logit, y) - (1 - 5 / 21)) < 1e-6
    assert abs(SoftIoULoss(per_image=True)(logit, y) - (1 - (5 / 13 + 1 / 9) / 2)) < 1e-6


def test_no_target_in_the_batch():
    logit = torch.randn(3, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    loss = SoftIoULoss()(logit, torch.zeros(3, 8, 8))
    loss.backward()
    assert abs(loss.item() - (1 - 1 / (1 + logit.detach().sigmoid().sum().item()))) < 1e-12
    assert torch.isfinite(logit.grad).all() and logit.grad.abs().sum() > 0


@pytest.mark.parametrize("per_image", [False, True])
def test_no_smoothing_and_nothing_predicted_is_finite(per_image):
    logit = torch.full((2, 1, 4, 4), -200.0, requires_grad=True)
    loss = SoftIoULoss(smooth=0, per_image=per_image)(logit, torch.zeros(2, 1, 4, 4))
    loss.backward()
    assert loss.item() == 1 and not logit.grad.any()


@pytest.mark.parametrize("per_image", [False, True])
def test_empty_batch_is_zero(per_image):
    assert SoftIoULoss(per_image=per_image)(torch.zeros(0, 1, 4, 4), torch.zeros(0, 1, 4, 4)).item() == 0


@pytest.mark.parametrize("mask", [torch.ones(2, 1, 3, 4), torch.ones(2, 3, 4), torch.ones(2, 3, 4, dtype=torch.bool), torch.ones(2, 3, 4, dtype=torch.uint8)])
def test_target_forms(mask):
    logit = torch.linspace(-1, 1, 24).view(2, 1, 3, 4)
    expected = SoftIoULoss()(logit, torch.ones(2, 1, 3, 4))
    assert torch.equal(SoftIoULoss()({"logits": logit}, {"mask": mask}), expected)
    assert torch.equal(SoftIoULoss()(logit, mask), expected)


def test_half_logits_compute_in_float32():
    logit, y = torch.randn(2, 1, 64, 64), (torch.rand(2, 1, 64, 64) > 0.99)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = SoftIoULoss()(logit.bfloat16(), y)
    assert loss.dtype == torch.float32 and torch.equal(loss, SoftIoULoss()(logit.bfloat16().float(), y))


@pytest.mark.parametrize("logits, mask, message", [
    (torch.zeros(2, 3, 4, 4), torch.zeros(2, 1, 4, 4), r"logits must be \(B, 1, H, W\), got \(2, 3, 4, 4\)"),
    (torch.zeros(2, 4, 4), torch.zeros(2, 4, 4), r"logits must be \(B, 1, H, W\), got \(2, 4, 4\)"),
    (torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 5), r"mask must be \(2, 1, 4, 4\) or without the channel, got \(2, 1, 4, 5\)"),
    (torch.zeros(2, 1, 4, 4), torch.zeros(4, 4), r"mask must be \(2, 1, 4, 4\) or without the channel, got \(4, 4\)"),
])
def test_wrong_shapes(logits, mask, message):
    with pytest.raises(ValueError, match=f"^SoftIoULoss: {message}$"):
        SoftIoULoss()(logits, mask)


def test_negative_smooth():
    with pytest.raises(ValueError, match="^SoftIoULoss: smooth must be >= 0, got -1$"):
        SoftIoULoss(smooth=-1)
