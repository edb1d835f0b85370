"""Dice plus the cross-entropy of the edge: the formula, its misprints, its edge targets."""
import pytest
import torch

from python_models.losses import DiceEdgeLoss
from python_models.losses.dice_edge import edge_of


def _case(dtype=torch.float64):
    torch.manual_seed(0)
    logits, edge = torch.randn(3, 1, 9, 7, dtype=dtype), torch.rand(3, 1, 9, 7, dtype=dtype)
    return logits, edge, (torch.rand(3, 1, 9, 7) > 0.8).to(dtype)


def _plain(z, P, y, e, kind="dice", weight=10.0):
    p = 1 / (1 + (-z).exp())
    S, T, both = p.sum(), y.sum(), (p * y).sum()
    mask = 1 - (2 * both + 1e-6) / (S + T + 1e-6) if kind == "dice" else 1 - (both + 1e-6) / (S + T - both + 1e-6)
    return mask + weight * -(e * P.log() + (1 - e) * (1 - P).log()).mean()


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 2e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("kind", ["dice", "iou"])
def test_formula_and_gradients(kind, dtype, tolerance):
    z, P, y = _case(dtype)
    leaves, twins = [t.clone().requires_grad_() for t in (z, P)], [t.double().requires_grad_() for t in (z, P)]
    e = edge_of(y.double())
    got, expected = DiceEdgeLoss(mask=kind)({"logits": leaves[0], "edge": leaves[1]}, {"mask": y}), _plain(*twins, y.double(), e, kind)
    got.backward(), expected.backward()
    assert got.dtype == dtype and got.shape == () and abs(got.item() - expected.item()) < 10 * tolerance
    for leaf, twin in zip(leaves, twins):
        assert (leaf.grad.double() - twin.grad).abs().max() < 5 * tolerance * twin.grad.abs().max()
    other = _plain(z.double(), P.double(), y.double(), e, "iou" if kind == "dice" else "dice")
    literal = _plain(z.double(), P.double(), y.double(), e, kind) + 10 * ((y.double() - e) * (1 - P.double()).log()).mean()  # the paper's (1 - mask)
    batch = sum(_plain(*(t[i:i + 1].double() for t in (z, P, y, e)), kind) for i in range(3)) / 3
    for wrong in (other, literal, batch):
        assert abs(wrong.item() - expected.item()) > 1e-4


def test_nothing_wanted_and_nothing_found_is_0():
    out = {"logits": torch.full((2, 1, 8, 8), -60.0), "edge": torch.zeros(2, 1, 8, 8)}
    for kind in ("dice", "iou"):
        assert DiceEdgeLoss(mask=kind)(out, torch.zeros(2, 8, 8)).abs() < 1e-4


def test_certain_and_wrong_stays_finite():
    """Logarithms end at -100; interpolation's rounding beyond 1 is taken for 1."""
    z = torch.zeros(1, 1, 4, 4)
    edge = torch.tensor([0.0, 1.0, 1.0 + 1e-7, 0.5]).repeat(1, 1, 4, 1).requires_grad_()
    loss = DiceEdgeLoss()({"logits": z, "edge": edge}, {"mask": torch.zeros(1, 4, 4), "edge": torch.tensor([1.0, 0.0, 0.0, 0.5]).repeat(1, 4, 1)})
    loss.backward()
    assert 750 < loss.item() < 760 and torch.isfinite(edge.grad).all()


def test_computes_in_float32_under_autocast():
    z, P, y = _case(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = DiceEdgeLoss()({"logits": z.bfloat16(), "edge": P.bfloat16()}, y)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, DiceEdgeLoss()({"logits": z.bfloat16().float(), "edge": P.bfloat16().float()}, y))


def test_a_given_edge_is_used():
    z, P, y = _case()
    e = torch.rand(3, 9, 7, dtype=torch.float64)
    got = DiceEdgeLoss()({"logits": z, "edge": P}, {"mask": y, "edge": e})
    assert abs(got.item() - _plain(z, P, y, e[:, None]).item()) < 1e-11
    assert DiceEdgeLoss()({"logits": z, "edge": P}, {"mask": y}) != got


@pytest.mark.parametrize("shape, morph, inner", [((1, 1), 5, 1), ((1, 2), 8, 2), ((2, 2), 12, 4), ((3, 3), 20, 8), ((5, 5), 36, 16)])
def test_counts_of_the_edge(shape, morph, inner):
    mask = torch.zeros(1, 1, 12, 13)
    mask[..., 4:4 + shape[0], 5:5 + shape[1]] = 1
    assert (edge_of(mask).sum(), edge_of(mask, "inner").sum()) == (morph, inner)
    assert torch.equal(edge_of(mask.flip(2, 3)), edge_of(mask).flip(2, 3)) and torch.equal(edge_of(mask.mT), edge_of(mask).mT)
    assert torch.equal(edge_of(mask, "inner"), edge_of(mask) * mask) and torch.equal(edge_of(0.6 * mask), edge_of(mask))


def test_the_frame_is_no_edge():
    mask = torch.zeros(2, 1, 6, 6)
    mask[0, 0, 2:, 3:] = 1
    assert not edge_of(torch.ones(1, 1, 6, 6)).any() and not edge_of(torch.zeros(1, 1, 6, 6)).any()
    edge = edge_of(mask)[0, 0]
    assert edge[1:3, 3:].all() and edge[2:, 2:4].all() and not edge[3:, 4:].any() and not edge_of(mask)[1].any()


@pytest.mark.parametrize("options, message", [
    ({"edge_weight": -1}, "edge_weight must be a finite number >= 0, got -1"),
    ({"edge_weight": float("nan")}, "edge_weight must be a finite number >= 0, got nan"),
    ({"mask": "jaccard"}, "mask must be one of 'dice', 'iou', got 'jaccard'"),
    ({"edge": "canny"}, "edge must be one of 'morph', 'inner', got 'canny'"),
    ({"eps": 0.0}, "eps must be > 0, got 0.0"),
])
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=f"^DiceEdgeLoss: {message}$"):
        DiceEdgeLoss(**options)


def test_wrong_arguments():
    z, P, y = _case()
    with pytest.raises(ValueError, match=r'^DiceEdgeLoss: out must hold "edge" where edge_weight is not 0, got none$'):
        DiceEdgeLoss()({"logits": z}, y)
    with pytest.raises(ValueError, match=r"^DiceEdgeLoss: edge must be \(3, 1, 9, 7\), got \(3, 1, 9, 6\)$"):
        DiceEdgeLoss()({"logits": z, "edge": P[..., :6]}, y)
    with pytest.raises(ValueError, match=r'^DiceEdgeLoss: target\["edge"\] must be \(3, 1, 9, 7\), got \(3, 1, 9, 6\)$'):
        DiceEdgeLoss()({"logits": z, "edge": P}, {"mask": y, "edge": y[..., :6]})
    assert DiceEdgeLoss(edge_weight=0)(z, y) < 1
