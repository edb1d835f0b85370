"""IRMamba: counts of the specification, sizes, layouts, backends, recomputation, compilation."""
import re

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from python_models import build_model

BACKENDS = ["ext", "reference"]
SLIM = {"widths": [4, 4, 6, 8, 8], "d_state": 2, "lrm_stages": [2, 1, 1, 1]}
VARIANTS = [
    pytest.param({}, id="full"),
    pytest.param({"window": 1, "gamma": 0.3}, id="window1"),
    pytest.param({"pdmamba": False}, id="plain_scan"),
    pytest.param({"lrm": False}, id="no_lrm"),
]


def _slim(options, backend="ext", seed=0, **more):
    """A small double-precision network in training mode whose differences act."""
    torch.manual_seed(seed)
    net = build_model("irmamba", "paper", backend, **{**SLIM, **options, **more}).double()
    for name, parameter in net.named_parameters():
        if name.endswith(".W"):
            parameter.data.normal_(std=0.1)
    return net


def _train_statistics(net, x):
    for _ in range(3):
        net(x)
    return net.eval()


def _parameters(net):
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("options, parameters", [
    ({}, 10_500_267), ({"pdmamba": False}, 10_488_491), ({"lrm": False}, 8_226_209), ({"window": 1}, 10_494_379), ({"in_channels": 3}, 10_501_483)])
def test_paper_counts(options, parameters):
    with torch.device("meta"):
        assert _parameters(build_model("irmamba", backend="reference", **options)) == parameters


def test_paper_breakdown():
    with torch.device("meta"):
        net = build_model("irmamba", backend="reference")
    parts = {name: _parameters(part) for name, part in net.named_children() if _parameters(part)}
    parts["stem"] += parts.pop("stem_norm")
    assert parts == {"conv_encoder": 2_397_312, "stem": 384, "vss": 2_774_912, "merge": 438_016, "gates": 611_776, "expand": 435_136,
                     "decoder": 1_568_640, "lrm": 2_274_058, "head": 33}
    assert [_parameters(m) for m in net.lrm] == [79_188, 233_895, 632_362, 1_328_613]
    assert [_parameters(level[0]) for level in net.vss] == [21_056, 56_448, 170_240, 569_856, 569_856]
    assert [len(m.stages) for m in net.lrm] == [4, 3, 2, 1] and [len(level) for level in net.vss] == [2] * 5


def test_paper_macs():
    """Convolutions and matrix products at 256x256, in billions; the scan is replaced by nothing."""
    with torch.device("meta"):
        net = build_model("irmamba", backend="reference").eval()
    for level in net.vss:
        for block in level:
            block.self_attention.scan = lambda u, *rest: u.clone()
    with FlopCounterMode(display=False) as counter:
        net(torch.zeros(1, 1, 256, 256, device="meta"))
    macs = {part: sum(sum(flops.values()) for name, flops in counter.get_flop_counts().items() if re.fullmatch(rf"IRMamba\.{part}(\.\d+)*", name)) / 2e9
            for part in ("lrm", "decoder", "conv_encoder", "vss", "gates", "merge", "expand", "stem", "head")}
    assert round(counter.get_total_flops() / 2e9, 1) == 41.6 == round(sum(macs.values()), 1)
    rounded = {part: round(value, 1) for part, value in macs.items()}
    assert (rounded["lrm"], rounded["decoder"], rounded["conv_encoder"], rounded["gates"]) == (24.8, 4.8, 3.7, 1.1)
    assert round(macs["vss"], 1) == 3.6 + 2.6 and round(macs["merge"] + macs["expand"], 1) == 0.9


def test_preset_counts():
    counts = {}
    for preset in ("paper", "small", "tiny"):
        with torch.device("meta"):
            counts[preset] = _parameters(build_model("irmamba", preset, "reference"))
    assert counts["paper"] > 3 * counts["small"] > 12 * counts["tiny"]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [(32, 48), (25, 33), (17, 16), (1, 1), (5, 70)])
def test_any_size(backend, size):
    net = _slim({}, backend).eval()
    assert net(torch.randn(2, 1, *size, dtype=torch.float64))["logits"].shape == (2, 1, *size)


