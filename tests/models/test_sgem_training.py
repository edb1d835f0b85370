"""Both variants of SGEM U-Net learn to segment synthetic targets, on both backends alike."""
import pytest
import torch

from python_models import build_model


def _batch(generator, size, count, targets=2, sigma=1.4):
    """Noise with Gaussian targets; their masks at half the peak. The background varies slowly, as clutter does."""
    grid = torch.arange(size, dtype=torch.float32)
    coarse = torch.randn(count, 1, size // 16, size // 16, generator=generator)
    image = 0.5 * torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear") + 0.3 * torch.randn(count, 1, size, size, generator=generator)
    mask = torch.zeros(count, 1, size, size)
    for centre in torch.rand(targets, count, 2, generator=generator) * (size - 8) + 4:
        rows, columns = ((grid - centre[:, i, None]).square() for i in (0, 1))
        blob = torch.exp(-(rows[:, :, None] + columns[:, None, :]) / (2 * sigma**2))[:, None]
        image += 2 * blob
        mask = torch.maximum(mask, (blob > 0.5).float())
    return image, mask


def _iou(net, images, masks):
    net.eval()
    with torch.no_grad():
        found, wanted = net(images)["logits"] > 0, masks > 0.5
    net.train()
    return ((found & wanted).sum() / (found | wanted).sum().clamp(min=1)).item()


def _steps(net, size, count, steps, seed=0):
    generator = torch.Generator().manual_seed(seed)
    criterion, optimiser = net.criterion(), torch.optim.AdamW(net.parameters(), lr=1e-3)
    for _ in range(steps):
        images, masks = _batch(generator, size, count)
        loss = criterion(net(images.to(net.head.weight.dtype)), masks)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        yield loss.item()


@pytest.mark.parametrize("options", [{"input_size": 64}, {"attention": "linear"}], ids=["bilinear", "linear"])
def test_learns_synthetic_targets(options):
    torch.manual_seed(0)
    net = build_model("sgem_unet", widths=[8, 16, 32, 64, 128], **options).to(memory_format=torch.channels_last)
    images, masks = _batch(torch.Generator().manual_seed(1), 64, 32)
    assert _iou(net, images, masks) < 0.1
    for _ in _steps(net, 64, 8, 60):
        pass
    assert _iou(net, images, masks) > 0.25
    assert net.sgem.gamma.item() != 0


@pytest.mark.parametrize("options", [{"input_size": 32}, {"attention": "linear"}], ids=["bilinear", "linear"])
def test_backends_train_alike(options):
    """50 steps in float64: the losses of the two backends stay within a band that other images leave at once."""
    losses = []
    for backend, seed in (("ext", 0), ("reference", 0), ("reference", 1)):
        torch.manual_seed(0)
        net = build_model("sgem_unet", backend=backend, widths=[4, 4, 8, 8, 8], **options).double()
        losses.append(torch.tensor(list(_steps(net, 32, 4, 50, seed))))
    band = 1e-6
    assert (losses[0] - losses[1]).abs().max() < band
    assert (losses[2] - losses[1]).abs().min() > band
