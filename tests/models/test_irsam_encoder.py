"""IRSAM's encoder against its specification: sizes, keys, and every block against an independent form."""
import inspect
from math import erf, sqrt

import pytest
import torch
from models.irsam_nets import SMALL, randomise
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from irstd_ext.reference.wavelet_diffusion import wavelet_diffusion
from python_models.irsam.conv_bn import ConvBN, DoubledConvBN
from python_models.irsam.encoder import Block, MBConv, PatchEmbed, PatchMerging, TinyViT
from python_models.irsam.window_attention import WinAttn
from python_models.irsam.wpmd import WPMD


def _count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.fixture(scope="module")
def paper():
    with torch.device("meta"):
        return TinyViT(wpmd_blocks=4, backend="reference")


def test_parameter_counts(paper):
    layers = paper.layers
    assert _count(paper) - _count(paper.wpmd) == 6_065_532
    assert (_count(paper.norm_head), _count(paper.head)) == (640, 321_000) and paper.unused() == [paper.norm_head, paper.head]
    assert _count(paper.patch_embed) == 19_488 and _count(paper.neck) == 672_768
    assert [_count(stage) for stage in layers] == [98_944, 448_232, 2_030_520, 2_473_940]
    assert [[_count(block) for block in stage.blocks] for stage in layers] == [[36_224] * 2, [199_876] * 2, [312_020] * 6, [1_236_970] * 2]
    assert [_count(stage.downsample) for stage in layers[:3]] == [26_496, 48_480, 158_400] and layers[3].downsample is None
    assert [_count(block) for block in paper.wpmd] == [36_992, 147_712, 230_720, 922_240]
    assert sum(isinstance(m, ConvBN) for m in paper.modules()) == 27


def test_operations():
    """Billions of operations at 512x512, two for each multiply-accumulate, of the plain form: its padded windows are counted too."""
    with torch.device("meta"):
        net, x = TinyViT(rewrites=False).eval(), torch.empty(1, 3, 512, 512)
    with FlopCounterMode(display=False) as counter:
        net(x)
    counts = {name: round(sum(c.values()) / 1e9, 3) for name, c in counter.get_flop_counts().items()}
    assert counts["Global"] == 77.537
    assert [counts[f"TinyViT.{part}"] for part in ("patch_embed", "layers.0", "layers.1", "layers.2", "layers.3", "neck")] == [
        2.869, 10.842, 15.083, 21.128, 22.112, 5.503]


def _conv_bn(name, out, *kernel):
    norm = {f"{name}.bn.{part}": (out,) for part in ("weight", "bias", "running_mean", "running_var")}
    return {f"{name}.c.weight": (out, *kernel), **norm, f"{name}.bn.num_batches_tracked": ()}


def _linear(name, out, width):
    return {f"{name}.weight": (out, width), f"{name}.bias": (out,)}


def _norm(name, width):
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _keys():
    """MobileSAM's names and shapes of the encoder, in its order."""
    keys = _conv_bn("patch_embed.seq.0", 32, 3, 3, 3) | _conv_bn("patch_embed.seq.2", 64, 32, 3, 3)
    for i, (width, depth, heads, window) in enumerate(zip((64, 128, 160, 320), (2, 2, 6, 2), (2, 4, 5, 10), (7, 7, 14, 7))):
        for block in (f"layers.{i}.blocks.{n}" for n in range(depth)):
            if i == 0:
                keys |= _conv_bn(f"{block}.conv1", 256, 64, 1, 1) | _conv_bn(f"{block}.conv2", 256, 1, 3, 3)
                keys |= _conv_bn(f"{block}.conv3", 64, 256, 1, 1)
                continue
            keys |= {f"{block}.attn.attention_biases": (heads, window**2)} | _norm(f"{block}.attn.norm", width)
            keys |= _linear(f"{block}.attn.qkv", 3 * width, width) | _linear(f"{block}.attn.proj", width, width) | _norm(f"{block}.mlp.norm", width)
            keys |= _linear(f"{block}.mlp.fc1", 4 * width, width) | _linear(f"{block}.mlp.fc2", width, 4 * width)
            keys |= _conv_bn(f"{block}.local_conv", width, 1, 3, 3)
        if i < 3:
            name, out = f"layers.{i}.downsample", (128, 160, 320)[i]
            keys |= _conv_bn(f"{name}.conv1", out, width, 1, 1) | _conv_bn(f"{name}.conv2", out, 1, 3, 3) | _conv_bn(f"{name}.conv3", out, out, 1, 1)
    keys |= _norm("norm_head", 320) | _linear("head", 1000, 320)
    return keys | {"neck.0.weight": (256, 320, 1, 1)} | _norm("neck.1", 256) | {"neck.2.weight": (256, 256, 3, 3)} | _norm("neck.3", 256)


