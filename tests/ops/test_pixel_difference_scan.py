import math
import sys
from importlib import import_module

import pytest
import torch
from irstd_ext import pixel_difference_scan, reference
from irstd_ext.specs.pixel_difference_scan import SPEC
from irstd_ext.testing import cast, error, verdict, with_grads
from torch import Tensor

from ops.layouts import upstream
from ops.memory import growth
from ops.suite import OpTests
from ops.torch_suite import Float32UnderAutocast
from ops.vectors import load_vectors

naive = import_module("irstd_ext.reference.pixel_difference_scan_naive").pixel_difference_scan_naive
chunked = reference.pixel_difference_scan
both_backends = pytest.mark.parametrize("op", [pixel_difference_scan, chunked], ids=["ext", "reference"])
VECTORS = ("even_1x4x6x6_N4", "nonsquare_2x3x7x12_N8", "h1_1x4x1x9_N4", "flat_1x3x8x8_N4", "n1_2x4x8x10_N4", "w_none_1x3x5x8_N4")
ARGUMENTS = ("u", "delta_img", "A", "B_img", "C_img", "D_skip", "delta_bias", "W")
MAPS, ROWS = (1, 3, 4), (2, 5, 6)  # arguments with a map, and with rows, for each direction


def vector_args(v):
    return [*(v.get(name) for name in ARGUMENTS), float(v["gamma"]), bool(v["delta_softplus"])]


def changed(args, change):
    """change(index, tensor) of every tensor; the rest stays."""
    return [change(i, a) if isinstance(a, Tensor) else a for i, a in enumerate(args)]


def with_directions(args, order, image):
    """The same images seen otherwise: image(t) of each, directions of every argument in the given order."""
    def change(i, t):
        if i in ROWS:
            return t.unflatten(0, (4, -1))[order].flatten(0, 1)
        return image(t[:, order] if i in MAPS else t) if i != 7 else t

    return changed(args, change)


