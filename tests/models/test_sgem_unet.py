"""SGEM U-Net: counts of the specification, sizes, layouts, backends, compilation."""
import pytest
import torch
from torch import nn

from python_models import build_model

BACKENDS = ["ext", "reference"]
SLIM = {"widths": [4, 4, 8, 8, 8]}
VARIANTS = [
    pytest.param({"input_size": 32}, id="bilinear"),
    pytest.param({"input_size": 32, "value_proj": True, "upsample": "bilinear"}, id="value_proj"),
    pytest.param({"input_size": 32, "resolution": "d2"}, id="d2"),
    pytest.param({"attention": "linear"}, id="linear"),
]


def _slim(options, backend="ext", gamma=0.5, seed=0, **more):
    """A small double-precision network in training mode whose attention acts."""
    torch.manual_seed(seed)
    net = build_model("sgem_unet", "paper", backend, **{**SLIM, **options, **more}).double()
    net.sgem.gamma.data.fill_(gamma)
    return net


def _train_statistics(net, x):
    for _ in range(3):
        net(x)
    return net.eval()


def _parameters(net):
    return sum(p.numel() for p in net.parameters())


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
    assert _parameters(net) == parameters
    assert (round(macs.thop / 1e9, 3), round(macs.products / 1e9, 3)) == (thop, products)


@pytest.mark.parametrize("attention", ["bilinear", "linear"])
def test_preset_counts(count_macs, attention):
    macs = {}
    for preset in ("paper", "small", "tiny"):
        with torch.device("meta"):
            net = build_model("sgem_unet", preset, "reference", attention=attention).eval()
            macs[preset] = count_macs(net, torch.zeros(1, 3, 256, 256)).products
        if preset == "tiny":
            assert _parameters(net) <= 500_000
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


@pytest.mark.parametrize("options", VARIANTS)
def test_state_dict_is_the_same_on_both_backends(options):
    ext, reference = _slim(options, "ext"), _slim(options, "reference", seed=1)
    assert [(k, v.shape) for k, v in ext.state_dict().items()] == [(k, v.shape) for k, v in reference.state_dict().items()]
    reference.load_state_dict(ext.state_dict())


def _cancelled(net):
    """Parameters whose true gradient is 0: convolution biases before a BatchNorm, and the attention's bias."""
    modules = dict(net.named_modules())
    before_norm = {f"{p}.{i}.bias" for p, m in modules.items() if isinstance(m, nn.Sequential) for i in range(len(m) - 1)
                   if isinstance(m[i], nn.Conv2d) and isinstance(m[i + 1], nn.BatchNorm2d)}
    return before_norm | {"sgem.bias"}


@pytest.mark.parametrize("options", VARIANTS)
def test_ext_equals_reference(assert_close, options):
    ext, reference = _slim(options, "ext"), _slim(options, "reference")
    reference.load_state_dict(ext.state_dict())
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    mask = (torch.rand(2, 1, 32, 32) > 0.98).double()
    gradients = {}
    for name, net in (("ext", ext), ("reference", reference)):
        leaf = x.clone().requires_grad_()
        logits = net(leaf)["logits"]
        net.criterion()({"logits": logits}, mask).backward()
        gradients[name] = {"logits": logits.detach(), "x": leaf.grad, **{k: p.grad for k, p in net.named_parameters()}}
    largest = max(g.abs().max() for k, g in gradients["reference"].items() if k != "logits")
    for key, expected in gradients["reference"].items():
        if key in _cancelled(ext):
            assert gradients["ext"][key].abs().max() <= 1e-12 * largest
        else:
            assert_close(gradients["ext"][key], expected, 1e-9, key)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", VARIANTS)
def test_every_parameter_learns(backend, options):
    net = _slim(options, backend)
    net(torch.randn(4, 3, 32, 32, dtype=torch.float64))["logits"].square().sum().backward()
    still = {name for name, p in net.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-9}
    assert still <= _cancelled(net)
    assert all(p.grad is not None for p in net.parameters())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", VARIANTS)
def test_channels_last_equals_contiguous(assert_close, backend, options):
    net = _slim(options, backend)
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    net = _train_statistics(net, x)
    expected = net(x)["logits"].detach()
    assert_close(net(x.to(memory_format=torch.channels_last))["logits"].detach(), expected, 1e-11)
    assert_close(net.to(memory_format=torch.channels_last)(x)["logits"].detach(), expected, 1e-11)
    wide = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    assert_close(net(wide[:, :, ::2, ::2])["logits"].detach(), net(wide[:, :, ::2, ::2].contiguous())["logits"].detach(), 1e-11)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", VARIANTS)
def test_images_do_not_influence_each_other(assert_close, backend, options):
    x = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    net = _train_statistics(_slim(options, backend), x)
    together = net(x)["logits"].detach()
    order = torch.tensor([2, 0, 3, 1])
    assert_close(net(x[order])["logits"].detach(), together[order], 1e-11)
    for i in range(4):
        assert_close(net(x[i:i + 1])["logits"].detach(), together[i:i + 1], 1e-11)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", [VARIANTS[0], VARIANTS[3]])
def test_compiles_to_one_graph(assert_close, backend, options):
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    net, twin = _slim(options, backend), _slim(options, backend)
    compiled = torch.compile(twin, backend="aot_eager", fullgraph=True)
    for _ in range(2):
        x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
        expected, got = net(x)["logits"], compiled(x)["logits"]
        expected.square().sum().backward(), got.square().sum().backward()
        assert_close(got.detach(), expected.detach(), 1e-10)
    assert_close(twin.sgem.gamma.grad, net.sgem.gamma.grad, 1e-9)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    torch._dynamo.reset()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", [VARIANTS[0], VARIANTS[3]])
def test_autocast(backend, options):
    net = _slim(options, backend).float()
    x, mask = torch.randn(4, 3, 32, 32), torch.rand(4, 32, 32) > 0.95
    exact = net(x)["logits"].detach()
    spread = (exact - exact.mean()).abs().mean()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = net(x)
        loss = net.criterion()(out, mask)
    assert loss.dtype == torch.float32
    error = (out["logits"].detach().float() - exact).abs().mean() / spread
    assert error < 0.25 < (exact.roll(1, -1) - exact).abs().mean() / spread
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())
