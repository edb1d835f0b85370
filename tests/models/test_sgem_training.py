"""Both variants of SGEM U-Net learn to segment synthetic targets, on both backends alike."""
import pytest
import torch

from models.synthetic import batch, iou, steps
from python_models import build_model


@pytest.mark.parametrize("options", [{"input_size": 64}, {"attention": "linear"}], ids=["bilinear", "linear"])
def test_learns_synthetic_targets(options):
    torch.manual_seed(0)
    net = build_model("sgem_unet", widths=[8, 16, 32, 64, 128], **options).to(memory_format=torch.channels_last)
    images, masks = batch(torch.Generator().manual_seed(1), 64, 32, targets=2)
    assert iou(net, images, masks) < 0.1
    for _ in steps(net, 64, 8, 60, targets=2):
        pass
    assert iou(net, images, masks) > 0.25
    assert net.sgem.gamma.item() != 0


@pytest.mark.parametrize("options", [{"input_size": 32}, {"attention": "linear"}], ids=["bilinear", "linear"])
def test_backends_train_alike(options):
    """50 steps in float64: the losses of the two backends stay within a band that other images leave at once."""
    losses = []
    for backend, seed in (("ext", 0), ("reference", 0), ("reference", 1)):
        torch.manual_seed(0)
        net = build_model("sgem_unet", backend=backend, widths=[4, 4, 8, 8, 8], **options).double()
        losses.append(torch.tensor(list(steps(net, 32, 4, 50, seed=seed, targets=2))))
    band = 1e-6
    assert (losses[0] - losses[1]).abs().max() < band
    assert (losses[2] - losses[1]).abs().min() > band
