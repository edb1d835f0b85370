"""The blocks of IRMamba: order of pixels, initialisation, and the scan against VMamba's formulation."""
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from python_models.irmamba.blocks import Gate, PatchExpand, PatchMerging, ResBlock
from python_models.irmamba.ss2d import PDSS2D, VSSBlock, to_map, to_tokens

BACKENDS = ["ext", "reference"]


@pytest.mark.parametrize("channels, parameters", [(32, 21_056), (64, 56_448), (128, 170_240), (256, 569_856)])
def test_counts(channels, parameters):
    block = VSSBlock(channels, backend="reference")
    assert sum(p.numel() for p in block.parameters()) == parameters
    plain = VSSBlock(channels, pdmamba=False, backend="reference")
    assert parameters - sum(p.numel() for p in plain.parameters()) == 2 * 2 * 2 * channels


@pytest.mark.parametrize("channels, rank", [(8, 1), (16, 1), (17, 2), (256, 16)])
def test_initialisation(channels, rank):
    net = PDSS2D(channels, d_state=6, window=3, backend="reference")
    inner = 2 * channels
    assert {k: tuple(p.shape) for k, p in net.named_parameters(recurse=False)} == {
        "x_proj_weight": (4, rank + 12, inner), "dt_projs_weight": (4, inner, rank), "dt_projs_bias": (4, inner), "A_logs": (4 * inner, 6),
        "Ds": (4 * inner,), "W": (2, 3, inner)}
    assert torch.allclose(net.A_logs.exp(), torch.arange(1.0, 7).expand(4 * inner, 6))
    assert (net.Ds == 1).all() and not net.W.any()
    assert net.dt_projs_weight.abs().max() <= rank**-0.5 and net.dt_projs_weight.abs().max() > 0.8 * rank**-0.5
    assert (net.out_norm.eps, VSSBlock(channels, backend="reference").ln_1.eps) == (1e-5, 1e-6)
    assert [net.in_proj.bias, net.out_proj.bias] == [None, None] and net.conv2d.bias is not None


def test_steps_start_log_uniform():
    step = F.softplus(PDSS2D(512, backend="reference").dt_projs_bias.double()).log10()
    assert -3.001 < step.min() < -2.9 and -1.1 < step.max() < -0.999
    share = torch.histc(step, 4, -3, -1) / step.numel()
    assert ((share - 0.25).abs() < 0.03).all()


def _vmamba(net, tokens):
    """SS2D in the order of VMamba: every direction's sequence first, then the projections, then the scan, then the merge. Without W."""
    batch, rows, columns, _ = tokens.shape
    x, z = net.in_proj(tokens).chunk(2, -1)
    u = F.silu(net.conv2d(x.permute(0, 3, 1, 2)))
    by_row, by_column = u.flatten(2), u.transpose(2, 3).flatten(2)
    xs = torch.stack((by_row, by_column, by_row.flip(2), by_column.flip(2)), 1)  # [B, K, D, L]
    dts, bs, cs = torch.einsum("bkdl,kcd->bkcl", xs, net.x_proj_weight).split([net.rank, net.d_state, net.d_state], 2)
    delta = F.softplus(torch.einsum("bkrl,kdr->bkdl", dts, net.dt_projs_weight) + net.dt_projs_bias[..., None])
    a = -net.A_logs.exp().view(4, -1, net.d_state)
    h, ys = 0, []
    for t in range(rows * columns):
        d = delta[..., t, None]
        h = torch.exp(d * a) * h + d * bs[:, :, None, :, t] * xs[..., t, None]
        ys.append((h * cs[:, :, None, :, t]).sum(-1))
    y = torch.stack(ys, -1) + net.Ds.view(4, -1, 1) * xs
    y = y[:, :2] + y[:, 2:].flip(3)
    y = y[:, 0].unflatten(2, (rows, columns)) + y[:, 1].unflatten(2, (columns, rows)).transpose(2, 3)
    return net.out_proj(net.out_norm(y.permute(0, 2, 3, 1)) * F.silu(z))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(2, 5, 7), (1, 8, 3), (1, 1, 6)])
def test_equals_vmamba_without_differences(assert_close, backend, shape):
    net = PDSS2D(20, d_state=3, backend=backend).double()
    tokens = torch.randn(*shape, 20, dtype=torch.float64)
    expected = _vmamba(net, tokens).detach()
    assert_close(net(tokens).detach(), expected, 1e-11)
    nn.init.normal_(net.W, std=0.1)
    assert (net(tokens) - expected).abs().max() > 1e-3 * expected.abs().max()
    net.W = None
    assert_close(net(tokens).detach(), expected, 1e-11)


@pytest.mark.parametrize("backend", BACKENDS)
def test_transposing_swaps_directions(assert_close, backend):
    """Rows and columns have the same weight in the design: the transposed image, with the directions exchanged, gives the transposed result."""
    net, twin = (PDSS2D(8, d_state=3, backend=backend).double() for _ in range(2))
    nn.init.normal_(net.W, std=0.5)
    swapped = {k: v.clone() for k, v in net.state_dict().items()}
    order = torch.tensor([1, 0, 3, 2])
    for name in ("x_proj_weight", "dt_projs_weight", "dt_projs_bias"):
        swapped[name] = swapped[name][order]
    for name in ("A_logs", "Ds"):
        swapped[name] = swapped[name].unflatten(0, (4, -1))[order].flatten(0, 1)
    swapped["W"], swapped["conv2d.weight"] = swapped["W"].flip(0), swapped["conv2d.weight"].transpose(2, 3)
    tokens = torch.randn(2, 9, 6, 8, dtype=torch.float64)
    twin.load_state_dict(net.state_dict())
    assert (twin(tokens.transpose(1, 2)).transpose(1, 2) - net(tokens)).abs().max() > 1e-3
    twin.load_state_dict(swapped)
    assert_close(twin(tokens.transpose(1, 2)).transpose(1, 2).detach(), net(tokens).detach(), 1e-11)


