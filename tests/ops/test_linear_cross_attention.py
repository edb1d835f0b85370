import pytest
import torch
from irstd_ext import linear_cross_attention, reference
from irstd_ext.specs.linear_cross_attention import SPEC
from irstd_ext.testing import error, with_grads

from ops.suite import OpTests
from ops.vectors import load_vectors


class TestLinearCrossAttention(OpTests):
    spec = SPEC

    @pytest.mark.parametrize("kind, forward, gradient", [(torch.float32, 3e-6, 1e-5), (torch.float64, 1e-12, 1e-10)], ids=["float32", "float64"])
    @pytest.mark.parametrize("name", ["small", "big", "zeros"])
    @pytest.mark.parametrize("op", [linear_cross_attention, reference.linear_cross_attention], ids=["ext", "reference"])
    def test_vectors(self, op, name, kind, forward, gradient):
        v = load_vectors("linear_cross_attention", f"lin_{name}")
        args = [v[n].to(kind) for n in "qkv"]
        out, grads = with_grads(op, args, SPEC.grads, v["g_out"])
        assert error(out, v["out"]) <= forward and error(op(*args, 0.0), v["out_eps0"]) <= forward
        for n, g in zip("qkv", grads):
            floor = 1e-6 * v["g_out"].abs().max() if kind == torch.float32 else 1e-14
            assert error(g, v[f"d_{n}"]) <= gradient or (g.double() - v[f"d_{n}"]).abs().max() <= floor, n
        assert error(out.roll(1, -1), v["out"]) > forward

    def test_equals_explicit_attention(self):
        q, k, v, eps = SPEC.args(SPEC.cases["odd"])
        phi = lambda x: torch.nn.functional.elu(x) + 1  # noqa: E731 - in float64 and near 0 this form is exact enough
        p = phi(q) @ phi(k).transpose(-1, -2)
        assert error(linear_cross_attention(q, k, v, eps), p @ v / (p.sum(-1, keepdim=True) + eps)) < 1e-13

    def test_permuting_the_keys_changes_only_rounding(self):
        q, k, v, eps = SPEC.args(SPEC.cases["above"], torch.float32)
        order = torch.randperm(k.shape[2], generator=torch.Generator().manual_seed(0))
        assert error(linear_cross_attention(q, k[:, :, order], v[:, :, order], eps), linear_cross_attention(q, k, v, eps)) < 2e-6

    def test_below_minus_17_the_feature_map_keeps_its_digits(self):
        q, k, v, _ = SPEC.args(SPEC.cases["odd"], torch.float32)
        args = [q - 25, k, v, 0.0]
        exact = reference.linear_cross_attention(*[a.double() for a in args[:3]], 0.0)
        assert error(linear_cross_attention(*args), exact) < 3e-6
        elu = torch.nn.functional.elu(args[0]) + 1
        assert not elu.any()  # the usual form has nothing left

    def test_tokens_innermost_stay_so(self):
        """Heads viewed from a (B, C, H, W) map: the output can be viewed back without a copy."""
        maps = [torch.randn(2, 12, 5, 7) for _ in range(3)]
        q, k, v = (m.view(2, 3, 4, 35).transpose(-1, -2) for m in maps)
        out = linear_cross_attention(q, k, v)
        assert out.transpose(-1, -2).is_contiguous()
        assert error(out, reference.linear_cross_attention(*(t.double() for t in (q, k, v)))) < 2e-6

    def test_long_sums_do_not_drift(self):
        g = torch.Generator().manual_seed(1)
        q, k, v = torch.randn(1, 1, 4, 8, generator=g), torch.randn(1, 1, 60000, 8, generator=g), torch.randn(1, 1, 60000, 8, generator=g) + 3
        assert error(linear_cross_attention(q, k, v), reference.linear_cross_attention(q.double(), k.double(), v.double())) < 3e-6

    def test_offsets_beyond_2_to_31(self):
        q, k, v, eps = SPEC.args(dict(B=2, h=2, N=3, M=3, d=4, e=4), torch.bfloat16)
        far = torch.empty(2**31 + 4096, dtype=torch.bfloat16).as_strided((2, 2, 3, 4), (2**31 - 64, 512, 16, 1))  # only the pages written are taken
        far.copy_(v)
        assert torch.equal(linear_cross_attention(q, k, far, eps), linear_cross_attention(q, k, far.contiguous(), eps))
