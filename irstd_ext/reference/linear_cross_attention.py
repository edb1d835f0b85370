"""Reference of linear_cross_attention: two small matrix products, in plain PyTorch."""
import torch
from torch import Tensor


def _phi(x: Tensor) -> Tensor:
    """elu(x) + 1, with exp for x <= 0: elu(x) + 1 loses every digit below about -12 in float32."""
    return torch.where(x > 0, x + 1, x.clamp(max=0).exp())


def linear_cross_attention(q: Tensor, k: Tensor, v: Tensor, eps: float = 1e-6) -> Tensor:
    """out_i = phi(q_i)^T S / (phi(q_i) . z + eps), S = sum_j phi(k_j) v_j^T, z = sum_j phi(k_j). Shapes as `irstd_ext.linear_cross_attention`."""
    if k.shape[-2] == 0:
        raise ValueError("linear_cross_attention: k must hold at least one token, got M=0")
    wide = torch.float64 if q.dtype == torch.float64 else torch.float32
    fq, fk = _phi(q.to(wide)), _phi(k.to(wide))
    state = fk.transpose(-1, -2) @ v.to(wide)  # [B, h, d, e]
    norm = fq @ fk.sum(-2).unsqueeze(-1) + eps  # [B, h, N, 1]
    return (fq @ state / norm).to(q.dtype)
