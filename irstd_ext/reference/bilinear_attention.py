"""Reference of bilinear_attention: the whole attention matrix, in plain PyTorch."""
from typing import Optional

import torch
from torch import Tensor


def bilinear_attention(q: Tensor, k: Tensor, weight: Tensor, value: Tensor, gamma: Tensor, residual: Optional[Tensor] = None,
                       bias: Optional[Tensor] = None) -> Tensor:
    """out[b,c] = residual[b,c] + gamma * softmax_j(weight[c] q[b,i] k[b,j] + bias[c]) @ value[b,c]. Shapes as `irstd_ext.bilinear_attention`."""
    if residual is None:
        if q.shape[1] != k.shape[1]:
            raise ValueError(f"bilinear_attention: residual is required unless L == M, got L={q.shape[1]}, M={k.shape[1]}")
        residual = value
    dtype = value.dtype
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    logits = weight.to(wide).view(1, -1, 1, 1) * q.to(wide)[:, None, :, None] * k.to(wide)[:, None, None, :]  # [B, C, L, M]
    if bias is not None:
        logits = logits + bias.to(wide).view(1, -1, 1, 1)
    mixed = torch.softmax(logits, -1) @ value.to(wide)  # [B, C, L, E]
    return (residual.to(wide) + gamma.to(wide) * mixed).to(dtype)
