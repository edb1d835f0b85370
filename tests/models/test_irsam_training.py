"""IRSAM learns to segment synthetic targets; what learns when, and what never does."""
import torch

from python_models import build_model
from python_models.losses import DiceEdgeLoss


def _batch(generator, size, count, sigma=1.6):
    """Noise, one Gaussian target each; its mask is where it exceeds half its peak."""
    grid = torch.arange(size, dtype=torch.float32)
    image = 0.3 * torch.randn(count, 1, size, size, generator=generator)
    rows, columns = ((grid - centre[:, None]).square() for centre in torch.rand(2, count, generator=generator) * (size - 8) + 4)
    target = torch.exp(-(rows[:, :, None] + columns[:, None, :]) / (2 * sigma**2))[:, None]
    return image + 2 * target, (target > 0.5).float()


def _iou(net, images, masks):
    net.eval()
    with torch.no_grad():
        found, wanted = net(images)["logits"] > 0, masks > 0.5
    net.train()
    return ((found & wanted).sum() / (found | wanted).sum().clamp(min=1)).item()


def test_learns_synthetic_targets():
    torch.manual_seed(0)
    net = build_model("irsam", "tiny", depths=[1, 1, 1, 1], wpmd_blocks=1, steps=1)
    images, masks = _batch(torch.Generator().manual_seed(1), 48, 16)
    before, generator = _iou(net, images, masks), torch.Generator().manual_seed(0)
    criterion, optimiser = net.criterion(), torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.0)
    losses = []
    for _ in range(50):
        loss = criterion(net((batch := _batch(generator, 48, 4))[0]), batch[1])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert before < 0.05 and sum(losses[-10:]) < 0.4 * sum(losses[:10])
    assert _iou(net, images, masks) > 0.15


def test_the_diffusion_learns_after_its_convolution():
    torch.manual_seed(0)
    net = build_model("irsam", "tiny").train()
    (images, masks), criterion = _batch(torch.Generator().manual_seed(0), 32, 2), net.criterion()
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.0)
    start = [w.kappa.detach().clone() for w in net.image_encoder.wpmd]
    for step in range(2):
        optimiser.zero_grad()
        criterion(net(images), masks).backward()
        assert all((w.kappa.grad.abs().max() > 0) == (step > 0) and w.proj.weight.grad.abs().max() > 0 for w in net.image_encoder.wpmd)
        optimiser.step()
        assert all(torch.equal(w.kappa, k) == (step == 0) for w, k in zip(net.image_encoder.wpmd, start))


def test_what_takes_part_learns_and_the_rest_is_frozen():
    torch.manual_seed(0)
    for options, dead in (({}, 0), ({"shallow": False}, 6), ({"edge": False}, 25)):
        net = build_model("irsam", "tiny", "reference", **options)
        net(torch.randn(2, 3, 32, 32))["logits"].square().sum().backward()
        assert all((p.grad is not None) == p.requires_grad for p in net.parameters())
        frozen = {name for name, p in net.named_parameters() if not p.requires_grad}
        always = 4 + 15 + 18 + 6 + 3  # classifier, prompts, masks 1 to 3, mask quality, three biases that softmax drops
        assert len(frozen) == always + dead and all(f"mask_decoder.output_hypernetworks_mlps.{i}.layers.0.weight" in frozen for i in (1, 2, 3))


def test_the_mask_term_trains_the_edge_branch():
    net = build_model("irsam", "tiny")
    images, masks = _batch(torch.Generator().manual_seed(0), 32, 2)
    DiceEdgeLoss(edge_weight=0.0)(net(images), masks).backward()
    assert all(p.grad.abs().max() > 0 for p in net.mask_decoder.edge_mlp.parameters())


def test_options_reach_the_loss():
    net = build_model("irsam", "tiny", "reference", mask_loss="iou", edge_weight=5.0, edge_target="inner")
    criterion = net.criterion()
    assert (criterion.mask, criterion.edge_weight, criterion.edge) == ("iou", 5.0, "inner")
    assert build_model("irsam", "tiny", "reference").criterion().edge_weight == 10.0
    assert build_model("irsam", "tiny", "reference", edge=False).criterion().edge_weight == 0.0
