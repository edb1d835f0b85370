"""IRSAM's decoder and edge head against an independent form of the same, one image and one head at a time, and what each part of it is worth."""
import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from python_models.irsam.decoder import MaskDecoder
from python_models.irsam.kept import Kept
from python_models.irsam.prompt import PromptEncoder
from python_models.irsam.two_way import Attention, ImageToToken, TokenToImage

WIDTH, TAP, HIDDEN = 32, 16, 48


def _randomise(module, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in module.named_parameters():
            spread = 0.3 * torch.randn(p.shape, generator=generator, dtype=p.dtype)
            p.copy_(1 + spread if "norm" in name and name.endswith("weight") else p + spread)
    return module


def _pair(dtype=torch.float64, **options):
    """The same weights with and without the rewrites, and the prompt encoder."""
    torch.manual_seed(0)
    quick = _randomise(MaskDecoder(WIDTH, TAP, HIDDEN, **options)).to(dtype)
    plain = MaskDecoder(WIDTH, TAP, HIDDEN, rewrites=False, **options).to(dtype)
    plain.load_state_dict(quick.state_dict())
    return quick, plain, _randomise(PromptEncoder(WIDTH)).to(dtype)


def _inputs(batch=2, h=5, w=7, dtype=torch.float64):
    return torch.randn(batch, WIDTH, h, w, dtype=dtype), torch.randn(batch, TAP, h, w, dtype=dtype)


class Independent:
    """The decoder from the specification, for one image; `wrong` leaves one thing out or does it differently."""

    def __init__(self, decoder, prompt, wrong=""):
        self.s = {**decoder.state_dict(), **{f"prompt.{k}": v for k, v in prompt.state_dict().items()}}
        self.wrong, self.multi_act = wrong, torch.relu

    def linear(self, x, name):
        return x @ self.s[f"{name}.weight"].T + self.s[f"{name}.bias"]

    def attention(self, name, q, k, v, heads=8):
        name = f"transformer.{name}"
        q, k, v = self.linear(q, f"{name}.q_proj"), self.linear(k, f"{name}.k_proj"), self.linear(v, f"{name}.v_proj")
        d, parts = q.shape[1] // heads, []
        for i in range(heads):
            part = slice(i * d, i * d + d)
            parts.append(torch.softmax(q[:, part] @ k[:, part].T / math.sqrt(d), 1) @ v[:, part])
        return self.linear(torch.cat(parts, 1), f"{name}.out_proj")

    def norm(self, x, name):
        mean, var = x.mean(1, keepdim=True), x.var(1, unbiased=False, keepdim=True)
        return (x - mean) / (var + 1e-5).sqrt() * self.s[f"transformer.{name}.weight"] + self.s[f"transformer.{name}.bias"]

    def pixel_norm(self, x, name):
        mean, var = x.mean(0), x.var(0, unbiased=False)
        return (x - mean) / (var + 1e-6).sqrt() * self.s[f"{name}.weight"][:, None, None] + self.s[f"{name}.bias"][:, None, None]

    def up(self, x, name, **how):
        return F.conv_transpose2d(x[None], self.s[f"{name}.weight"], self.s[f"{name}.bias"], **(how or {"stride": 2}))[0]

    def mlp(self, x, name):
        return self.linear(torch.relu(self.linear(torch.relu(self.linear(x, f"{name}.layers.0")), f"{name}.layers.1")), f"{name}.layers.2")

    def branch(self, x, name):
        return self.up(self.multi_act(self.pixel_norm(self.up(x, f"{name}.0"), f"{name}.1")), f"{name}.3")

    def positions(self, h, w):
        matrix, rows = self.s["prompt.pe_layer.positional_encoding_gaussian_matrix"], []
        for i in range(h):
            for j in range(w):
                c = torch.tensor([(j + 0.5) / w, (i + 0.5) / h], dtype=matrix.dtype)
                c = c.flip(0) if self.wrong == "order of x and y" else c
                angle = 2 * math.pi * ((2 * c - 1) @ matrix)
                rows.append(torch.cat((angle.sin(), angle.cos())))
        return torch.stack(rows)

    def __call__(self, x, tap):
        wrong, (h, w) = self.wrong, x.shape[1:]
        tokens = torch.cat([self.s["iou_token.weight"], self.s["mask_tokens.weight"], self.s["edge_token.weight"]])
        mask, edge = 1, 5
        if wrong == "no IoU token":
            tokens, mask, edge = tokens[1:], 0, 4
        elif wrong == "one mask token":
            tokens, edge = tokens[[0, 1, 5]], 2
        elif wrong == "edge token first":
            mask, edge = 2, 0
            tokens = tokens[[5, 0, 1, 2, 3, 4]]  # attention does not see the order: must be the same
        elif wrong == "mask token is the first":
            mask = 0
        pe = self.positions(h, w)
        keys = (x if wrong == "no_mask_embed" else x + self.s["prompt.no_mask_embed.weight"][0][:, None, None]).flatten(1).T
        q = tokens
        for i in range(2):
            name, r = f"layers.{i}", q + tokens
            if i == 0 and wrong != "positions in layer 0":
                q = self.attention(f"{name}.self_attn", q, q, q) + (q if wrong == "residual in layer 0" else 0)
            elif i == 0:
                q = self.attention(f"{name}.self_attn", r, r, q)
            else:
                q = q + self.attention(f"{name}.self_attn", r, r, r if wrong == "positions on values" else q)
            q = self.norm(q, f"{name}.norm1")
            q = self.norm(q + self.attention(f"{name}.cross_attn_token_to_image", q + tokens, keys + pe, keys), f"{name}.norm2")
            inner = torch.relu(self.linear(q, f"transformer.{name}.mlp.lin1"))
            q = self.norm(q + self.linear(inner, f"transformer.{name}.mlp.lin2"), f"{name}.norm3")
            keys = self.norm(keys + self.attention(f"{name}.cross_attn_image_to_token", keys + pe, q + tokens, q), f"{name}.norm4")
        q = self.norm(q + self.attention("final_attn_token_to_image", q + tokens, keys + pe, keys), "norm_final_attn")
        coarse = F.gelu(self.pixel_norm(self.up(keys.T.reshape(-1, h, w), "output_upscaling.0"), "output_upscaling.1"))
        coarse = F.gelu(self.up(coarse, "output_upscaling.3"))
        same = {"stride": 1, "padding": 1}
        fine = F.gelu(self.pixel_norm(self.up(coarse, "embedding_maskfeature.0", **same), "embedding_maskfeature.1"))
        dense = self.s["prompt.no_mask_embed.weight"][0][:, None, None] if wrong == "dense prompt in X_deep" else 0
        fine = self.up(fine, "embedding_maskfeature.3", **same) + self.branch(x + dense, "embedding_encoder")
        fine = fine + (0 if wrong == "no shallow branch" else self.branch(tap, "compress_vit_feat"))
        e = torch.sigmoid((self.mlp(q[edge], "edge_mlp")[:, None, None] * fine).sum(0, keepdim=True))
        m = (self.mlp(q[mask], "output_hypernetworks_mlps.0")[:, None, None] * coarse).sum(0, keepdim=True)
        return (m if wrong == "no gate" else m * (1 + e)), e


def _relative(got, expected):
    return ((got.double() - expected.double()).norm() / expected.double().norm()).item()


def _run(decoder, prompt, x, tap):
    return decoder(x, tap, *prompt(*x.shape[2:]))


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 5e-6)])
def test_equals_the_independent_form(dtype, tolerance, grad):
    quick, plain, prompt = _pair()
    x, tap = _inputs()
    expected = [torch.stack(maps) for maps in zip(*(Independent(quick, prompt)(*pair) for pair in zip(x, tap)))]
    quick, plain, prompt = quick.to(dtype), plain.to(dtype), prompt.to(dtype)
    with torch.set_grad_enabled(grad):
        for decoder in (quick, plain, quick):  # twice: the second time from what is kept
            for got, want in zip(_run(decoder, prompt, x.to(dtype), tap.to(dtype)), expected):
                assert got.dtype == dtype and got.shape == want.shape and _relative(got, want) < tolerance


