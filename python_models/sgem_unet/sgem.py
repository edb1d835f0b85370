"""The two modules that carry encoder level 3 (E3) into the decoder in place of a skip connection."""
from __future__ import annotations

import torch
from torch import Tensor, nn

from irstd_ext import get_ops
from python_models.sgem_unet.reference_modes import add_attention, flat_attention

_REFERENCE_MODES = {"flat": flat_attention, "add": add_attention}


class BilinearSGEM(nn.Module):
    """Eq. 1-3 of the paper: an outer product of two learned descriptors attends over the rows of a decoder map.

        q = Linear(vec(conv1x1(E3)))    k = Linear(vec(conv1x1(D1)))                       [B, L]
        T[c,i,j] = weight_c q_i k_j + bias_c,   A = softmax over j,   out = R + gamma * A @ V   per channel

    E3 (B, c_e3, 2 size, 2 size), D1 (B, c_d1, size, size); R (B, channels, length, length) is D1 or the third argument, V is R, or its
    1x1 convolution with value_proj. The Linear layers fix the size. gamma starts at 0: the module begins as the identity on R.
    bias cancels in the softmax and gets no gradient; it is kept for checkpoints. mode "flat" and "add" exist with backend="reference".

    >>> sgem = BilinearSGEM(c_e3=6, c_d1=8, size=4, backend="reference")
    >>> sgem(torch.zeros(2, 6, 8, 8), torch.zeros(2, 8, 4, 4)).shape
    torch.Size([2, 8, 4, 4])
    """

    def __init__(self, c_e3: int, c_d1: int, size: int, channels: int | None = None, length: int | None = None, value_proj: bool = False,
                 mode: str = "row", backend: str = "ext") -> None:
        super().__init__()
        channels, length = c_d1 if channels is None else channels, size if length is None else length
        if mode != "row" and mode not in _REFERENCE_MODES:
            raise ValueError(f"BilinearSGEM: mode must be 'row', 'flat' or 'add', got {mode!r}")
        if mode != "row" and backend != "reference":
            raise ValueError(f'BilinearSGEM: mode {mode!r} exists only with backend="reference", got backend={backend!r}')
        self.query_conv, self.query_linear = nn.Conv2d(c_e3, 1, 1), nn.Linear(4 * size * size, length)
        self.key_conv, self.key_linear = nn.Conv2d(c_d1, 1, 1), nn.Linear(size * size, length)
        self.weight = nn.Parameter(torch.empty(channels).uniform_(-1, 1))  # with bias: the paper's conv1x1 from 1 to C channels
        self.bias = nn.Parameter(torch.zeros(channels))
        self.gamma = nn.Parameter(torch.zeros(()))
        self.value_conv = nn.Conv2d(channels, channels, 1) if value_proj else nn.Identity()
        self.attend = get_ops(backend).bilinear_attention if mode == "row" else _REFERENCE_MODES[mode]

    def forward(self, e3: Tensor, d1: Tensor, residual: Tensor | None = None) -> Tensor:
        residual = d1 if residual is None else residual
        q = self.query_linear(self.query_conv(e3).flatten(1))  # Eq. 1
        k = self.key_linear(self.key_conv(d1).flatten(1))
        return self.attend(q, k, self.weight, self.value_conv(residual), self.gamma, residual, self.bias)  # Eq. 2 and 3


class LinearSGEM(nn.Module):
    """Linear cross-attention from E3 (queries) to D1 (keys, values), for any input size.

        O = linear_cross_attention(heads(conv1x1(E3)), heads(conv1x1(D1)), heads(conv1x1(D1)));   out = U + gamma * conv1x1(O)

    E3 (B, c_e3, 2h, 2w), D1 (B, c_d1, h, w), U (B, channels, 2h, 2w), out as U. inner channels are split into heads: channel =
    head * (inner / heads) + component, token = row * width + column. gamma starts at 0: the module begins as the identity on U.

    >>> sgem = LinearSGEM(c_e3=8, c_d1=16, heads=2, backend="reference")
    >>> e3 = torch.zeros(2, 8, 6, 10)
    >>> sgem(e3, torch.zeros(2, 16, 3, 5), e3).shape
    torch.Size([2, 8, 6, 10])
    """

    def __init__(self, c_e3: int, c_d1: int, channels: int | None = None, inner: int | None = None, heads: int = 4, eps: float = 1e-6,
                 backend: str = "ext") -> None:
        super().__init__()
        channels, inner = c_e3 if channels is None else channels, c_e3 if inner is None else inner
        if heads < 1 or inner % heads:
            raise ValueError(f"LinearSGEM: heads must divide the {inner} inner channels, got {heads}")
        self.heads, self.eps = heads, eps
        self.query, self.key, self.value = nn.Conv2d(c_e3, inner, 1), nn.Conv2d(c_d1, inner, 1), nn.Conv2d(c_d1, inner, 1)
        self.out = nn.Conv2d(inner, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(()))
        self.attend = get_ops(backend).linear_cross_attention

    def _split(self, x: Tensor) -> Tensor:
        return x.flatten(2).unflatten(1, (self.heads, -1)).transpose(2, 3)  # [B, heads, H W, inner / heads]

    def forward(self, e3: Tensor, d1: Tensor, u: Tensor) -> Tensor:
        q, k, v = self._split(self.query(e3)), self._split(self.key(d1)), self._split(self.value(d1))
        mixed = self.attend(q, k, v, self.eps).transpose(2, 3).flatten(1, 2)  # [B, inner, H W]
        return u + self.gamma * self.out(mixed.unflatten(2, e3.shape[-2:]))
