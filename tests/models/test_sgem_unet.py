"""SGEM U-Net: counts of the specification, sizes, layouts, backends, compilation."""
import pytest
import torch
from torch import nn

from models.suite import BACKENDS, NetworkTests, count
from python_models import build_model

VARIANTS = {
    "bilinear": {"input_size": 32},
    "value_proj": {"input_size": 32, "value_proj": True, "upsample": "bilinear"},
    "d2": {"input_size": 32, "resolution": "d2"},
    "linear": {"attention": "linear"},
}


class TestSGEMUNet(NetworkTests):
    name, slim, variants = "sgem_unet", {"widths": [4, 4, 8, 8, 8]}, VARIANTS
    autocast_variants = compiled_variants = {name: VARIANTS[name] for name in ("bilinear", "linear")}
    compared = "sgem.gamma"

    def ready(self, net):
        net.sgem.gamma.data.fill_(0.5)

    def still(self, net):
        """Convolution biases before a BatchNorm, and the attention's bias."""
        modules = dict(net.named_modules())
        before_norm = {f"{p}.{i}.bias" for p, m in modules.items() if isinstance(m, nn.Sequential) for i in range(len(m) - 1)
                       if isinstance(m[i], nn.Conv2d) and isinstance(m[i + 1], nn.BatchNorm2d)}
        return before_norm | {"sgem.bias"}


_slim = TestSGEMUNet().build


@pytest.mark.parametrize("options, parameters, thop, products", [
    ({}, 8_654_692, 15.852, 15.772),
    ({"upsample": "bilinear"}, 8_654_692, 15.930, 15.772),
    ({"attention": "linear"}, 8_588_706, 16.051, 15.984),
    ({"attention": "linear", "upsample": "bilinear"}, 8_588_706, 16.130, 15.984),
    ({"value_proj": True}, 8_720_484, 15.919, 15.839),
    ({"resolution": "d2"}, 8_818_340, 15.853, 15.797),
])
def test_paper_counts(count_macs, options, parameters, thop, products):
    with torch.device("meta"):
        net = build_model("sgem_unet", backend="reference", **options).eval()
        macs = count_macs(net, torch.zeros(1, 3, 256, 256))
    assert count(net) == parameters
    assert (round(macs.thop / 1e9, 3), round(macs.products / 1e9, 3)) == (thop, products)


@pytest.mark.parametrize("attention", ["bilinear", "linear"])
def test_preset_counts(count_macs, attention):
    macs = {}
    for preset in ("paper", "small", "tiny"):
        with torch.device("meta"):
            net = build_model("sgem_unet", preset, "reference", attention=attention).eval()
            macs[preset] = count_macs(net, torch.zeros(1, 3, 256, 256)).products
        if preset == "tiny":
            assert count(net) <= 500_000
    assert 0.23 < macs["small"] / macs["paper"] < 0.27
    assert macs["tiny"] / macs["paper"] < 0.07


@pytest.mark.parametrize("size", [(64, 64), (256, 320), (128, 256), (257, 257)])
def test_bilinear_takes_one_size(size):
    net = build_model("sgem_unet", "tiny").eval()
    with pytest.raises(ValueError, match=rf'^sgem_unet: x must be 256x256, got {size[0]}x{size[1]}; attention="linear" takes any size$'):
        net(torch.zeros(1, 1, *size))
    assert net(torch.zeros(1, 1, 256, 256))["logits"].shape == (1, 1, 256, 256)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [(250, 333), (64, 48), (17, 16), (16, 16), (31, 97)])
def test_linear_takes_any_size(backend, size):
    net = _slim({"attention": "linear"}, backend).eval()
    assert net(torch.randn(2, 1, *size, dtype=torch.float64))["logits"].shape == (2, 1, *size)


def test_linear_pads_at_the_bottom_and_right():
    net = _slim({"attention": "linear"}).eval()
    x = torch.randn(1, 3, 40, 25, dtype=torch.float64)
    padded = torch.zeros(1, 3, 48, 32, dtype=torch.float64)
    padded[..., :40, :25] = x
    assert torch.equal(net(x)["logits"], net(padded)["logits"][..., :40, :25])


@pytest.mark.parametrize("options, message", [
    ({"attention": "softmax"}, "attention must be one of 'bilinear', 'linear', got 'softmax'"),
    ({"upsample": "cubic"}, "upsample must be one of 'nearest', 'bilinear', got 'cubic'"),
    ({"resolution": "d3"}, "resolution must be one of 'd1', 'd2', got 'd3'"),
    ({"attention_mode": "column"}, "attention_mode must be one of 'row', 'flat', 'add', got 'column'"),
    ({"attention_mode": "flat"}, "attention_mode='flat' exists only with backend=\"reference\", got backend='ext'"),
    ({"widths": [8, 8, 8]}, r"widths must be five integers > 0, got \(8, 8, 8\)"),
    ({"widths": [8, 8, 8, 8, 0]}, r"widths must be five integers > 0, got \(8, 8, 8, 8, 0\)"),
    ({"input_size": 250}, "input_size must be a multiple of 16, got 250"),
    ({"in_channels": 2}, "in_channels must be 1 or 3, got 2"),
    ({"attention": "linear", "heads": 3}, r"heads must divide widths\[2\] = 128, got 3"),
    ({"attention": "linear", "input_size": 256}, 'input_size, .* belong to attention="bilinear", got attention="linear"'),
    ({"attention": "linear", "resolution": "d2"}, 'input_size, .* belong to attention="bilinear", got attention="linear"'),
])
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=f"^sgem_unet: {message}$"):
        build_model("sgem_unet", **options)


@pytest.mark.parametrize("mode", ["flat", "add"])
def test_reference_modes_run(mode):
    net = _slim({"input_size": 32}, "reference", attention_mode=mode)
    row = _slim({"input_size": 32}, "reference")
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    net.load_state_dict(row.state_dict())
    difference = (net(x)["logits"] - row(x)["logits"]).abs().max()
    assert difference > 1e-4 and torch.isfinite(difference)
