"""Targets to learn from, and a few steps of training on them."""
import torch
from torch.nn.functional import interpolate


def batch(generator, size, count, targets=1, sigma=1.4):
    """Noise on a slowly varying background, as clutter does, with Gaussian targets; their masks at half the peak."""
    grid = torch.arange(size, dtype=torch.float32)
    coarse = torch.randn(count, 1, size // 16, size // 16, generator=generator)
    image = 0.5 * interpolate(coarse, size=(size, size), mode="bilinear") + 0.3 * torch.randn(count, 1, size, size, generator=generator)
    mask = torch.zeros(count, 1, size, size)
    for centre in torch.rand(targets, count, 2, generator=generator) * (size - 8) + 4:
        rows, columns = ((grid - centre[:, i, None]).square() for i in (0, 1))
        blob = torch.exp(-(rows[:, :, None] + columns[:, None, :]) / (2 * sigma**2))[:, None]
        image += 2 * blob
        mask = torch.maximum(mask, (blob > 0.5).float())
    return image, mask


def iou(net, images, masks):
    net.eval()
    with torch.no_grad():
        found, wanted = net(images)["logits"] > 0, masks > 0.5
    net.train()
    return ((found & wanted).sum() / (found | wanted).sum().clamp(min=1)).item()


def steps(net, size, count, steps, lr=1e-3, seed=0, targets=1):
    """The losses of so many steps of AdamW, each on new images."""
    generator, dtype = torch.Generator().manual_seed(seed), next(net.parameters()).dtype
    criterion, optimiser = net.criterion(), torch.optim.AdamW(net.parameters(), lr=lr)
    for _ in range(steps):
        images, masks = batch(generator, size, count, targets)
        loss = criterion(net(images.to(dtype)), masks)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        yield loss.item()
