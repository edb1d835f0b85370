import statistics

import torch
from irstd_ext import bench, wavelet_diffusion
from irstd_ext.specs.wavelet_diffusion import SPEC

from harness import OpBench

COLD = 96 << 20  # bytes of images that take turns: more than a last-level cache


def composition(u, k, steps, all_high=False):
    """Views of the four corners of all cells, and sums in place."""
    square = 8 * k.square().view(-1, 1, 1)
    for _ in range(steps):
        e, f = u[..., 1:, 1:] - u[..., :-1, :-1], u[..., :-1, 1:] - u[..., 1:, :-1]
        share = (square / 8) / (square + e.square() + f.square())
        e, f = e * share, f * share
        u = u.clone()
        u[..., :-1, :-1] += e
        u[..., 1:, 1:] -= e
        u[..., :-1, 1:] -= f
        u[..., 1:, :-1] += f
    return u


def convolutions(u, k, steps, all_high=False):
    """Grouped convolutions with the Haar filters and their transposes, as the formula is usually written."""
    C = u.shape[1]
    weight = torch.tensor([[[-1.0, 1.0], [-1.0, 1.0]], [[-1.0, -1.0], [1.0, 1.0]]]).div(4)[:, None].repeat(C, 1, 1, 1)
    for _ in range(steps):
        bands = torch.nn.functional.conv2d(u, weight, groups=C).unflatten(1, (C, 2))
        g = 1 / (1 + bands.square().sum(2, keepdim=True) / k.view(C, 1, 1, 1).square())
        u = u - torch.nn.functional.conv_transpose2d((g * bands).flatten(1, 2), weight, groups=C)
    return u


class BenchWaveletDiffusion(OpBench):
    """Beside the usual rows, from memory instead of the caches: images that take turns, against a copy of the same bytes into new memory."""

    spec = SPEC
    native = composition
    rounds = 5

    def extra(self, info):
        sizes = info["sizes"]
        if info["mode"] != "forward":
            return {}
        u, k, steps, _ = SPEC.args(sizes, torch.float32)
        images = [u, *(torch.empty_like(u).copy_(u) for _ in range(max(1, COLD // u.nbytes)))]
        turn = iter(range(10**9))

        def cold(function):
            return lambda: function(images[next(turn) % len(images)])

        calls = {"cold": cold(lambda x: wavelet_diffusion(x, k, steps)), "cold_copy": cold(torch.clone), "cold_one_step": cold(lambda x: wavelet_diffusion(x, k, 1)),
                 "cold_convolutions": cold(lambda x: convolutions(x, k, steps))}
        with torch.no_grad():
            return {name: bench.summary(times) for name, times in bench.interleaved(calls, rounds=self.rounds).items()}