@pytest.mark.parametrize("wrong, mask_moves", [
    ("no IoU token", True), ("one mask token", True), ("mask token is the first", True), ("positions in layer 0", True),
    ("residual in layer 0", True), ("positions on values", True),
    ("no_mask_embed", True), ("order of x and y", True), ("no gate", True), ("dense prompt in X_deep", True),
    ("no shallow branch", True), ("edge token first", False)])
def test_every_trap_of_the_decoder_shows(wrong, mask_moves):
    """The equality above tells each of these mistakes; the order of the tokens alone is no mistake."""
    quick, _, prompt = _pair()
    x, tap = _inputs(batch=1)
    logits, _ = _run(quick, prompt, x, tap)
    moved = _relative(Independent(quick, prompt, wrong)(x[0], tap[0])[0][None], logits.detach())
    assert moved > 1e-4 if mask_moves else moved < 1e-12


def test_options_of_the_branches():
    x, tap = _inputs()
    results = []
    for options in ({}, {"shallow": False}, {"deep": False}, {"shallow": False, "deep": False}, {"multi_act": "gelu"}):
        quick, plain, prompt = _pair(**options)
        quick.load_state_dict(_pair()[0].state_dict())
        plain.load_state_dict(quick.state_dict())
        given = tap if options.get("shallow", True) else None
        (logits, edge), (want, want_edge) = _run(quick, prompt, x, given), _run(plain, prompt, x, given)
        assert _relative(logits, want) < 1e-12 and _relative(edge, want_edge) < 1e-12
        results.append(edge.detach())
    assert all(_relative(a, b) > 1e-3 for i, a in enumerate(results) for b in results[:i])


