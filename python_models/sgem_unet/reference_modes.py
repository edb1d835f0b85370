"""Two other readings of the paper's attention, in plain PyTorch only (the paper leaves the softmax axis and the use of values open)."""
from __future__ import annotations

import torch
from torch import Tensor


def _logits(q: Tensor, k: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    outer = q[:, None, :, None] * k[:, None, None, :]
    logits = weight.view(1, -1, 1, 1) * outer  # [B, C, L, M]
    return logits if bias is None else logits + bias.view(1, -1, 1, 1)


def flat_attention(q: Tensor, k: Tensor, weight: Tensor, value: Tensor, gamma: Tensor, residual: Tensor | None = None,
                   bias: Tensor | None = None) -> Tensor:
    """`bilinear_attention` with the softmax taken jointly over i and j: each channel's weights sum to 1 over the whole map."""
    logits = _logits(q, k, weight, bias)
    attention = logits.flatten(2).softmax(-1).view_as(logits)
    return (value if residual is None else residual) + gamma * (attention @ value)


def add_attention(q: Tensor, k: Tensor, weight: Tensor, value: Tensor, gamma: Tensor, residual: Tensor | None = None,
                  bias: Tensor | None = None) -> Tensor:
    """out = residual + gamma * A: the attention map itself is added, no values are mixed."""
    attention = torch.softmax(_logits(q, k, weight, bias), -1)
    return (value if residual is None else residual) + gamma * attention
