import pytest
import torch
from irstd_ext import bilinear_attention, reference
from irstd_ext.specs.bilinear_attention import SPEC
from irstd_ext.testing import error, with_grads

from ops.suite import OpTests
from ops.vectors import load_vectors


class TestBilinearAttention(OpTests):
    spec = SPEC

    @pytest.mark.parametrize("kind, forward, gradient", [(torch.float32, 2e-6, 5e-6), (torch.float64, 1e-12, 1e-11)], ids=["float32", "float64"])
    @pytest.mark.parametrize("name", ["small", "rect", "wzero"])
    @pytest.mark.parametrize("op", [bilinear_attention, reference.bilinear_attention], ids=["ext", "reference"])
    def test_vectors(self, op, name, kind, forward, gradient):
        v = load_vectors("bilinear_attention", f"bilinear_{name}")
        names = ("q", "k", "weight", "value", "gamma", "residual", "bias")
        args = [v[n].to(kind) for n in names]
        out, grads = with_grads(op, args, SPEC.grads, v["g_out"])
        assert error(out, v["out"]) <= forward
        for n, g in zip(names[:-1], grads):
            assert error(g, v[f"d_{n}"]) <= gradient, n
        if op is bilinear_attention:
            assert not grads[-1].any()  # bias cancels
        assert error(out.roll(1, -1), v["out"]) > forward

    def test_gamma_zero_returns_the_residual_bit_for_bit(self):
        args = SPEC.args(dict(B=2, C=3, L=8, M=8, E=20, residual=True), torch.float32)
        args[4], args[5] = torch.zeros(()), torch.where(args[5] > 0, args[5], -0.0)
        out = bilinear_attention(*args)
        assert torch.equal(out.view(torch.int32), args[5].view(torch.int32))

    def test_weight_zero_is_the_mean_over_rows(self):
        q, k, w, value, gamma, *_ = SPEC.args(dict(B=2, C=3, L=6, M=6, E=5), torch.float64)
        out = bilinear_attention(q, k, torch.zeros_like(w), value, gamma)
        assert error(out, value + gamma * value.mean(2, keepdim=True)) < 1e-14

    def test_shared_residual_equals_an_explicit_one(self):
        q, k, w, value, gamma, *_ = SPEC.args(dict(B=2, C=3, L=6, M=6, E=5), torch.float32)
        g = torch.ones_like(value)
        out, grads = with_grads(bilinear_attention, [q, k, w, value, gamma], (0, 1, 2, 3, 4), g)
        again, others = with_grads(bilinear_attention, [q, k, w, value, gamma, value], (0, 1, 2, 3, 4, 5), g)
        assert torch.equal(out, again) and error(grads[3], others[3] + others[5]) < 1e-6

    def test_float32_parameters_with_half_maps(self):
        args = SPEC.args(SPEC.cases["odd"], torch.float32)
        mixed = [a if i in (0, 1, 2, 4) else a.bfloat16() for i, a in enumerate(args)]
        out, grads = with_grads(bilinear_attention, mixed, (0, 1, 2, 3, 4, 5), torch.ones(2, 3, 5, 9))
        assert out.dtype == torch.bfloat16 and [g.dtype for g in grads] == [torch.float32] * 3 + [torch.bfloat16, torch.float32, torch.bfloat16]
        rounded = [m.float() for m in mixed]
        assert error(out, bilinear_attention(*rounded)) <= 2**-8

    def test_no_attention_matrix_is_stored(self):
        """4096 x 4096 weights of 64 channels would take 4 GiB: the whole call stays below one of them."""
        import resource

        L, C = 4096, 64
        args = [torch.randn(1, L), torch.randn(1, L), torch.randn(C), torch.randn(1, C, L, 1), torch.tensor(0.5)]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with_grads(bilinear_attention, args, (0, 1, 2, 3, 4), torch.ones(1, C, L, 1))
        assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 4 * L * L

    def test_offsets_beyond_2_to_31(self):
        q, k, w, value, gamma, *_ = SPEC.args(dict(B=2, C=2, L=3, M=3, E=4), torch.float32)
        far = torch.empty(2**31 + 4096, dtype=torch.bfloat16).as_strided((2, 2, 3, 4), (2**31 - 64, 512, 16, 1))  # only the pages written are taken
        far.copy_(value)
        near = far.contiguous()
        assert torch.equal(bilinear_attention(q, k, w, far, gamma), bilinear_attention(q, k, w, near, gamma))

    def test_vmap_without_the_optional_arguments(self):
        q, k, w, value, gamma, *_ = SPEC.args(dict(B=2, C=3, L=6, M=6, E=5), torch.float32)
        many = torch.stack([value, value + 1, value * 2])
        got = torch.vmap(lambda v: bilinear_attention(q, k, w, v, gamma))(many)
        assert torch.allclose(got, torch.stack([bilinear_attention(q, k, w, v, gamma) for v in many]), rtol=0, atol=1e-6)