def test_keys(paper):
    with torch.device("meta"):
        public = TinyViT()
    shapes = {name: tuple(t.shape) for name, t in public.state_dict().items()}
    assert shapes == _keys() and list(shapes) == list(_keys()) and len(shapes) == 302
    new = {name: tuple(t.shape) for name, t in paper.state_dict().items() if name not in shapes}
    assert new == {f"wpmd.{i}.{name}": shape for i, c in enumerate((64, 128, 160, 320))
                   for name, shape in (("kappa", (c,)), ("proj.weight", (c, c, 3, 3)), ("proj.bias", (c,)))}


def test_small_constants(paper):
    """Figures that are easily mistaken and hardly show in a result."""
    assert {m.eps for m in paper.modules() if isinstance(m, nn.LayerNorm)} == {1e-5}
    assert {m.eps for m in paper.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-5}
    assert [m.eps for m in paper.neck if hasattr(m, "eps")] == [1e-6, 1e-6]
    assert [stage.downsample.stride for stage in paper.layers[:3]] == [2, 2, 1]
    assert [[b.attn.window for b in stage.blocks] for stage in paper.layers[1:]] == [[7] * 2, [14] * 6, [7] * 2]
    net = TinyViT(**SMALL)
    assert not any(block.conv3.bn.weight.any() for block in net.layers[0].blocks)
    assert not any(p.any() for name, p in net.named_parameters() if "attention_biases" in name)


@pytest.mark.parametrize("rewrites", [True, False])
def test_gelu_is_exact(rewrites):
    block = MBConv(4, rewrites=rewrites).double().eval()
    x = torch.linspace(-4, 4, 64, dtype=torch.float64).view(1, 4, 4, 4)
    exact = torch.tensor([v * 0.5 * (1 + erf(v / sqrt(2))) for v in x.flatten().tolist()], dtype=torch.float64).view_as(x)
    with torch.no_grad():
        assert (block(x) - exact).abs().max() < 1e-14  # it starts as GELU(x)


def _attention(net, tokens, masked_padding=False, global_blocks=False):
    """Window attention of one image, query by query: tokens [H, W, C]. masked_padding, global_blocks: mistakes."""
    height, width, channels = tokens.shape
    side, dim = net.window, channels // net.heads

    def project(row, column):
        token = tokens[row, column] if row < height and column < width else torch.zeros(channels, dtype=tokens.dtype)
        deviation = (token.var(correction=0) + 1e-5).sqrt()
        token = (token - token.mean()) / deviation * net.norm.weight + net.norm.bias
        return net.qkv.weight @ token + net.qkv.bias

    out = torch.empty_like(tokens)
    for row in range(height):
        for column in range(width):
            top, left = row // side * side, column // side * side
            places = [(r, c) for r in range(top, top + side) for c in range(left, left + side)]  # with those outside the image
            if masked_padding:
                places = [(r, c) for r, c in places if r < height and c < width]
            query, others, heads = project(row, column), torch.stack([project(*place) for place in places]), []
            for head in range(net.heads):
                start = dim * head if global_blocks else 3 * dim * head
                step = channels if global_blocks else dim
                bias = torch.stack([net.attention_biases[head, abs(r - row) * side + abs(c - column)] for r, c in places])
                logits = others[:, start + step:start + step + dim] @ query[start:start + dim] / sqrt(dim) + bias
                heads.append(logits.softmax(0) @ others[:, start + 2 * step:start + 2 * step + dim])
            out[row, column] = tokens[row, column] + net.proj.weight @ torch.cat(heads) + net.proj.bias
    return out


