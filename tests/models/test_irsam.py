"""IRSAM: counts and keys of the specification, sizes, forms, backends, compilation, what the options switch."""
import copy
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from python_models import build_model

BACKENDS = ["ext", "reference"]
KEYS = Path(__file__).parent / "keys"
SLIM = {"dims": [16, 16, 16, 32], "depths": [1, 1, 1, 1], "heads": [1, 2, 2, 2], "windows": [7, 7, 7, 7], "width": 32, "hidden": 32}
PUBLIC = {"wpmd_blocks": 0, "shallow": False, "multi_act": "gelu"}


def _keys(name):
    """Key -> shape of a published checkpoint."""
    rows = (line.split("\t") for line in (KEYS / f"{name}.tsv").read_text().splitlines())
    return {key: tuple(map(int, shape.split("x"))) if shape else () for key, shape in rows}


def _randomise(net, seed=0):
    """What stock weights hide: norms, their statistics, biases, tables, and the convolutions that start at 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.2, generator=generator)
                module.running_var.uniform_(0.5, 1.5, generator=generator)
        for name, p in net.named_parameters():
            p.add_((0.1 if p.ndim > 1 else 0.2) * torch.randn(p.shape, generator=generator, dtype=torch.float32).to(p.dtype))
    return net


def _slim(backend="ext", dtype=torch.float64, **options):
    torch.manual_seed(0)
    return _randomise(build_model("irsam", "paper", backend, **{**SLIM, **options})).to(dtype)


def _relative(got, expected):
    return ((got.double() - expected.double()).norm() / expected.double().norm()).item()


def _parameters(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("preset, total", [("paper", 11_916_268), ("public", 10_578_604)])
def test_counts_of_the_specification(preset, total):
    with torch.device("meta"):
        net = build_model("irsam", preset, "reference")
    wpmd = _parameters(net.image_encoder.wpmd)
    assert _parameters(net) == total and wpmd == total - 10_578_604
    assert _parameters(net.image_encoder) - wpmd == 6_065_532 and _parameters(net.prompt_encoder) == 6_220
    assert _parameters(net.mask_decoder) == 4_506_852
    parts = {name: _parameters(part) for name, part in net.mask_decoder.named_children()}
    assert parts["transformer"] == 3_291_264 and parts["output_upscaling"] == parts["embedding_encoder"] == 73_952
    assert (parts["output_hypernetworks_mlps"], parts["edge_mlp"], parts["iou_prediction_head"]) == (559_232, 139_808, 132_612)
    assert (parts["embedding_maskfeature"], parts["compress_vit_feat"]) == (37_088, 197_408)


@pytest.mark.parametrize("rewrites, encoder, decoder, transformer", [(False, 77.537, 9.248, 2.783), (True, None, 4.758, 0.911)])
def test_flops_of_the_specification(rewrites, encoder, decoder, transformer):
    """Two for a multiply-accumulate, at 512x512, in billions: the plain form does the work of the released network, the other less."""
    with torch.device("meta"):
        net = build_model("irsam", "public", "reference", rewrites=rewrites).eval()
    with FlopCounterMode(display=False) as counter:
        net(torch.zeros(1, 3, 512, 512, device="meta"))
    flops = {part: round(sum(counts.values()) / 1e9, 3) for part, counts in counter.get_flop_counts().items()}
    assert (flops["IRSAM.mask_decoder"], flops["IRSAM.mask_decoder.transformer"]) == (decoder, transformer)
    assert flops["IRSAM.image_encoder"] == encoder if encoder else flops["IRSAM.image_encoder"] < 77.0


def test_keys_of_the_released_network():
    public = _keys("irsam_public")
    assert len(public) == 465 and len(_keys("mobile_sam")) == 439 and _keys("mobile_sam").items() <= public.items()
    for preset, more in (("public", 0), ("paper", 12)):
        with torch.device("meta"):
            have = {k: tuple(v.shape) for k, v in build_model("irsam", preset, "reference").state_dict().items() if not k.startswith("normaliser.")}
        own = have.keys() - public.keys()
        assert len(own) == more and all(k.startswith("image_encoder.wpmd.") for k in own)
        assert {k: v for k, v in have.items() if k not in own} == public


def test_round_trip_of_the_released_keys():
    generator = torch.Generator().manual_seed(1)
    values = {k: torch.rand(shape, generator=generator) + 0.5 if not k.endswith("num_batches_tracked") else torch.tensor(7)
              for k, shape in _keys("irsam_public").items()}
    net = build_model("irsam", "public", "reference")
    result = net.load_state_dict(values, strict=False)
    assert set(result.missing_keys) == {"normaliser.mean", "normaliser.std"} and not result.unexpected_keys
    net.eval()
    state = net.state_dict()
    assert all(torch.equal(state[k], v) and state[k].dtype == v.dtype for k, v in values.items())


@pytest.mark.parametrize("size", [(64, 48), (25, 33), (8, 8), (1, 1), (5, 70)])
@pytest.mark.parametrize("backend", BACKENDS)
def test_any_size(backend, size):
    net = _slim(backend).eval()
    with torch.no_grad():
        out = net(torch.randn(2, 1, *size, dtype=torch.float64))
    assert out["logits"].shape == out["edge"].shape == (2, 1, *size)
    assert ((out["edge"] > 0) & (out["edge"] < 1)).all() and all(torch.isfinite(y).all() for y in out.values())


@torch.no_grad()
def test_pads_at_the_bottom_and_right():
    net = _slim().eval()
    x = torch.randn(1, 3, 20, 25, dtype=torch.float64)
    padded = torch.zeros(1, 3, 24, 32, dtype=torch.float64)
    padded[..., :20, :25] = x
    for name, y in net(x).items():
        assert torch.equal(y, net(padded)[name][..., :20, :25])


@torch.no_grad()
def test_grey_is_repeated():
    net = _slim().eval()
    x = torch.randn(1, 1, 16, 24, dtype=torch.float64)
    assert torch.equal(net(x)["logits"], net(x.repeat(1, 3, 1, 1))["logits"])


@torch.no_grad()
def test_result_is_the_decoders_upsampled():
    """Bilinear after the sigmoid: the other way round the edge is another."""
    net = _slim(**PUBLIC).eval()
    x = torch.randn(1, 3, 32, 24, dtype=torch.float64)
    features, tap = net.image_encoder(x, False)
    logits, edge = net.mask_decoder(features, tap, *net.prompt_encoder(4, 3))
    up = nn.Upsample(size=(32, 24), mode="bilinear", align_corners=False)
    out = net(x)
    assert tap is None and torch.equal(out["logits"], up(logits)) and torch.equal(out["edge"], up(edge))
    assert _relative(up(edge.logit()).sigmoid(), out["edge"]) > 1e-5


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-10), (torch.float32, 2e-5)])
@pytest.mark.parametrize("options", [{}, PUBLIC, {"all_high": True, "steps": 1}, {"edge": False}], ids=["paper", "public", "all_high", "no_edge"])
def test_rewrites_change_nothing(options, dtype, tolerance):
    quick, plain = (_slim(backend, dtype, rewrites=on, **options).eval() for backend, on in (("ext", True), ("reference", False)))
    plain.load_state_dict(quick.state_dict())
    exact = copy.deepcopy(plain).double()
    x = torch.randn(2, 3, 40, 56, dtype=dtype)
    with torch.no_grad():
        out, want = quick(x), exact(x.double())
        for name in want:
            # a 32-channel network of random weights amplifies float32's rounding: the plain form is the yardstick
            allowed = max(tolerance, 3 * _relative(plain(x)[name], want[name])) if dtype == torch.float32 else tolerance
            assert _relative(out[name], want[name]) < allowed, name
            assert _relative(want[name].roll(1, -1), want[name]) > 10 * allowed


def test_backends_and_rewrites_choose_alike():
    assert build_model("irsam", "tiny", "reference").mask_decoder.rewrites is False
    assert build_model("irsam", "tiny", "reference", rewrites=True).mask_decoder.rewrites is True
    net = build_model("irsam", "tiny", "ext", rewrites=False)
    assert net.mask_decoder.rewrites is net.image_encoder.rewrites is net.prompt_encoder.pe_layer.keep is False
    assert build_model("irsam", "tiny", "ext").image_encoder.rewrites is True


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_of_the_backends(backend):
    """Both forms of the whole network in training mode, against the plain one on the reference ops."""
    net, plain = _slim(backend, rewrites=True), _slim("reference", rewrites=False)
    plain.load_state_dict(net.state_dict())
    x, mask = torch.randn(2, 3, 32, 40, dtype=torch.float64), (torch.rand(2, 1, 32, 40) > 0.9).double()
    for each in (net, plain):
        each.criterion()(each(x), mask).backward()
    largest = max(p.grad.abs().max() for p in plain.parameters() if p.grad is not None)
    other = dict(net.named_parameters())
    for name, p in plain.named_parameters():
        assert (p.grad is None) == (other[name].grad is None) == (not p.requires_grad), name
        assert p.grad is None or (p.grad - other[name].grad).abs().max() < 1e-9 * largest, name


def test_images_do_not_influence_each_other():
    for backend in BACKENDS:
        net, x = _slim(backend).eval(), torch.randn(3, 3, 24, 40, dtype=torch.float64)
        with torch.no_grad():
            together = net(x)
            for name, y in together.items():
                assert _relative(net(x[[2, 0, 1]])[name], y[[2, 0, 1]]) < 1e-12
                assert _relative(net(x[1:2])[name], y[1:2]) < 1e-12


@torch.no_grad()
def test_public_is_paper_without_diffusion():
    """WPMD's convolutions start at 0: apart from the shallow branch and the activation, `paper` begins as `public`."""
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    public = _slim(**PUBLIC).eval()
    paper = build_model("irsam", "paper", **{**SLIM, "shallow": False, "multi_act": "gelu"}).double().eval()
    missing = paper.load_state_dict(public.state_dict(), strict=False).missing_keys
    assert len(missing) == 12 and all(k.startswith("image_encoder.wpmd.") for k in missing)
    for name, y in public(x).items():
        assert torch.equal(paper(x)[name], y)
    for more in ({"shallow": True, "multi_act": "gelu"}, {"shallow": False, "multi_act": "relu"}):
        other = build_model("irsam", "paper", **{**SLIM, **more}).double().eval()
        other.load_state_dict(paper.state_dict())
        assert _relative(other(x)["edge"], public(x)["edge"]) > 1e-4
    paper.image_encoder.wpmd[3].proj.weight.add_(0.1)
    assert _relative(paper(x)["logits"], public(x)["logits"]) > 1e-4


