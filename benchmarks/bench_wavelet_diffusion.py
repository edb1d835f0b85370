from irstd_ext.specs.wavelet_diffusion import SPEC

from harness import OpBench


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


class BenchWaveletDiffusion(OpBench):
    spec = SPEC
    native = composition
    rounds = 5
