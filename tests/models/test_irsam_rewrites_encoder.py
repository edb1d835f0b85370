"""The encoder's quicker forms equal its plain ones, and what they keep of the weights never goes stale."""
import copy

import pytest
import torch
from models.irsam_nets import SMALL, randomise
from torch import nn

from python_models.irsam import kept, streaming
from python_models.irsam.conv_bn import ConvBN, DoubledConvBN
from python_models.irsam.encoder import Block, MBConv, PatchEmbed, PatchMerging, TinyViT

PRECISIONS = [pytest.param(torch.float64, 1e-10, id="float64"), pytest.param(torch.float32, 5e-6, id="float32")]
SIZES = [(40, 56), (24, 24), (8, 8), (8, 104)]


def _pair(dtype=torch.float64, kind=TinyViT, **options):
    """The same random weights in both forms."""
    quick, plain = (randomise(kind(**options, rewrites=rewrites).to(dtype)).eval() for rewrites in (True, False))
    return quick, plain


@pytest.fixture
def small_budget(monkeypatch):
    """Small maps in several pieces too."""
    monkeypatch.setattr(streaming, "_BUDGET", 2048)


@pytest.mark.parametrize("dtype, tolerance", PRECISIONS)
@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_encoder_equals_its_plain_form(assert_close, dtype, tolerance, size):
    quick, plain = _pair(dtype, **SMALL, wpmd_blocks=0)
    x = torch.randn(2, 3, *size, dtype=dtype)
    for got, expected in zip(quick(x, shallow=True), plain(x, shallow=True)):
        assert_close(got, expected, tolerance)
    for twin in (x.contiguous(memory_format=torch.channels_last), torch.cat((x, x), 3)[..., :size[1]]):
        assert_close(quick(twin)[0], plain(x)[0], tolerance)


@pytest.mark.parametrize("dtype, tolerance", PRECISIONS)
@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_piecewise_inference(assert_close, small_budget, dtype, tolerance, size):
    quick, plain = _pair(dtype, **SMALL)
    x = torch.randn(2, 3, *size, dtype=dtype)
    assert_close(quick(x)[0], plain(x)[0], tolerance)


@pytest.mark.parametrize("height", [1, 2, 5, 8, 9, 16, 17])
@pytest.mark.parametrize("kind, options", [(MBConv, {"channels": 4}), (PatchMerging, {"in_channels": 4, "channels": 6, "stride": 1}),
                                           (PatchMerging, {"in_channels": 4, "channels": 6, "stride": 2})], ids=["mbconv", "stride 1", "stride 2"])
