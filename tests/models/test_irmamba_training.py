"""IRMamba learns to segment synthetic targets, its differences take part, and both backends train alike."""
import pytest
import torch

from models.synthetic import batch, iou, steps
from python_models import build_model

SLIM = {"widths": [4, 4, 6, 8, 8], "d_state": 2, "lrm_stages": [1, 1, 1, 1]}


def test_learns_synthetic_targets():
    torch.manual_seed(0)
    net = build_model("irmamba", "tiny").to(memory_format=torch.channels_last)
    images, masks = batch(torch.Generator().manual_seed(1), 64, 16)
    assert iou(net, images, masks) < 0.1
    losses = list(steps(net, 64, 4, 60, 3e-3))
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])
    assert iou(net, images, masks) > 0.25
    weights = torch.cat([p.detach().flatten() for k, p in net.named_parameters() if k.endswith(".W")])
    assert weights.abs().mean() > 1e-3


@pytest.mark.parametrize("options", [{}, {"pdmamba": False, "lrm": False}], ids=["full", "neither"])
def test_backends_train_alike(options):
    """Ten steps in float64: the losses of the two backends stay within a band that other images leave at once."""
    losses = []
    for backend, seed in (("ext", 0), ("reference", 0), ("reference", 1)):
        torch.manual_seed(0)
        net = build_model("irmamba", backend=backend, **{**SLIM, **options}).double()
        losses.append(torch.tensor(list(steps(net, 16, 3, 10, seed=seed))))
    band = 1e-7
    assert (losses[0] - losses[1]).abs().max() < band
    assert (losses[2] - losses[1]).abs().min() > band