@torch.no_grad()
def test_compiles_to_one_graph():
    """Of the tiny preset one block a stage and one step: the graph's size is time here, and the loops of more are the same."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    net = build_model("irsam", "tiny", depths=[1, 1, 1, 1], wpmd_blocks=1, steps=1).double().eval()
    compiled, x = torch.compile(net, backend="aot_eager", fullgraph=True), torch.randn(2, 3, 32, 32, dtype=torch.float64)
    want = net(x)
    for name, y in compiled(x).items():
        assert _relative(y, want[name]) < 1e-12
    net.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix.mul_(1.5)  # nothing that is kept is frozen into the graph
    assert _relative(compiled(x)["logits"], want["logits"]) > 1e-4 and _relative(compiled(x)["logits"], net(x)["logits"]) < 1e-12
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    torch._dynamo.reset()


def test_exports():
    net = build_model("irsam", "tiny", "reference", rewrites=True, depths=[1, 1, 1, 1], wpmd_blocks=1, steps=1).double().eval()
    program = torch.export.export(net, (torch.randn(1, 3, 32, 40, dtype=torch.float64),))
    x = torch.randn(1, 3, 32, 40, dtype=torch.float64)
    with torch.no_grad():
        for name, y in program.module()(x).items():
            assert _relative(y, net(x)[name]) < 1e-12


def test_autocast_keeps_digits_of_the_edge():
    net = build_model("irsam", "tiny").eval()
    x, mask = torch.randn(2, 1, 32, 32), torch.rand(2, 32, 32) > 0.9
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = net(x)
        loss = net.criterion()(out, mask)
    assert out["edge"].dtype == torch.float32 and loss.dtype == torch.float32 and torch.isfinite(loss)
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)


@pytest.mark.parametrize("options, message", [
    ({"dims": [8, 8, 8]}, r"dims must be four integers > 0, got \[8, 8, 8\]"),
    ({"windows": 7}, "windows must be four integers > 0, got 7"),
    ({"heads": [1, 2, 3, 2]}, r"heads\[2\] must divide dims\[2\] = 16, got 3"),
    ({"width": 40}, "width must be a multiple of 16, > 0, got 40"),
    ({"hidden": 0}, "hidden must be an integer > 0, got 0"),
    ({"wpmd_blocks": 5}, r"wpmd_blocks must be an integer in 0..4, got 5"),
    ({"steps": 0}, "steps must be an integer > 0, got 0"),
    ({"multi_act": "silu"}, "multi_act must be one of 'relu', 'gelu', got 'silu'"),
    ({"rewrites": 1}, "rewrites must be true, false or None, got 1"),
])
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=f"^irsam: {message}$"):
        build_model("irsam", backend="reference", **{**SLIM, **options})


@pytest.mark.parametrize("options", [{"mask_loss": "jaccard"}, {"edge_target": "canny"}, {"edge_weight": -1.0}])
def test_wrong_loss_options_are_refused_at_once(options):
    with pytest.raises(ValueError, match="^DiceEdgeLoss: "):
        build_model("irsam", backend="reference", **{**SLIM, **options})