@torch.no_grad()
def test_bands_of_any_height(assert_close, monkeypatch, height, kind, options):
    """Borders between bands, odd heights under a stride, one row alone; every band's hidden rows fit where the least height allows."""
    monkeypatch.setattr(streaming, "_BUDGET", 1)
    quick, plain = _pair(torch.float64, kind, **options)
    taken = []
    by_bands = quick._by_bands
    monkeypatch.setattr(quick, "_by_bands", lambda *args: taken.append(0) or by_bands(*args))
    x = torch.randn(3, 4, height, 5, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    before = x.clone()
    got = quick(x)
    assert_close(got, plain(x), 1e-12)
    assert taken and torch.equal(x, before) and got.is_contiguous(memory_format=torch.channels_last)


def test_the_input_stays(small_budget):
    """Working in place stops at what the caller holds."""
    for kind, options in ((Block, {"channels": 8, "heads": 2, "window": 3}), (MBConv, {"channels": 8}), (TinyViT, SMALL)):
        net = _pair(torch.float32, kind, **options)[0]
        x = torch.randn(1, 3 if kind is TinyViT else 8, 16, 16).contiguous(memory_format=torch.channels_last)
        before = x.clone()
        with torch.inference_mode():
            net(x)
        assert torch.equal(x, before)


@pytest.mark.parametrize("mode", ["train", "frozen norms", "eval"])
def test_gradients(assert_close, mode):
    """In training the stem, the bias and the attention are rewritten, with frozen norms the folding too: outputs, gradients and statistics."""
    quick, plain = _pair(**SMALL)
    for net in (quick, plain):
        net.train(mode != "eval")
        if mode == "frozen norms":
            for m in net.modules():
                if isinstance(m, nn.BatchNorm2d):
                    m.eval()
    x = torch.randn(2, 3, 24, 40, dtype=torch.float64)
    leaves = [x.clone().requires_grad_() for _ in range(2)]
    results = [net(leaf, shallow=True) for net, leaf in zip((quick, plain), leaves)]
    weights = [torch.randn_like(t) for t in results[0]]
    for outs in results:
        sum((o * w).sum() for o, w in zip(outs, weights)).backward()
    for got, expected in zip(*results):
        assert_close(got.detach(), expected.detach(), 1e-10)
    assert_close(leaves[0].grad, leaves[1].grad, 1e-10)
    scale = max(p.grad.abs().max() for p in plain.parameters() if p.grad is not None)
    for (name, p), q in zip(quick.named_parameters(), plain.parameters()):
        if name.startswith(("head", "norm_head")):
            assert p.grad is q.grad is None
        else:
            # a bias before a norm in training mode has no gradient but rounding
            assert (p.grad - q.grad).abs().max() < 1e-10 * q.grad.abs().max() + 1e-13 * scale, name
    for (name, b), c in zip(quick.named_buffers(), plain.buffers()):
        assert torch.allclose(b.double(), c.double(), rtol=1e-12, atol=0), name


@torch.no_grad()
def test_statistics_without_gradients(small_budget):
    """Norms in training mode under no_grad, as for estimating their statistics anew: over the whole batch, not over its pieces."""
    quick, plain = (net.train() for net in _pair(**SMALL))
    x = torch.randn(2, 3, 24, 24, dtype=torch.float64)
    assert torch.allclose(quick(x)[0], plain(x)[0], rtol=1e-10, atol=1e-10)
    for (name, b), c in zip(quick.named_buffers(), plain.buffers()):
        assert torch.allclose(b.double(), c.double(), rtol=1e-12, atol=0), name


@torch.no_grad()
def test_stem_has_four_taps():
    stem = DoubledConvBN(1, 1)
    stem.c.weight.copy_(torch.arange(9.0).view(1, 1, 3, 3))
    assert stem.kernel().flatten().tolist() == [0, 1 + 2, 3 + 6, 4 + 5 + 7 + 8]


def _load(net, other, x):
    net.load_state_dict(other.state_dict())


def _assign(net, other, x):
    net.load_state_dict(copy.deepcopy(other.state_dict()), assign=True)


def _copy(net, other, x):
    with torch.no_grad():
        for p, q in zip(net.parameters(), other.parameters()):
            p.copy_(q)


def _copy_in_inference_mode(net, other, x):
    with torch.inference_mode():
        for p, q in zip(net.parameters(), other.parameters()):
            p.copy_(q)


def _optimise(net, other, x):
    optimiser = torch.optim.SGD(net.parameters(), 0.1)
    net(x)[0].square().mean().backward()
    optimiser.step()


def _statistics(net, other, x):
    """Norms alone in training mode for a while: their owners hear nothing of it."""
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    for m in norms:
        m.train()
    with torch.no_grad():
        net(3 * x)
    for m in norms:
        m.eval()


def _eps(net, other, x):
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.eps = 0.1


def _memory(net, other, x):
    for p, q in zip(net.parameters(), other.parameters()):
        p.data = q.data.clone()


def _one_bias(net, other, x):
    with torch.no_grad():
        net.layers[2].blocks[1].attn.attention_biases[1, 2] += 1


def _one_kernel(net, other, x):
    with torch.no_grad():
        net.layers[0].blocks[0].conv2.c.weight[3] *= 2


CHANGES = [_load, _assign, _copy, _copy_in_inference_mode, _optimise, _statistics, _eps, _memory, _one_bias, _one_kernel]


@pytest.mark.parametrize("keyed", [True, False], ids=["", "without the key"])
@pytest.mark.parametrize("change", CHANGES, ids=lambda c: c.__name__.strip("_"))
def test_a_change_of_the_weights_is_seen(assert_close, monkeypatch, change, keyed):
    """In evaluation mode all along. Without the comparison of what the kept values come from, each of these changes goes unseen."""
    if not keyed:
        monkeypatch.setattr(kept, "_same", lambda now, before: bool(before))
    (net, plain), other = _pair(**SMALL), randomise(TinyViT(**SMALL).double(), seed=1).eval()
    x = torch.randn(1, 3, 24, 24, dtype=torch.float64)
    with torch.inference_mode():
        first = net(x)[0]
    with torch.no_grad():
        assert torch.equal(net(x)[0], first)
    change(net, other, x)
    plain.load_state_dict(net.state_dict())
    if change is _eps:
        _eps(plain, other, x)
    with torch.no_grad():
        expected, got = plain(x)[0], net(x)[0]
    assert (expected - first).abs().max() > 1e-6 * first.abs().max()
    if keyed:
        assert_close(got, expected, 1e-10)
    else:
        assert (got - expected).abs().max() > 1e-6 * expected.abs().max()


@pytest.mark.parametrize("change", [lambda net: net.train().eval(), lambda net: net.eval(), lambda net: net.to(torch.float32).to(torch.float64)],
                         ids=["train", "eval", "to"])
@torch.no_grad()
def test_modes_and_moves_start_anew(assert_close, change):
    """An edit through .data leaves no trace: switching the mode, or moving, finds it."""
    net, plain = _pair(**SMALL)
    x = torch.randn(1, 3, 24, 24, dtype=torch.float64)
    net(x)
    for p in net.parameters():
        p.data.mul_(1.1)
    change(net)
    plain.load_state_dict(net.state_dict())
    assert_close(net(x)[0], plain(x)[0], 1e-10)


@torch.no_grad()
def test_nothing_is_computed_twice(monkeypatch):
    net, x = _pair(**SMALL)[0], torch.randn(1, 3, 16, 16, dtype=torch.float64)
    net(x)
    calls = []
    for kind in (ConvBN, type(net.layers[1].blocks[0].attn)):
        name = "_fold" if kind is ConvBN else "_gather"
        original = getattr(kind, name)
        monkeypatch.setattr(kind, name, lambda self, original=original: calls.append(self) or original(self))
    net(x)
    assert not calls
    block = net.layers[2].blocks[0].attn
    block.attention_biases.add_(1)
    net(x), net(x)
    assert calls == [block]


@torch.no_grad()
def test_copies_and_dtypes(assert_close):
    """A copy of a network that has run has its own weights; a network moved to another dtype has all of it there."""
    net, x = _pair(**SMALL)[0], torch.randn(1, 3, 16, 16, dtype=torch.float64)
    expected = net(x)[0]
    twin = copy.deepcopy(net)
    randomise(twin, seed=2)
    assert torch.equal(net(x)[0], expected) and not torch.allclose(twin(x)[0], expected)
    assert_close(net.float()(x.float())[0], expected, 5e-6)
    half = net.bfloat16()(x.bfloat16())[0]
    assert half.dtype == torch.bfloat16 and (half - expected).norm() < 0.1 * expected.norm()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("grad", [True, False])
def test_autocast(dtype, grad):
    """Half precision around both forms, with gradients and without: as near to the truth as the plain form is."""
    quick, plain = _pair(torch.float32, **SMALL)
    x = torch.randn(2, 3, 24, 40)
    truth = plain.double()(x.double())[0].detach()
    plain.float()
    with torch.set_grad_enabled(grad), torch.autocast("cpu", dtype):
        errors = [(net(x)[0].detach() - truth).norm() / truth.norm() for net in (quick, plain)]
    assert errors[0] < max(2 * errors[1], 0.02) and errors[0] < 0.1
    with torch.no_grad():
        assert (quick(x)[0] - truth).norm() < 1e-5 * truth.norm()  # nothing in half precision was kept


@pytest.mark.parametrize("training", [True, False])
def test_compiles_and_exports(assert_close, training):
    """One graph; without gradients it folds the weights it is called with, and keeps nothing."""
    torch._dynamo.reset()
    net = randomise(nn.Sequential(PatchEmbed(4), MBConv(4), Block(4, 2, 3)).double()).train(training)
    twin, x = copy.deepcopy(net), torch.randn(2, 3, 16, 24, dtype=torch.float64)
    compiled = torch.compile(twin, backend="aot_eager", fullgraph=True)
    if training:
        expected, got = net(x), compiled(x)
        expected.square().mean().backward(), got.square().mean().backward()
        assert_close(got.detach(), expected.detach(), 1e-10)
        assert_close(twin[2].attn.attention_biases.grad, net[2].attn.attention_biases.grad, 1e-8)
    else:
        with torch.no_grad():
            expected = net(x)
            assert_close(compiled(x), expected, 1e-10)
            assert_close(torch.export.export(net, (torch.randn_like(x),)).module()(x), expected, 1e-10)
            for part in (net, twin):
                part[1].conv1.c.weight.mul_(2)
            assert_close(compiled(x), net(x), 1e-10)
            assert (net(x) - expected).abs().max() > 1e-3
    torch._dynamo.reset()