@pytest.mark.parametrize("rewrites", [True, False])
@pytest.mark.parametrize("size, window", [((5, 7), 3), ((6, 4), 2), ((2, 3), 4), ((1, 1), 3)])
@torch.no_grad()
def test_window_attention(assert_close, rewrites, size, window):
    """Windows that fill the map, that reach beyond it, and one larger than the map."""
    net = randomise(WinAttn(8, 2, window, rewrites).double())
    tokens = torch.randn(2, *size, 8, dtype=torch.float64)
    assert_close(net(tokens), torch.stack([_attention(net, image) for image in tokens]), 1e-12)


@pytest.mark.parametrize("mistake", ["masked padding", "global blocks"])
@torch.no_grad()
def test_other_attention_fails(mistake):
    """The comparison tells the attention from its neighbours: padding that is masked, q, k and v of all heads in three blocks."""
    net = randomise(WinAttn(8, 2, 3).double())
    tokens = torch.randn(1, 5, 7, 8, dtype=torch.float64)
    other = _attention(net, tokens[0], **{mistake.replace(" ", "_"): True})
    assert (net(tokens)[0] - other).abs().max() > 1e-2
    assert (net(tokens[:, :3, :3])[0] - _attention(net, tokens[0, :3, :3], masked_padding=True)).abs().max() < 1e-12  # nothing padded


def _norm_eval(x, layer):
    bn = layer.bn
    shape = (1, -1, 1, 1)
    return (x - bn.running_mean.view(shape)) / (bn.running_var + 1e-5).sqrt().view(shape) * bn.weight.view(shape) + bn.bias.view(shape)


def _conv(x, layer):
    return _norm_eval(F.conv2d(x, layer.c.weight, None, layer.c.stride, layer.c.padding, 1, layer.c.groups), layer)


@pytest.mark.parametrize("rewrites", [True, False])
@torch.no_grad()
def test_convolutional_blocks(assert_close, rewrites):
    x = torch.randn(2, 6, 9, 7, dtype=torch.float64)
    mb, merge2, merge1 = MBConv(6, rewrites), PatchMerging(6, 8, 2, rewrites), PatchMerging(6, 8, 1, rewrites)
    for net in (mb, merge2, merge1):
        randomise(net.double()).eval()
        body = _conv(F.gelu(_conv(F.gelu(_conv(x, net.conv1)), net.conv2)), net.conv3)
        assert_close(net(x), F.gelu(body + x) if net is mb else body, 1e-12)
    assert mb.conv1.c.out_channels == 24 and merge2(x).shape == (2, 8, 5, 4) and merge1(x).shape == (2, 8, 9, 7)


@pytest.mark.parametrize("rewrites", [True, False])
@torch.no_grad()
def test_patch_embedding(assert_close, rewrites):
    net = randomise(PatchEmbed(8, rewrites).double()).eval()
    image = torch.randn(2, 3, 8, 12, dtype=torch.float64)
    big = image.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert_close(net(image), _conv(F.gelu(_conv(big, net.seq[0])), net.seq[2]), 1e-12)
    assert isinstance(net.seq[0], DoubledConvBN) and net(image).shape == (2, 8, 4, 6)


@pytest.mark.parametrize("rewrites", [True, False])
@torch.no_grad()
def test_block(assert_close, rewrites):
    """Attention with a shortcut, the depthwise convolution with none, the MLP with one."""
    net, x = randomise(Block(8, 2, 3, rewrites).double()).eval(), torch.randn(1, 8, 5, 7, dtype=torch.float64)
    y = _attention(net.attn, x[0].permute(1, 2, 0)).permute(2, 0, 1)[None]
    tokens = _conv(y, net.local_conv).permute(0, 2, 3, 1)
    hidden = F.gelu(F.linear(F.layer_norm(tokens, (8,), net.mlp.norm.weight, net.mlp.norm.bias), net.mlp.fc1.weight, net.mlp.fc1.bias))
    expected = tokens + F.linear(hidden, net.mlp.fc2.weight, net.mlp.fc2.bias)
    assert_close(net(x), expected.permute(0, 3, 1, 2), 1e-12)