def test_pads_at_the_bottom_and_right():
    net = _slim({}).eval()
    x = torch.randn(1, 1, 20, 25, dtype=torch.float64)
    padded = torch.zeros(1, 1, 32, 32, dtype=torch.float64)
    padded[..., :20, :25] = x
    assert torch.equal(net(x)["logits"], net(padded)["logits"][..., :20, :25])


@pytest.mark.parametrize("options, message", [
    ({"widths": [8, 8, 8]}, r"widths must be five integers > 0, got \[8, 8, 8\]"),
    ({"widths": [8, 8, 8, 8, 0]}, r"widths must be five integers > 0, got \[8, 8, 8, 8, 0\]"),
    ({"lrm_stages": [4, 3, 2]}, r"lrm_stages must be four integers > 0, got \[4, 3, 2\]"),
    ({"lrm_stages": [4, 3, 2, 0]}, r"lrm_stages must be four integers > 0, got \[4, 3, 2, 0\]"),
    ({"d_state": 0}, "d_state must be an integer > 0, got 0"),
    ({"d_state": "16"}, "d_state must be an integer > 0, got '16'"),
    ({"widths": 4}, "widths must be five integers > 0, got 4"),
    ({"widths": (True, 8, 8, 8, 8)}, r"widths must be five integers > 0, got \(True, 8, 8, 8, 8\)"),
    ({"gamma": float("nan")}, "gamma must be a finite number, got nan"),
    ({"gamma": "1"}, "gamma must be a finite number, got '1'"),
    ({"window": 1.5}, "window must be an integer > 0, got 1.5"),
    ({"in_channels": 2}, "in_channels must be 1 or 3, got 2"),
])
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=f"^irmamba: {message}$"):
        build_model("irmamba", backend="reference", **options)


@pytest.mark.parametrize("options", VARIANTS)
def test_state_dict_is_the_same_on_both_backends(options):
    ext, reference = _slim(options, "ext"), _slim(options, "reference", seed=1)
    assert [(k, v.shape) for k, v in ext.state_dict().items()] == [(k, v.shape) for k, v in reference.state_dict().items()]
    reference.load_state_dict(ext.state_dict())


def _gradients(net, x, mask):
    leaf = x.clone().requires_grad_()
    logits = net(leaf)["logits"]
    net.criterion()({"logits": logits}, mask).backward()
    return {"logits": logits.detach(), "x": leaf.grad, **{k: p.grad for k, p in net.named_parameters()}}


@pytest.mark.parametrize("options", VARIANTS)
def test_ext_equals_reference(assert_close, options):
    ext, reference = _slim(options, "ext"), _slim(options, "reference")
    reference.load_state_dict(ext.state_dict())
    x, mask = torch.randn(2, 1, 32, 48, dtype=torch.float64), torch.rand(2, 1, 32, 48) > 0.98
    got, expected = _gradients(ext, x, mask), _gradients(reference, x, mask)
    assert got.keys() == expected.keys()
    for key in expected:
        assert_close(got[key], expected[key], 1e-9, key)


@pytest.mark.parametrize("options", VARIANTS)
def test_checkpointing_changes_nothing(assert_close, options):
    net, twin = _slim(options), _slim(options, checkpoint=True)
    x, mask = torch.randn(2, 1, 32, 32, dtype=torch.float64), torch.rand(2, 1, 32, 32) > 0.98
    got, expected = _gradients(twin, x, mask), _gradients(net, x, mask)
    for key in expected:
        assert torch.equal(got[key], expected[key]), key
    for name, value in net.named_buffers():
        assert torch.equal(twin.get_buffer(name), value), name


def test_checkpointing_keeps_less():
    def kept(checkpoint):
        net, sizes = _slim({}, checkpoint=checkpoint), []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            net(torch.randn(1, 1, 64, 64, dtype=torch.float64))
        return sum(sizes)

    assert kept(True) < 0.5 * kept(False)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", VARIANTS)
def test_every_parameter_learns(backend, options):
    net = _slim(options, backend)
    net(torch.randn(2, 1, 32, 32, dtype=torch.float64))["logits"].square().sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-9] == []


