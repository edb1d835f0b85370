"""IRMamba learns to segment synthetic targets, its differences take part, and both backends train alike."""
import pytest
import torch
from torch.nn.functional import interpolate

from python_models import build_model

SLIM = {"widths": [4, 4, 6, 8, 8], "d_state": 2, "lrm_stages": [1, 1, 1, 1]}


def _batch(generator, size, count, sigma=1.4):
    """Noise on a slowly varying background, one Gaussian target each; its mask is where it exceeds half its peak."""
    grid = torch.arange(size, dtype=torch.float32)
    coarse = torch.randn(count, 1, size // 16, size // 16, generator=generator)
    image = 0.5 * interpolate(coarse, size=(size, size), mode="bilinear") + 0.3 * torch.randn(count, 1, size, size, generator=generator)
    rows, columns = ((grid - centre[:, None]).square() for centre in torch.rand(2, count, generator=generator) * (size - 8) + 4)
    target = torch.exp(-(rows[:, :, None] + columns[:, None, :]) / (2 * sigma**2))[:, None]
    return image + 2 * target, (target > 0.5).float()


def _iou(net, images, masks):
    net.eval()
    with torch.no_grad():
        found, wanted = net(images)["logits"] > 0, masks > 0.5
    net.train()
    return ((found & wanted).sum() / (found | wanted).sum().clamp(min=1)).item()


def _steps(net, size, count, steps, lr, seed=0):
    generator = torch.Generator().manual_seed(seed)
    criterion, optimiser = net.criterion(), torch.optim.Adam(net.parameters(), lr=lr)
    for _ in range(steps):
        images, masks = _batch(generator, size, count)
        loss = criterion(net(images.to(net.head.weight.dtype)), masks)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        yield loss.item()


def test_learns_synthetic_targets():
    torch.manual_seed(0)
    net = build_model("irmamba", "tiny").to(memory_format=torch.channels_last)
    images, masks = _batch(torch.Generator().manual_seed(1), 64, 16)
    assert _iou(net, images, masks) < 0.1
    losses = list(_steps(net, 64, 4, 60, 3e-3))
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])
    assert _iou(net, images, masks) > 0.25
    weights = torch.cat([p.detach().flatten() for k, p in net.named_parameters() if k.endswith(".W")])
    assert weights.abs().mean() > 1e-3


@pytest.mark.parametrize("options", [{}, {"pdmamba": False, "lrm": False}], ids=["full", "neither"])
def test_backends_train_alike(options):
    """Ten steps in float64: the losses of the two backends stay within a band that other images leave at once."""
    losses = []
    for backend, seed in (("ext", 0), ("reference", 0), ("reference", 1)):
        torch.manual_seed(0)
        net = build_model("irmamba", backend=backend, **{**SLIM, **options}).double()
        losses.append(torch.tensor(list(_steps(net, 16, 3, 10, 1e-3, seed))))
    band = 1e-7
    assert (losses[0] - losses[1]).abs().max() < band
    assert (losses[2] - losses[1]).abs().min() > band