def test_without_the_edge_five_tokens_remain():
    quick, plain, prompt = _pair(edge=False)
    x, _ = _inputs()
    (logits, edge), (want, _) = _run(quick, prompt, x, None), _run(plain, prompt, x, None)
    assert edge is None and _relative(logits, want) < 1e-12
    with torch.no_grad():
        quick.edge_token.weight.add_(1), quick.edge_mlp.layers[0].weight.add_(1)
        assert _relative(_run(quick, prompt, x, None)[0], want) < 1e-12


def test_batch_equals_each_image():
    for decoder in _pair()[:2]:
        prompt = _pair()[2]
        x, tap = _inputs(batch=3)
        together = _run(decoder, prompt, x, tap)
        for i in range(3):
            for got, all_of_them in zip(_run(decoder, prompt, x[i:i + 1], tap[i:i + 1]), together):
                assert _relative(got, all_of_them[i:i + 1]) < 1e-13


def test_gradients_of_both_forms_agree():
    quick, plain, prompt = _pair()
    x, tap = _inputs()
    grads = []
    for decoder in (quick, plain):
        logits, edge = _run(decoder, prompt, x, tap)
        (logits.square().sum() + edge.square().sum()).backward()
        grads.append({n: p.grad for n, p in decoder.named_parameters() if not n.startswith("output_hypernetworks_mlps") or ".0.layers" in n})
    largest = max(g.abs().max() for g in grads[1].values() if g is not None)
    dead = {name for name, g in grads[1].items() if g is None}
    assert {name.split(".")[0] for name in dead} == {"iou_prediction_head", "transformer"} and {n for n, g in grads[0].items() if g is None} == dead
    frozen = {name for name, p in plain.transformer.named_parameters("transformer") if not p.requires_grad}
    assert {name for name in dead if name.startswith("transformer")} == frozen and len(frozen) == 3
    for name in grads[1].keys() - dead:
        assert (grads[0][name] - grads[1][name]).abs().max() < 1e-10 * largest, name