def test_differences_start_at_nothing_and_learn():
    torch.manual_seed(0)
    net = build_model("irmamba", "paper", **SLIM).double()
    plain = _slim({"pdmamba": False})
    state = net.state_dict()
    plain.load_state_dict({k: v for k, v in state.items() if not k.endswith(".W")})
    x = torch.randn(2, 1, 32, 32, dtype=torch.float64)
    out = net(x)["logits"]
    assert torch.allclose(out, plain(x)["logits"], rtol=0, atol=1e-12)
    out.square().sum().backward()
    weights = [p for k, p in net.named_parameters() if k.endswith(".W")]
    assert len(weights) == 10 and all(p.grad.abs().max() > 0 for p in weights)
    with torch.no_grad():
        for p in weights:
            p += 0.1
    assert (net(x)["logits"] - out).abs().max() > 1e-3


def test_begins_with_few_targets():
    net = build_model("irmamba", "tiny", "reference")
    assert abs(net.head.bias.sigmoid().item() - 0.001) < 1e-6


def test_gamma_and_window_act():
    x = torch.randn(2, 1, 32, 32, dtype=torch.float64)
    net, other = _slim({}).eval(), _slim({"gamma": 0.0}).eval()
    assert (net(x)["logits"] - other(x)["logits"]).abs().max() > 1e-6
    assert _slim({"window": 3}).vss[0][0].self_attention.W.shape == (2, 3, 8)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", VARIANTS)
def test_channels_last_equals_contiguous(assert_close, backend, options):
    net = _slim(options, backend)
    x = torch.randn(2, 1, 32, 48, dtype=torch.float64)
    net = _train_statistics(net, x)
    expected = net(x)["logits"].detach()
    assert_close(net.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))["logits"].detach(), expected, 1e-11)
    wide = torch.randn(2, 1, 64, 96, dtype=torch.float64)
    assert_close(net(wide[:, :, ::2, ::2])["logits"].detach(), net(wide[:, :, ::2, ::2].contiguous())["logits"].detach(), 1e-11)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", VARIANTS)
def test_images_do_not_influence_each_other(assert_close, backend, options):
    x = torch.randn(3, 1, 32, 32, dtype=torch.float64)
    net = _train_statistics(_slim(options, backend), x)
    together, order = net(x)["logits"].detach(), torch.tensor([2, 0, 1])
    assert_close(net(x[order])["logits"].detach(), together[order], 1e-11)
    assert_close(net(x[1:2])["logits"].detach(), together[1:2], 1e-11)


@pytest.mark.parametrize("options", [VARIANTS[0], pytest.param({"checkpoint": True}, id="checkpoint")])
def test_compiles_to_one_graph(assert_close, options):
    """With the reference, whose scan unrolls into thousands of steps, this takes minutes; test_irmamba_blocks.py compiles one block with it."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    net, twin = _slim(options), _slim(options)
    compiled = torch.compile(twin, backend="aot_eager", fullgraph=True)
    for _ in range(2):
        x = torch.randn(2, 1, 16, 16, dtype=torch.float64)
        expected, got = net(x)["logits"], compiled(x)["logits"]
        expected.square().sum().backward(), got.square().sum().backward()
        assert_close(got.detach(), expected.detach(), 1e-10)
    assert_close(twin.vss[0][0].self_attention.W.grad, net.vss[0][0].self_attention.W.grad, 1e-9)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    torch._dynamo.reset()


def test_exports(assert_close):
    net = _slim({}).eval()
    program = torch.export.export(net, (torch.randn(1, 1, 32, 16, dtype=torch.float64),))
    x = torch.randn(1, 1, 32, 16, dtype=torch.float64)
    assert_close(program.module()(x)["logits"].detach(), net(x)["logits"].detach(), 1e-11)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", [VARIANTS[0], VARIANTS[3]])
def test_autocast(backend, options):
    net = _slim(options, backend).float()
    x, mask = torch.randn(4, 1, 32, 32), torch.rand(4, 32, 32) > 0.95
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
