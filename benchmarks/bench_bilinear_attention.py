import torch
from irstd_ext.specs.bilinear_attention import SPEC

from harness import OpBench


def composition(q, k, weight, value, gamma, residual=None, bias=None):
    """bias left out, since it cancels; the product and the residual in one baddbmm."""
    B, C, M, E = value.shape
    attention = torch.softmax((weight[:, None, None] * q[:, None, :, None]) * k[:, None, None, :], -1)
    residual = value if residual is None else residual
    return torch.baddbmm(residual.reshape(B * C, -1, E), (gamma * attention).flatten(0, 1), value.flatten(0, 1)).view(B, C, -1, E)


class BenchBilinearAttention(OpBench):
    spec = SPEC
    native = composition
