"""Cross-entropy plus soft IoU: the formula, its gradient, its edges."""
import pytest
import torch

from python_models.losses.bce_soft_iou import BCESoftIoULoss


def _plain(z, y):
    p = torch.sigmoid(z)
    cross_entropy = -(y * p.log() + (1 - y) * (1 - p).log()).mean()
    ratios = [(1 + (a * b).sum()) / (1 + a.sum() + b.sum() - (a * b).sum()) for a, b in zip(p, y)]
    return cross_entropy + 1 - sum(ratios) / len(ratios)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 2e-6), (torch.float64, 1e-12)])
def test_formula_and_gradient(dtype, tolerance):
    torch.manual_seed(0)
    z = torch.randn(3, 1, 9, 7, dtype=dtype)
    y = (torch.rand(3, 1, 9, 7) > 0.9).to(dtype)
    leaf, twin = z.clone().requires_grad_(), z.double().requires_grad_()
    got, expected = BCESoftIoULoss()({"logits": leaf}, {"mask": y}), _plain(twin, y.double())
    got.backward(), expected.backward()
    assert got.dtype == dtype and got.shape == ()
    assert abs(got.item() - expected.item()) < tolerance
    assert (leaf.grad.double() - twin.grad).abs().max() < tolerance * twin.grad.abs().max()
    assert abs(BCESoftIoULoss(per_image=False)(z, y).item() - expected.item()) > 1e-4
    assert abs(BCESoftIoULoss(smooth=0.0)(z, y).item() - expected.item()) > 1e-4


def test_large_logits_stay_finite():
    z = torch.tensor([-200.0, 200.0]).repeat(2, 1, 4, 2).requires_grad_()
    loss = BCESoftIoULoss()(z, torch.ones(2, 4, 4))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(z.grad).all() and loss > 99


def test_no_target_has_a_gradient_everywhere():
    z = torch.zeros(1, 1, 8, 8, requires_grad=True)
    BCESoftIoULoss()(z, torch.zeros(1, 8, 8)).backward()
    assert (z.grad > 0).all()


def test_empty_batch_is_zero():
    assert BCESoftIoULoss()(torch.zeros(0, 1, 4, 4), torch.zeros(0, 1, 4, 4)).item() == 0


def test_half_logits_compute_in_float32():
    z, y = torch.randn(2, 1, 16, 16), torch.rand(2, 1, 16, 16) > 0.9
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = BCESoftIoULoss()(z.bfloat16(), y)
    assert loss.dtype == torch.float32 and torch.equal(loss, BCESoftIoULoss()(z.bfloat16().float(), y))


def test_wrong_arguments():
    with pytest.raises(ValueError, match=r"^BCESoftIoULoss: mask must be \(2, 1, 4, 4\) or without the channel, got \(4, 4\)$"):
        BCESoftIoULoss()(torch.zeros(2, 1, 4, 4), torch.zeros(4, 4))
    with pytest.raises(ValueError, match="smooth must be >= 0, got -1"):
        BCESoftIoULoss(smooth=-1)
