import math

import pytest
import torch
from irstd_ext import pixel_difference, reference
from irstd_ext.specs.pixel_difference import SPEC, margin
from irstd_ext.testing import error, verdict, with_grads

from ops.layouts import upstream
from ops.suite import OpTests
from ops.torch_suite import Float32UnderAutocast
from ops.vectors import load_vectors

both_backends = pytest.mark.parametrize("op", [pixel_difference, reference.pixel_difference], ids=["ext", "reference"])
WITH_W = ("even_1x4x6x6_N4", "nonsquare_2x3x7x12_N8", "h1_1x4x1x9_N4", "flat_1x3x8x8_N4", "n1_2x4x8x10_N4")


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def gate(op, u, n=2):
    """Where the gate is open: with gamma = 0 nothing passes elsewhere, and where it opens G is positive for positive weights."""
    return op(u, torch.ones(2, n, u.shape[1], dtype=u.dtype), 0.0) != 0


def centre_of(image):
    """p and f of one channel with all weights 1, gamma = 1; f from p = f G, of which gamma = 0 gives (f - 1) G."""
    u, W = image[None, None], torch.ones(2, 2, 1, dtype=torch.float64)
    return lambda op: (op(u, W)[0, 0], op(u, W, 0.0)[0, 0])


class TestPixelDifference(Float32UnderAutocast, OpTests):
    spec = SPEC

    @both_backends
    @pytest.mark.parametrize("name", WITH_W)
    @pytest.mark.parametrize("kind, limit", [(torch.float64, 1e-9), (torch.float32, 5e-5)], ids=["float64", "float32"])
    def test_vectors(self, op, name, kind, limit):
        v = load_vectors("pixel_difference_scan", name)
        u, W = v["u"].to(kind), v["W"].to(kind)
        assert error(op(u, W, float(v["gamma"])), v["p"]) <= limit
        assert torch.equal(gate(op, u, W.shape[1]), v["case1"].bool())
        flat = name.startswith("flat")
        wrong = {"axes": W.flip(0), "windows": W.flip(1), "scale": W * 1.01, "channels": W.roll(1, 2)}
        for what, changed in {} if flat else wrong.items():
            assert error(op(u, changed), v["p"]) > limit or torch.equal(changed, W), what

    def test_control_case_has_both_branches(self):
        """Else gradcheck and the tolerances would prove nothing about the gate."""
        is_open = gate(reference.pixel_difference, self.control_args()[0])
        assert is_open.any() and not is_open.all()

    # -- values known by hand

    @both_backends
    def test_impulse(self, op):
        image = torch.zeros(11, 11).double()
        image[5, 5] = 1
        p, above_gamma = centre_of(image)(op)
        theta = 24**0.5 / 25
        f = 1 + math.tanh(1 / theta - 1)
        assert abs(f - 1.99945) < 1e-5
        assert abs(p[5, 5] - 8 * f) < 1e-13 and abs(above_gamma[5, 5] - 8 * (f - 1)) < 1e-13
        assert abs(p[5, 6] + 5 / 3) < 1e-13 and abs(p[4, 5] + 5 / 3) < 1e-13 and abs(p[5, 7] + 1 / 3) < 1e-13
        assert (above_gamma != 0).sum() == 1

    @both_backends
    @pytest.mark.parametrize("sigma, f", [(0.7, 1.98457), (1.0, 1.82210), (1.5, 1.38487), (2.0, 1.14924), (3.0, 1.0)])
    def test_gaussian_spot(self, op, sigma, f):
        r = torch.arange(-5.0, 6.0).double()
        p, above_gamma = centre_of(torch.exp(-(r[:, None] ** 2 + r**2) / (2 * sigma**2)))(op)
        assert abs(p[5, 5] / (p[5, 5] - above_gamma[5, 5]) - f) < 1e-5

    @both_backends
    def test_edge_corner_line_and_squares_never_open_the_gate(self, op):
        images = torch.zeros(5, 11, 11).double()
        images[0, :, 5:] = 1
        images[1, 5:, 5:] = 1
        images[2, 5] = 1
        images[3, 5:7, 5:7] = 1
        images[4, 4:7, 4:7] = 1
        for u in (images, images.transpose(1, 2), images.flip(2)):
            assert not gate(op, u[None]).any()

    @both_backends
    def test_dark_spots_never_open_the_gate(self, op):
        u = draw(1, 2, 30, 30)
        assert gate(op, u).any() and not (gate(op, u) & gate(op, -u)).any()
        assert not gate(op, -centre_image()).any()

    @both_backends
    @pytest.mark.parametrize("shape", [(1, 9), (9, 1), (2, 9), (9, 2), (2, 2), (1, 1)])
    def test_two_rows_or_columns_never_open_the_gate(self, op, shape):
        assert not gate(op, draw(2, 3, *shape) * 10).any()

    @both_backends
    @pytest.mark.parametrize("n", [1, 2, 3])
    def test_border_is_closed_and_the_gate_is_bounded(self, op, n):
        u, W = draw(2, 3, 20, 22), draw(2, n, 3, seed=1)
        inner = gate(op, u, n)
        assert inner.any()
        for edge in (inner[:, :, 0], inner[:, :, -1], inner[..., 0], inner[..., -1]):
            assert not edge.any()
        G, above = op(u, W, 1.0) - op(u, W, 0.0), op(u, W, 0.0)
        ratio = (above / G)[inner]
        assert ((ratio > 0) & (ratio < 1)).all()

    @both_backends
    def test_closed_gate_is_a_cross_filter(self, op):
        """n = 2, away from the border: centre 2 (w1 + w2), distance 1: -(w1 + 2/3 w2), distance 2: -w2/3, per axis."""
        u, W = draw(2, 3, 12, 13), draw(2, 2, 3, seed=1)
        kernel = torch.zeros(3, 1, 5, 5).double()
        for w, arm in ((W[0], kernel[:, 0, 2]), (W[1], kernel[:, 0, :, 2])):
            arm += torch.stack([-w[1] / 3, -(w[0] + 2 / 3 * w[1]), 2 * (w[0] + w[1]), -(w[0] + 2 / 3 * w[1]), -w[1] / 3], -1)
        assert kernel.sum((2, 3)).abs().max() < 1e-15
        G = op(u, W, 1.0) - op(u, W, 0.0)
        assert error(G[:, :, 2:-2, 2:-2], torch.nn.functional.conv2d(u, kernel, groups=3)) < 1e-14

    @both_backends
    def test_one_pixel_has_no_neighbours(self, op):
        u, W = draw(2, 3, 1, 1), draw(2, 2, 3, seed=1)
        out, grads = with_grads(op, [u, W, 1.0], (0, 1), draw(2, 3, 1, 1, seed=2))
        assert not out.any() and all(g.abs().max() < 1e-15 for g in grads)

    # -- invariances

    @both_backends
    @pytest.mark.parametrize("n", [1, 2, 3])
    def test_invariances(self, op, n):
        u, W = draw(2, 3, 14, 17), draw(2, n, 3, seed=1)
        p = op(u, W)
        assert gate(op, u, n).any()
        assert error(op(u + 4, W), p) < 1e-14
        assert error(op(2.5 * u, W), 2.5 * p) < 1e-14 and error(op(-u, W), -p) > 1e-3
        assert error(op(u.flip(2), W), p.flip(2)) < 1e-14 and error(op(u.flip(3), W), p.flip(3)) < 1e-14
        assert error(op(u.transpose(2, 3), W.flip(0)), p.transpose(2, 3)) < 1e-14 and error(op(u.transpose(2, 3), W), p.transpose(2, 3)) > 1e-3
        assert error(op(u, 2 * W), 2 * p) < 1e-15 and not op(u, 0 * W).any()

    @both_backends
    def test_gradient_by_u_sums_to_zero(self, op):
        """A constant added to u changes nothing."""
        u, W = draw(2, 3, 9, 8), draw(2, 2, 3, seed=1)
        _, (du, _) = with_grads(op, [u, W, 1.0], (0, 1), draw(2, 3, 9, 8, seed=2))
        assert du.sum((2, 3)).abs().max() < 1e-13 * du.abs().max()

    # -- branches

    @both_backends
    @pytest.mark.parametrize("n", [1, 2, 3])
    @pytest.mark.parametrize("offset", [0, 30])
    def test_float32_takes_the_branches_of_float64(self, op, n, offset):
        """Wherever the threshold is further away than 1e-4 of the largest value, whatever the numbers; and the nearer pixels are few."""
        u = (draw(2, 4, 60, 61) + offset).float()
        clear = margin(u.double(), n) > 1e-4 * u.abs().max()
        assert clear.double().mean() > 0.99 - 0.1 * (offset > 0)
        exact = gate(reference.pixel_difference, u.double(), n)
        assert torch.equal(gate(op, u, n)[clear], exact[clear]) and exact[clear].any()

    @both_backends
    def test_flat_areas_beside_open_pixels_have_finite_gradients(self, op):
        u = torch.zeros(1, 2, 15, 15).double()
        u[..., 7, 7] = 1
        u[:, 1, 3, 3] = -1
        _, (du, dW) = with_grads(op, [u, torch.ones(2, 2, 2).double(), 1.0], (0, 1), torch.ones_like(u))
        assert du.isfinite().all() and dW.isfinite().all() and gate(op, u).sum() == 2

    def test_spec_images_stay_away_from_the_threshold(self):
        for sizes in (*SPEC.cases.values(), SPEC.split):
            for dtype in (torch.float64, torch.bfloat16):
                u = SPEC.args(sizes, dtype)[0].double()
                assert not u.numel() or margin(u, sizes["n"]).min() >= 2e-3

    # -- dtypes and memory

    @pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=str)
    def test_weights_in_float32_beside_half_images(self, half):
        u, W, gamma = self.control_args(half)
        W = (W.float() * 1.001).requires_grad_()  # not a number of the half type
        out = pixel_difference(u, W, gamma)
        (dW,) = torch.autograd.grad(out, W, upstream(out).to(half))
        exact, (want,) = with_grads(reference.pixel_difference, [u.double(), W.detach().double(), gamma], (1,), upstream(out).to(half).double())
        assert out.dtype == half and dW.dtype == torch.float32
        assert not verdict(out.detach(), exact, exact.to(half), SPEC.ulp) and error(dW, want) < 2e-6

    def test_memory_format_is_kept(self):
        u, W, gamma = self.control_args(torch.float32)
        last = u.contiguous(memory_format=torch.channels_last)
        out, (du, _) = with_grads(pixel_difference, [last, W, gamma], (0, 1), upstream(u))
        assert out.stride() == last.stride() == du.stride() and error(out, pixel_difference(u, W, gamma)) < 1e-6

    def test_large_images_one_at_a_time(self, monkeypatch):
        """The reference, where it checkpoints."""
        import sys

        args, g = self.control_args(), upstream(self.control_args()[0])
        want, want_grads = with_grads(reference.pixel_difference, args, SPEC.grads, g)
        monkeypatch.setattr(sys.modules["irstd_ext.reference._neighbours"], "LARGE", 1)
        got, got_grads = with_grads(reference.pixel_difference, args, SPEC.grads, g)
        assert torch.equal(got, want) and all(error(x, y) < 1e-15 for x, y in zip(got_grads, want_grads))

    def test_offsets_beyond_2_to_31(self):
        u, W, gamma = SPEC.args(dict(B=2, D=2, H=5, W=6, n=2), torch.float32)
        far = torch.empty(2**31 + 4096).as_strided((2, 2, 5, 6), (2**31 - 64, 1, 64, 2))  # read in place; only the pages written are taken
        far.copy_(u)
        assert torch.equal(pixel_difference(far, W, gamma), pixel_difference(far.contiguous(), W, gamma))


def centre_image():
    image = torch.zeros(1, 1, 11, 11).double()
    image[..., 5, 5] = 1
    return image
