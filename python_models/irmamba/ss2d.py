"""PDMamba: the selective scan over an image (SS2D) whose state also takes in differences between neighbouring pixels."""
from __future__ import annotations

from math import ceil, log

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from irstd_ext import get_ops
from python_models.layers.in_place import add, multiply, silu

_DIRECTIONS = 4


def to_tokens(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H, W, C), a view; contiguous where x is channels_last."""
    return x.permute(0, 2, 3, 1)


def to_map(tokens: Tensor) -> Tensor:
    """(B, H, W, C) -> (B, C, H, W), a view; channels_last where the tokens are contiguous."""
    return tokens.permute(0, 3, 1, 2)


class PDSS2D(nn.Module):
    """Tokens (B, H, W, channels) to tokens, through four scans over the image. D = 2 channels, R = ceil(channels / 16), N = d_state.

        x, z = split(in_proj(tokens));   u = SiLU(depthwise conv3x3(x))                                [B, D, H, W]
        dt, B, C = split(x_proj(u)) for each direction;   delta = dt_projs(dt)                         [R, N, N -> D]
        h(t) = exp(delta A) h(t-1) + delta B u(t) + f(t) G(t),   y(t) = C h(t) + D_skip u(t)           Eq. 8, with f of Eq. 9-10
        out = out_proj(LayerNorm(y) SiLU(z))

    G weighs the smoothed differences of Eq. 6-7 over windows of up to `window` pixels by W (2, window, D), one weight for the differences
    along the rows and one for those along the columns. W starts at 0, which is the plain scan, and learns from there. pdmamba=False has no W.
    gamma is added to the gate f. Parameters are named and shaped as in VMamba and VM-UNet; W is added to them.

    >>> block = PDSS2D(32, d_state=4, backend="reference")
    >>> block(torch.zeros(2, 6, 5, 32)).shape
    torch.Size([2, 6, 5, 32])
    """

    def __init__(self, channels: int, d_state: int = 16, window: int = 2, gamma: float = 1.0, pdmamba: bool = True, backend: str = "ext") -> None:
        super().__init__()
        inner, self.rank, self.d_state, self.gamma = 2 * channels, ceil(channels / 16), d_state, gamma
        self.in_proj = nn.Linear(channels, 2 * inner, bias=False)
        self.conv2d = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.x_proj_weight = nn.Parameter(_uniform(inner**-0.5, _DIRECTIONS, self.rank + 2 * d_state, inner))
        self.dt_projs_weight = nn.Parameter(_uniform(self.rank**-0.5, _DIRECTIONS, inner, self.rank))
        self.dt_projs_bias = nn.Parameter(_step_bias(_DIRECTIONS, inner))
        self.A_logs = nn.Parameter(torch.arange(1, d_state + 1, dtype=torch.float32).log().repeat(_DIRECTIONS * inner, 1))
        self.Ds = nn.Parameter(torch.ones(_DIRECTIONS * inner))
        self.W = nn.Parameter(torch.zeros(2, window, inner)) if pdmamba else None
        self.out_norm = nn.LayerNorm(inner)
        self.out_proj = nn.Linear(inner, channels, bias=False)
        self.scan = get_ops(backend).pixel_difference_scan

    def forward(self, tokens: Tensor) -> Tensor:
        x, z = (F.linear(tokens, half) for half in self.in_proj.weight.chunk(2))  # in two, so that neither half is copied out of the whole
        u = silu(self.conv2d(to_map(x)))
        # one projection serves all directions, since the operator takes every direction in image order
        dt, b, c = F.linear(to_tokens(u), self.x_proj_weight.flatten(0, 1)).unflatten(-1, (_DIRECTIONS, -1)).split([self.rank, self.d_state, self.d_state], -1)
        delta = torch.bmm(dt.movedim(3, 0).flatten(1, 3), self.dt_projs_weight.transpose(1, 2)).unflatten(1, u.shape[:1] + u.shape[2:])  # [K, B, H, W, D]
        # the exponential in the precision of the scan: rounding A to half precision would move every decay
        a = -self.A_logs.to(torch.promote_types(u.dtype, torch.float32)).exp()
        y = self.scan(u, delta.permute(1, 0, 4, 2, 3), a, b.permute(0, 3, 4, 1, 2), c.permute(0, 3, 4, 1, 2), self.Ds, self.dt_projs_bias.flatten(), self.W,
                      self.gamma)
        return self.out_proj(multiply(self.out_norm(to_tokens(y)), silu(z)))


class VSSBlock(nn.Module):
    """tokens + PDSS2D(LayerNorm(tokens)), (B, H, W, channels) to the same; VM-UNet's block, which has no MLP. Arguments as `PDSS2D`.

    >>> block = VSSBlock(16, backend="reference")
    >>> block(torch.zeros(1, 4, 4, 16)).shape
    torch.Size([1, 4, 4, 16])
    """

    def __init__(self, channels: int, d_state: int = 16, window: int = 2, gamma: float = 1.0, pdmamba: bool = True, backend: str = "ext") -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(channels, eps=1e-6)
        self.self_attention = PDSS2D(channels, d_state, window, gamma, pdmamba, backend)

    def forward(self, tokens: Tensor) -> Tensor:
        return add(self.self_attention(self.ln_1(tokens)), tokens)


def _uniform(bound: float, *shape: int) -> Tensor:
    return torch.empty(shape).uniform_(-bound, bound)


def _step_bias(*shape: int, low: float = 1e-3, high: float = 1e-1, floor: float = 1e-4) -> Tensor:
    """Biases whose softplus, the step size of the scan, is log-uniform in [low, high]."""
    step = (torch.rand(shape) * (log(high) - log(low)) + log(low)).exp().clamp(min=floor)
    return step + torch.log(-torch.expm1(-step))  # the inverse of softplus