def test_the_mask_reaches_the_edge_branch():
    quick, _, prompt = _pair()
    x, tap = _inputs()
    _run(quick, prompt, x, tap)[0].sum().backward()
    for part in ("edge_token", "edge_mlp", "embedding_maskfeature", "embedding_encoder", "compress_vit_feat"):
        assert all(p.grad.abs().max() > 0 for p in getattr(quick, part).parameters()), part


@pytest.mark.parametrize("kind, few", [(TokenToImage, "q"), (ImageToToken, "kv")])
def test_attention_without_projected_pixels(assert_close, kind, few):
    plain = _randomise(Attention(32, 16)).double()
    quick = kind(32, 16).double()
    quick.load_state_dict(plain.state_dict())
    tokens, pixels, more = (torch.randn(2, n, 32, dtype=torch.float64) for n in (6, 20, 20))
    q, k, v = (tokens, pixels, more) if few == "q" else (pixels, tokens, tokens + 1)
    assert_close(quick(q, k, v).detach(), plain(q, k, v).detach(), 1e-13)


def test_position_encoding_in_float32():
    """At the real size and a full-scale matrix: float32 costs about 2e-8 relative to the matrix product's argument."""
    prompt = PromptEncoder(256)
    exact = copy.deepcopy(prompt).double()(64, 64)[0]
    assert prompt(64, 64)[0].shape == (1, 4096, 256)
    assert (prompt(64, 64)[0].double() - exact).norm() / exact.norm() < 1e-6
    with torch.autocast("cpu", torch.bfloat16):
        assert (prompt(64, 64)[0].double() - exact).norm() / exact.norm() < 1e-6


@pytest.mark.parametrize("change", ["load", "assign", "edit", "data", "dtype", "there and back", "grid"])
def test_nothing_kept_is_stale(change):
    quick, plain, prompt = _pair()
    fresh = PromptEncoder(WIDTH, keep=False).double()
    (x, tap), size = _inputs(), (5, 7)
    with torch.inference_mode():
        _run(quick, prompt, x, tap)
    modules = (quick, prompt)
    with torch.no_grad():
        if change in ("load", "assign"):
            for module in modules:
                other = {k: v + 0.1 * torch.randn_like(v) for k, v in module.state_dict().items()}
                module.load_state_dict(other, assign=change == "assign")
        elif change == "edit":
            quick.iou_token.weight.add_(0.5), prompt.pe_layer.positional_encoding_gaussian_matrix.mul_(1.1)
        elif change == "data":
            quick.edge_token.weight.data.add_(0.5), prompt.pe_layer.positional_encoding_gaussian_matrix.data.mul_(1.1)
            quick.eval(), prompt.eval()
        elif change == "dtype":
            quick.float(), prompt.float(), plain.float(), fresh.float()
            x, tap = x.float(), tap.float()
        elif change == "there and back":
            quick.half().double(), prompt.half().double()
        else:
            size = (7, 5)
            x, tap = x.transpose(2, 3), tap.transpose(2, 3)
        plain.load_state_dict(quick.state_dict()), fresh.load_state_dict(prompt.state_dict())
        tolerance = 1e-12 if x.dtype == torch.float64 else 5e-6
        for got, want in zip(quick(x, tap, *prompt(*size)), plain(x, tap, *fresh(*size))):
            assert _relative(got, want) < tolerance


def test_kept_is_kept_and_copied_empty():
    kept, weight, calls = Kept(), nn.Parameter(torch.ones(2)), []

    def compute():
        calls.append(1)
        return weight * 2

    with torch.no_grad():
        assert kept(compute, [weight], 3) is kept(compute, [weight], 3) and len(calls) == 1
        kept(compute, [weight], 4)
        assert len(calls) == 2 and copy.deepcopy(kept)._value is None
    assert kept(compute, [weight], 4).requires_grad and len(calls) == 3
    with torch.no_grad():
        kept(compute, [weight], 4)
    assert len(calls) == 3