@pytest.mark.parametrize("rewrites", [True, False])
@torch.no_grad()
def test_stages_and_tap(rewrites):
    """WPMD at the inputs of the stages; the tap is the second stage's output, before the third one's WPMD."""
    net = randomise(TinyViT(**SMALL, wpmd_blocks=3, backend="reference", rewrites=rewrites).double()).eval()
    x = y = torch.randn(1, 3, 24, 16, dtype=torch.float64)
    y, maps = net.patch_embed(y), []
    for i, stage in enumerate(net.layers):
        maps.append(y)
        y = stage(net.wpmd[i](y) if i < 3 else y)
    out, tap = net(x, shallow=True)
    assert torch.allclose(tap, maps[2], rtol=0, atol=1e-12) and torch.allclose(out, net.neck(y), rtol=0, atol=1e-12)
    assert [tuple(m.shape[1:]) for m in maps] == [(8, 12, 8), (16, 6, 4), (16, 3, 2), (32, 3, 2)]
    assert out.shape == (1, 12, 3, 2) and net(x)[1] is None
    middle = net.neck[2](net.neck[1](net.neck[0](y)))
    mean, variance = middle.mean(1, keepdim=True), middle.var(1, correction=0, keepdim=True)
    last = (middle - mean) / (variance + 1e-6).sqrt() * net.neck[3].weight.view(1, -1, 1, 1) + net.neck[3].bias.view(1, -1, 1, 1)
    assert torch.allclose(out, last, rtol=0, atol=1e-12)


@torch.no_grad()
def test_wpmd(assert_close):
    block, x = WPMD(6, steps=2, all_high=True, backend="reference").double(), torch.randn(2, 6, 7, 5, dtype=torch.float64)
    assert torch.equal(block(x), x) and (block.k() - 1).abs().max() < 1e-6
    randomise(block)
    diffused = wavelet_diffusion(x, (1 + block.kappa.exp()).log(), 2, True)
    assert_close(block(x), x + F.conv2d(diffused, block.proj.weight, block.proj.bias, padding=1), 1e-12)
    defaults = {name: p.default for name, p in inspect.signature(WPMD.__init__).parameters.items()}
    assert (defaults["steps"], defaults["all_high"], defaults["backend"]) == (3, False, "ext")


def test_wpmd_learns():
    """kappa gets no gradient until the convolution has moved, and one from then on."""
    block, x = WPMD(4, backend="reference"), torch.randn(1, 4, 8, 8)
    block(x).square().sum().backward()
    assert not block.kappa.grad.any() and block.proj.weight.grad.any()
    with torch.no_grad():
        block.proj.weight.sub_(0.1 * block.proj.weight.grad)
    block(x).square().sum().backward()
    assert block.kappa.grad.all()


@pytest.mark.parametrize("options, message", [
    ({"dims": (8, 16, 16)}, r"TinyViT: dims must be four integers > 0, got \(8, 16, 16\)"),
    ({"depths": (1, 1, 0, 1)}, r"TinyViT: depths must be four integers > 0, got \(1, 1, 0, 1\)"),
    ({"dims": (9, 16, 16, 32)}, r"TinyViT: dims\[0\] must be even, got 9"),
    ({"heads": (1, 3, 2, 4)}, r"WinAttn: heads must divide the 16 channels, got 3"),
    ({"wpmd_blocks": 5}, r"TinyViT: wpmd_blocks must be 0 to 4, got 5"),
    ({"wpmd_blocks": 1, "steps": -1, "backend": "reference"}, r"WPMD: steps must be an integer >= 0, got -1"),
])
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        TinyViT(**{**SMALL, **options})
