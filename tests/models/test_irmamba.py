"""IRMamba: counts of the specification, sizes, layouts, backends, recomputation, compilation."""
import re

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from models.suite import BACKENDS, NetworkTests, count, gradients
from python_models import build_model

SLIM = {"widths": [4, 4, 6, 8, 8], "d_state": 2, "lrm_stages": [2, 1, 1, 1]}
VARIANTS = {"full": {}, "window1": {"window": 1, "gamma": 0.3}, "plain_scan": {"pdmamba": False}, "no_lrm": {"lrm": False}}
each_variant = pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)


class TestIRMamba(NetworkTests):
    name, slim, variants, channels, size = "irmamba", SLIM, VARIANTS, 1, (32, 48)
    autocast_variants, compiled_variants = {"full": {}, "no_lrm": {"lrm": False}}, {"full": {}, "checkpoint": {"checkpoint": True}}
    # with the reference, whose scan unrolls into thousands of steps, compiling takes minutes; test_irmamba_blocks.py compiles one block with it
    compiled_on, compared = ["ext"], "vss.0.0.self_attention.W"

    def ready(self, net):
        for name, parameter in net.named_parameters():
            if name.endswith(".W"):
                parameter.data.normal_(std=0.1)


_slim = TestIRMamba().build


@pytest.mark.parametrize("options, parameters", [
    ({}, 10_500_267), ({"pdmamba": False}, 10_488_491), ({"lrm": False}, 8_226_209), ({"window": 1}, 10_494_379), ({"in_channels": 3}, 10_501_483)])
def test_paper_counts(options, parameters):
    with torch.device("meta"):
        assert count(build_model("irmamba", backend="reference", **options)) == parameters


def test_paper_breakdown():
    with torch.device("meta"):
        net = build_model("irmamba", backend="reference")
    parts = {name: count(part) for name, part in net.named_children() if count(part)}
    parts["stem"] += parts.pop("stem_norm")
    assert parts == {"conv_encoder": 2_397_312, "stem": 384, "vss": 2_774_912, "merge": 438_016, "gates": 611_776, "expand": 435_136,
                     "decoder": 1_568_640, "lrm": 2_274_058, "head": 33}
    assert [count(m) for m in net.lrm] == [79_188, 233_895, 632_362, 1_328_613]
    assert [count(level[0]) for level in net.vss] == [21_056, 56_448, 170_240, 569_856, 569_856]
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
            counts[preset] = count(build_model("irmamba", preset, "reference"))
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


@each_variant
def test_checkpointing_changes_nothing(assert_close, options):
    net, twin = _slim(options), _slim(options, checkpoint=True)
    x, mask = torch.randn(2, 1, 32, 32, dtype=torch.float64), torch.rand(2, 1, 32, 32) > 0.98
    got, expected = gradients(twin, x, mask), gradients(net, x, mask)
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


def test_exports(assert_close):
    net = _slim({}).eval()
    program = torch.export.export(net, (torch.randn(1, 1, 32, 16, dtype=torch.float64),))
    x = torch.randn(1, 1, 32, 16, dtype=torch.float64)
    assert_close(program.module()(x)["logits"].detach(), net(x)["logits"].detach(), 1e-11)