def only_direction(args, k):
    """What the other directions read out is nothing."""
    def change(i, t):
        if i == 4:
            return t * torch.eye(4, dtype=t.dtype)[k].view(4, 1, 1, 1)
        return t * torch.eye(4, dtype=t.dtype)[k].repeat_interleave(t.shape[0] // 4) if i == 5 else t

    return changed(args, change)


class TestPixelDifferenceScan(Float32UnderAutocast, OpTests):
    spec = SPEC

    def truth(self, args):
        out, grads, g = super().truth(args)
        return out.contiguous(), [x.contiguous() for x in grads], g

    def narrowed(self, args, half):
        return [args[0], *cast(args[1:], half)]  # projections come out of a Linear in half precision, parameters and u may not

    @pytest.mark.parametrize("name", VECTORS)
    @pytest.mark.parametrize("kind, limit", [(torch.float64, 1e-9), (torch.float32, 5e-5)], ids=["float64", "float32"])
    @pytest.mark.parametrize("op", [pixel_difference_scan, chunked, naive], ids=["ext", "reference", "naive"])
    def test_vectors(self, op, name, kind, limit):
        v = load_vectors("pixel_difference_scan", name)
        args = cast(vector_args(v), kind)
        out, grads = with_grads(op, args, SPEC.grads, v["grad_out"])
        assert error(out, v["y"]) <= limit
        for argument, got in zip(ARGUMENTS, grads):
            want = v[f"grad_{argument}"]
            assert error(got, want) <= limit or (not want.any() and got.abs().max() <= limit), argument
        assert error(op(*args[:7]), v["y_plain"]) <= limit
        wrong = {"mirrored": out.flip(3), "shifted": out.roll(1, 3), "larger": out * 1.001}
        for what, y in wrong.items():
            assert error(y, v["y"]) > limit, what
        if kind == torch.float64:
            for k in range(4):
                assert error(op(*only_direction(args, k)), v["y_dir"][:, k]) <= limit, k

    # -- the references

    @pytest.mark.parametrize("which", [n for n, s in SPEC.cases.items() if s["B"] * s["D"] * s["H"] * s["W"]])
    def test_chunks_equal_the_sequential_loop(self, which):
        args = SPEC.args(SPEC.cases[which])
        want, want_grads = with_grads(naive, args, SPEC.grads, upstream(args[0]))
        got, got_grads = with_grads(chunked, args, SPEC.grads, upstream(args[0]))
        scale = max(g.abs().max() for g in want_grads)
        assert error(got, want) < 1e-14
        assert all(error(x, y) < 1e-13 or (x - y).abs().max() < 1e-15 * scale for x, y in zip(got_grads, want_grads))

    @pytest.mark.parametrize("large", [1, 40, 300, 3000])
    def test_segments_equal_the_sequential_loop(self, large, monkeypatch):
        """Where an image does not fit: segments of one step to a few chunks, whose states are made again in backward."""
        args = self.control_args()
        want, want_grads = with_grads(naive, args, SPEC.grads, upstream(args[0]))
        for module in ("pixel_difference_scan", "_neighbours"):
            monkeypatch.setattr(sys.modules[f"irstd_ext.reference.{module}"], "LARGE", large)
        got, got_grads = with_grads(chunked, args, SPEC.grads, upstream(args[0]))
        assert error(got, want) < 1e-14 and all(error(x, y) < 1e-13 for x, y in zip(got_grads, want_grads))

    def test_control_case_has_both_branches(self):
        u, W = self.control_args()[0], self.control_args()[7]
        is_open = reference.pixel_difference(u, torch.ones_like(W), 0.0) != 0
        assert is_open.any() and not is_open.all()

    # -- what it computes

    @both_backends
    @pytest.mark.parametrize("k", range(4))
    def test_response_to_one_pixel(self, op, k):
        """Of one direction: exp(-a delta steps), at the pixels visited later and nowhere else."""
        H, W, a, step = 4, 6, 0.7, 0.3
        order = [(t // W, t % W) for t in range(H * W)] if k % 2 == 0 else [(t % H, t // H) for t in range(H * W)]
        order = order[::-1] if k >= 2 else order
        u, B, C = (torch.zeros(*size, H, W).double() for size in ((1, 1), (1, 4, 1), (1, 4, 1)))
        start = 5
        u[0, 0][order[start]] = 2
        B += 1.5
        C[:, k] = 3
        y = op(u, torch.full_like(B, step), torch.full((4, 1), -a, dtype=torch.float64), B, C, delta_softplus=False)
        want = torch.zeros(H, W).double()
        for t in range(start, H * W):
            want[order[t]] = 2 * step * 1.5 * 3 * math.exp(-a * step * (t - start))
        assert error(y[0, 0], want) < 1e-14 and torch.equal(y[0, 0] == 0, want == 0)

    @both_backends
    def test_neighbour_term_enters_every_state_once(self, op):
        """N states of A = 0 without input: each holds the running sum of p, however large delta and B are."""
        u, delta, A, B, C, _, _, W, *_ = self.control_args()
        A, B = torch.zeros_like(A), torch.zeros_like(B)
        p = reference.pixel_difference(u, W, 0.5)
        rows, columns = p.flatten(2).cumsum(2).view_as(p), p.transpose(2, 3).flatten(2).cumsum(2).unflatten(2, (p.shape[3], p.shape[2])).transpose(2, 3)
        total = p.sum((2, 3), keepdim=True)
        sums = torch.stack([rows, columns, total - rows + p, total - columns + p], 1)
        want = (sums * C.sum(2, keepdim=True)).sum(1)
        assert error(op(u, delta * 3, A, B, C, None, None, W, 0.5), want) < 1e-13

    @both_backends
    def test_transposed_images(self, op):
        args = self.control_args()
        seen = with_directions(args, [1, 0, 3, 2], lambda t: t.transpose(-1, -2))
        seen[7] = args[7].flip(0)
        assert error(op(*seen), op(*args).transpose(2, 3)) < 1e-14
        for wrong in ([*seen[:7], args[7], *seen[8:]], [seen[0], args[1].transpose(-1, -2), *seen[2:]]):
            assert error(op(*wrong), op(*args).transpose(2, 3)) > 1e-3

    @both_backends
    def test_images_turned_by_180_degrees(self, op):
        args = self.control_args()
        seen = with_directions(args, [2, 3, 0, 1], lambda t: t.flip(-1, -2))
        assert error(op(*seen), op(*args).flip(2, 3)) < 1e-14
        assert error(op(*with_directions(args, [0, 1, 2, 3], lambda t: t.flip(-1, -2))), op(*args).flip(2, 3)) > 1e-3

    @both_backends
    def test_affine_in_the_weights(self, op):
        args = self.control_args()

        def y(W):
            return op(*args[:7], W, *args[8:])

        W, V = args[7], args[7].roll(1, 2) * 2
        assert error(y(W + V) - y(V), y(W) - y(0 * W)) < 1e-13
        assert error(y(W), y(V)) > 1e-3

    @both_backends
    def test_zero_weights_are_no_weights_but_learn(self, op):
        args = self.control_args()
        args[7] = torch.zeros_like(args[7])
        out, grads = with_grads(op, args, SPEC.grads, upstream(args[0]))
        plain, plain_grads = with_grads(op, [*args[:7], None, 0.3, *args[9:]], SPEC.grads, upstream(args[0]))
        assert error(out, plain) < 1e-15
        assert all(error(x, y) < 1e-14 for x, y in zip(grads, plain_grads)) and len(plain_grads) == 7
        assert grads[7].abs().max() > 1e-3

    @both_backends
    def test_absent_parameters_are_zero(self, op):
        args = self.control_args()
        nothing = [torch.zeros_like(a) if i in (5, 6) else a for i, a in enumerate(args)]
        assert torch.equal(op(*[*args[:5], None, None, *args[7:]]), op(*nothing))

    @both_backends
    def test_softplus_on_large_and_small_steps(self, op):
        args = self.control_args()
        raw = torch.linspace(-40, 60, args[1].numel()).double().view_as(args[1])
        soft = torch.where(raw > 0, raw + torch.log1p(torch.exp(-raw.abs())), torch.log1p(torch.exp(-raw.abs())))
        got, want = op(args[0], raw, *args[2:6], None, *args[7:]), op(args[0], soft, *args[2:6], None, *args[7:9], False)
        assert error(got, want) < 1e-14

    # -- long sequences and memory

    @pytest.mark.parametrize("shape, N", [((33, 47), 16), ((256, 256), 1)])
    def test_long_sequences_in_float32(self, shape, N):
        args = SPEC.args(dict(B=1, D=3, H=shape[0], W=shape[1], N=N, n=2), torch.float32)
        args[2] = args[2] * 1e-3  # memory over thousands of steps
        g = upstream(args[0])
        want, want_grads = with_grads(chunked, cast(args, torch.float64), SPEC.grads, g)
        got, got_grads = with_grads(pixel_difference_scan, args, SPEC.grads, g)
        assert error(got, want) < 5e-5
        assert all(error(x, y) < 5e-5 for x, y in zip(got_grads, want_grads))

    def test_memory_does_not_hold_the_states(self):
        """Peak of forward and backward: all states would be 51 MB more with N = 32 than with 1."""
        states = 4 * 4 * 40 * 40 * 64 * 31
        few, many = (growth("ext", dict(B=1, D=64, H=40, W=40, N=N)) for N in (1, 32))
        assert many - few < states / 2
        few, many = (growth("reference", dict(B=1, D=64, H=40, W=40, N=N), large=1 << 19) for N in (1, 32))
        assert many - few < states / 2
        assert growth("reference", dict(B=1, D=64, H=40, W=40, N=32), large=1 << 40) - few > states  # this measure notices

    @pytest.mark.parametrize("size", [64, 128])
    def test_memory_is_linear_in_the_image(self, size):
        """u, y and p, delta for four directions, their gradients, and a copy of each with channels innermost."""
        assert growth("ext", dict(B=1, D=64, H=size, W=size, N=4)) < 4 * size * size * 64 * 28 + (8 << 20)

    # -- dtypes and layouts

    @pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=str)
    def test_parameters_in_float32_beside_half_maps(self, half):
        args = changed(self.control_args(half), lambda i, t: t.float() * 1.001 if i in (2, 5, 6, 7) else t)
        g = upstream(args[0]).to(half)
        exact, want = with_grads(chunked, cast(args, torch.float64), SPEC.grads, g.double())
        out, grads = with_grads(pixel_difference_scan, args, SPEC.grads, g)
        _, ref_grads = with_grads(chunked, args, SPEC.grads, g)
        assert out.dtype == half and [x.dtype for x in grads] == [a.dtype for a in args[:8]]
        assert not verdict(out, exact, exact.to(half), SPEC.ulp)
        scale = max(x.abs().max().item() for x in want)
        assert not any(verdict(x, y, r, SPEC.grad_ulp, scale) for x, y, r in zip(grads, want, ref_grads))

    def test_fast_layouts(self):
        """As linear layers make them: directions outside or inside the pixels, B and C as slices of one projection."""
        args = SPEC.args(SPEC.cases["channels_last"], torch.float32)
        u, delta, A, B, C = (a.contiguous() for a in args[:5])
        want, want_grads = with_grads(pixel_difference_scan, [u, delta, A, B, C, *args[5:]], SPEC.grads, upstream(u))
        last = u.contiguous(memory_format=torch.channels_last)
        outside = [t.movedim(2, -1).contiguous().movedim(-1, 2) for t in (delta, B, C)]
        inside = [t.permute(0, 3, 4, 1, 2).contiguous().permute(0, 3, 4, 1, 2) for t in (delta, B, C)]
        N = B.shape[2]
        joint = torch.cat([torch.zeros_like(B[:, :, :5]), B, C], 2).permute(0, 3, 4, 1, 2).contiguous().permute(0, 3, 4, 1, 2)
        slices = [inside[0], joint[:, :, 5 : 5 + N], joint[:, :, 5 + N :]]
        for maps in (outside, inside, slices):
            got, got_grads = with_grads(pixel_difference_scan, [last, maps[0], A, *maps[1:], *args[5:]], SPEC.grads, upstream(u))
            assert got.stride() == last.stride() and error(got, want) < 1e-6
            assert all(error(x, y) < 2e-6 for x, y in zip(got_grads, want_grads))
            assert got_grads[0].stride() == last.stride()
            assert all(x.stride() == torch.empty_like(m).stride() for x, m in zip((got_grads[1], *got_grads[3:5]), maps))

    def test_gradients_of_parameters_on_empty_images(self):
        for case in ("no_batch", "no_row"):
            args = SPEC.args(SPEC.cases[case], torch.float32)
            for op in (pixel_difference_scan, chunked):
                out, grads = with_grads(op, args, SPEC.grads, torch.zeros_like(args[0]))
                assert out.numel() == 0 and all(g.shape == a.shape and not g.any() for g, a in zip(grads, args))

    def test_infinite_rates_are_instant(self):
        """As a rate of -1e30 is; where the reference multiplies 0 by infinity, gradients are finite."""
        args = self.control_args(torch.float32)
        for rate in (float("-inf"), -1e30):
            args[2] = args[2].index_fill(0, torch.tensor([0, 3]), rate)
            out, grads = self.native_run(args, upstream(args[0]))
            assert out.isfinite().all() and all(g.isfinite().all() for g in grads)
            if rate == -1e30:
                assert torch.equal(out, before)
            before = out

    def test_offsets_beyond_2_to_31(self):
        """Tensors that the kernel reads in place: float32, channels innermost."""
        args = SPEC.args(dict(B=2, D=2, H=3, W=4, N=2, n=2), torch.float32)
        for i in (0, *MAPS):
            shape = args[i].shape
            strides = (2**31 - 64, *(512,) * (len(shape) - 4), 1, 64, 4)
            far = torch.empty(2**31 + 4096).as_strided(shape, strides)  # only the pages written are taken
            far.copy_(args[i])
            near = [*args[:i], far.contiguous(), *args[i + 1 :]]
            assert torch.equal(pixel_difference_scan(*args[:i], far, *args[i + 1 :]), pixel_difference_scan(*near))