def test_the_operator_gets_its_fast_layout(monkeypatch):
    """Channels innermost in every image, and B and C as parts of one projection: nothing on the way was copied."""
    net, seen = PDSS2D(32, backend="reference"), []
    scan = net.scan
    monkeypatch.setattr(net, "scan", lambda *args: seen.extend(args) or scan(*args))
    net(torch.randn(2, 6, 4, 32))
    u, delta, a, b, c = seen[:5]
    assert (u.shape, delta.shape, a.shape, b.shape, c.shape) == ((2, 64, 6, 4), (2, 4, 64, 6, 4), (256, 16), (2, 4, 16, 6, 4), (2, 4, 16, 6, 4))
    assert u.is_contiguous(memory_format=torch.channels_last)
    assert delta.stride()[2:] == (1, 4 * 64, 64)
    width = 4 * (2 + 32)
    assert b.stride() == c.stride() == (24 * width, 2 + 32, 1, 4 * width, width)
    assert b.untyped_storage().data_ptr() == c.untyped_storage().data_ptr()


def test_vss_block_is_residual():
    block, tokens = VSSBlock(8, d_state=2, backend="reference"), torch.randn(1, 4, 5, 8)
    inner = block.self_attention(block.ln_1(tokens))
    assert torch.allclose(block(tokens), tokens + inner) and inner.abs().max() > 0
    block.self_attention.out_proj.weight.data.zero_()
    assert torch.equal(block(tokens), tokens)


@pytest.mark.parametrize("backend", BACKENDS)
def test_block_compiles_and_exports(assert_close, backend):
    torch._dynamo.reset()
    net, twin = (VSSBlock(4, d_state=2, backend=backend).double() for _ in range(2))
    nn.init.normal_(net.self_attention.W, std=0.1)
    twin.load_state_dict(net.state_dict())
    compiled = torch.compile(twin, backend="aot_eager", fullgraph=True)
    tokens = torch.randn(2, 5, 4, 4, dtype=torch.float64)
    expected, got = net(tokens), compiled(tokens)
    expected.square().sum().backward(), got.square().sum().backward()
    assert_close(got.detach(), expected.detach(), 1e-12)
    for (name, p), q in zip(net.named_parameters(), twin.parameters()):
        assert_close(q.grad, p.grad, 1e-10, name)
    assert_close(torch.export.export(net, (torch.randn_like(tokens),)).module()(tokens).detach(), expected.detach(), 1e-12)
    torch._dynamo.reset()


def test_tokens_and_maps_are_views():
    x = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    tokens = to_tokens(x)
    assert tokens.shape == (2, 4, 5, 3) and tokens.is_contiguous() and torch.equal(to_map(tokens), x)
    assert to_map(tokens).data_ptr() == x.data_ptr()


def test_patch_merging_order():
    merging = PatchMerging(1, 4)
    merging.reduction.weight.data.copy_(torch.eye(4))
    tokens = torch.arange(24.0).view(1, 4, 6, 1)
    offsets = [(0, 0), (1, 0), (0, 1), (1, 1)]
    four = torch.cat([tokens[:, r::2, c::2] for r, c in offsets], -1)
    assert torch.allclose(merging(tokens), merging.norm(four)) and not torch.allclose(merging(tokens), merging.norm(four[..., [0, 2, 1, 3]]))


def test_patch_expand_order():
    expand, tokens = PatchExpand(6, 3), torch.randn(2, 4, 5, 6)
    expand.norm.bias.data.normal_(), expand.norm.weight.data.normal_()
    wide, out = expand.expand(tokens), expand(tokens)
    assert out.shape == (2, 8, 10, 3) and out.is_contiguous()
    for row in (0, 1):
        for column in (0, 1):
            first = (2 * row + column) * 3
            assert torch.allclose(out[:, row::2, column::2], expand.norm(wide[..., first:first + 3]), atol=1e-6)


def test_gate():
    gate, c, v = Gate(3), torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    g = torch.sigmoid(gate.conv(torch.cat((c, v), 1)))
    got_c, got_v = gate(c, v)
    assert torch.allclose(got_c, c + g[:, :3] * v) and torch.allclose(got_v, v + g[:, 3:] * c)


@pytest.mark.parametrize("widths, shortcut", [((4, 4), nn.Identity), ((4, 8), nn.Sequential)])
def test_res_block(widths, shortcut):
    block, x = ResBlock(*widths).eval(), torch.randn(2, 4, 6, 7)
    assert isinstance(block.shortcut, shortcut) and all(m.bias is None for m in block.modules() if isinstance(m, nn.Conv2d))
    block.residual[-1].weight.data.zero_()
    assert torch.allclose(block(x), torch.relu(block.shortcut(x)))
