"""IRSTDNet: input checks, channel adaption, normaliser, preprocess."""
import copy
import pickle

import numpy as np
import pytest
import torch

from python_models import build_model
from python_models.layers import Normaliser, pad_to_multiple


@pytest.fixture
def net(_seed):
    return build_model("sgem_unet", "tiny", "reference", attention="linear", widths=[4, 4, 8, 8, 8], in_channels=3).eval()


def test_one_channel_is_replicated(net):
    x = torch.randn(2, 1, 32, 32)
    assert torch.equal(net(x)["logits"], net(x.repeat(1, 3, 1, 1))["logits"])


def test_three_channels_are_averaged():
    net = build_model("sgem_unet", "tiny", "reference", attention="linear", widths=[4, 4, 8, 8, 8], in_channels=1).eval()
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(net(x)["logits"], net(x.mean(1, keepdim=True))["logits"])
    assert not torch.equal(net(x)["logits"], net(x[:, :1])["logits"])


@pytest.mark.parametrize("x, error, message", [
    (np.zeros((1, 1, 32, 32)), TypeError, "x must be a tensor, got ndarray"),
    (torch.zeros(1, 1, 32, 32, dtype=torch.uint8), TypeError, r"x must be floating point \(see preprocess\), got torch.uint8"),
    (torch.zeros(1, 32, 32), ValueError, r"x must be 4-D \(B, C, H, W\), got shape \(1, 32, 32\)"),
    (torch.zeros(1, 2, 32, 32), ValueError, r"x must have 1 or 3 channels, got shape \(1, 2, 32, 32\)"),
    (torch.zeros(0, 3, 32, 32), ValueError, r"x must not be empty, got shape \(0, 3, 32, 32\)"),
    (torch.zeros(1, 3, 0, 32), ValueError, r"x must not be empty, got shape \(1, 3, 0, 32\)"),
    (torch.zeros(1, 3, 15, 40), ValueError, "x must be at least 16x16, got 15x40"),
])
def test_wrong_inputs(net, x, error, message):
    with pytest.raises(error, match=f"^sgem_unet: {message}$"):
        net(x)


def test_copies_and_pickles(net):
    x = torch.randn(1, 3, 32, 32)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(twin(x)["logits"], net(x)["logits"])
        assert (twin.options, twin.preset) == (net.options, net.preset)


def test_ext_copies_and_pickles():
    net = build_model("sgem_unet", "tiny", "ext", input_size=32, widths=[4, 4, 8, 8, 8]).eval()
    x = torch.randn(1, 1, 32, 32)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(twin(x)["logits"], net(x)["logits"])


def test_normaliser_is_saved(net):
    assert torch.allclose(net.normaliser.mean, torch.tensor([0.485, 0.456, 0.406]))
    net.normaliser.set(0.25, [0.1, 0.2, 0.5])
    assert net.state_dict()["normaliser.mean"].tolist() == [0.25] * 3
    twin = build_model("sgem_unet", "tiny", "reference", **net.options)
    twin.load_state_dict(net.state_dict())
    assert torch.equal(twin.normaliser.std, torch.tensor([0.1, 0.2, 0.5]))
    x = torch.rand(1, 3, 4, 4)
    assert torch.allclose(twin.normaliser(x), (x - 0.25) / torch.tensor([0.1, 0.2, 0.5]).view(1, 3, 1, 1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("mean, std, message", [
    (0.5, 0.0, "std must be finite and > 0, got"), (0.5, float("nan"), "std must be finite and > 0, got"),
    (float("inf"), 1.0, "mean must be finite, got"), ([0.1, 0.2], 1.0, "mean must hold 1 or 3 values, got 2"),
])
def test_normaliser_rejects(mean, std, message):
    normaliser = Normaliser(3)
    before = normaliser.mean.clone()
    with pytest.raises(ValueError, match=f"^normaliser: {message}"):
        normaliser.set(mean, std)
    assert torch.equal(normaliser.mean, before)


@pytest.mark.parametrize("dtype, scale, full_scale", [
    ("uint8", 255, None), ("uint16", 65535, None), (">u2", 65535, None), ("uint16", 16383, 16383), ("int32", 4095, 4095),
    ("float32", 1, None), ("float64", 1, None), ("float16", 1, None), ("float32", 200, 200),
])
def test_preprocess_values(net, dtype, scale, full_scale):
    net.normaliser.set([0.1, 0.2, 0.3], [0.5, 0.25, 2.0])
    grey = (np.arange(12).reshape(3, 4) / 12 * scale).astype(dtype)
    got = net.preprocess(grey, full_scale)
    unit = torch.from_numpy(grey.astype(np.float64) / scale)
    expected = torch.stack([(unit - 0.1) / 0.5, (unit - 0.2) / 0.25, (unit - 0.3) / 2.0])[None]
    assert got.dtype == torch.float32 and got.shape == (1, 3, 3, 4)
    assert torch.allclose(got.double(), expected, rtol=0, atol=1e-6)
    if dtype != ">u2":
        assert torch.equal(net.preprocess(torch.from_numpy(grey), full_scale), got)


def test_preprocess_shapes(net):
    rgb = np.random.default_rng(0).integers(0, 255, (2, 3, 8, 9), dtype=np.uint8)
    assert net.preprocess(rgb).shape == (2, 3, 8, 9)
    assert torch.equal(net.preprocess(rgb[1]), net.preprocess(rgb)[1:])
    assert torch.equal(net.preprocess(rgb[1, :1]), net.preprocess(rgb[1, 0]))
    assert torch.equal(net.preprocess(rgb[:, :, ::-1]), net.preprocess(rgb).flip(2))
    grey = build_model("sgem_unet", "tiny", "reference")
    grey.normaliser.set(0.0, 1.0)
    assert torch.allclose(grey.preprocess(rgb)[:, 0], torch.from_numpy(rgb.mean(1) / 255).float(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("image, full_scale, error, message", [
    ([[0.0]], None, TypeError, "image must be a NumPy array or a tensor, got list"),
    (np.zeros((4, 4), bool), None, TypeError, "image must hold integers or floats, got dtype bool"),
    (torch.zeros(4, 4, dtype=torch.bool), None, TypeError, "image must hold integers or floats, got torch.bool"),
    (np.zeros((4, 4, 3), np.uint8), None, ValueError, r"image must be \(H, W\).*, got \(4, 4, 3\)"),
    (np.zeros((0, 4)), None, ValueError, r"image must be .*, got \(0, 4\)"),
    (np.zeros((4, 4), np.int32), None, ValueError, "full_scale must be given for torch.int32 images"),
    (np.zeros((4, 4), np.uint8), 0, ValueError, "full_scale must be > 0, got 0"),
])
def test_preprocess_rejects(net, image, full_scale, error, message):
    with pytest.raises(error, match=f"^preprocess: {message}$"):
        net.preprocess(image, full_scale)


def test_pad_to_multiple():
    x = torch.randn(1, 2, 17, 32)
    padded = pad_to_multiple(x, 16)
    assert padded.shape == (1, 2, 32, 32) and torch.equal(padded[..., :17, :], x) and not padded[..., 17:, :].any()
    assert pad_to_multiple(padded, 16) is padded


def test_set_epoch_has_no_effect(net):
    x, mask = torch.randn(1, 3, 32, 32), torch.zeros(1, 32, 32)
    criterion = net.criterion()
    before = criterion(net(x), mask)
    net.set_epoch(7), criterion.set_epoch(7)
    assert torch.equal(criterion(net(x), {"mask": mask}), before)
