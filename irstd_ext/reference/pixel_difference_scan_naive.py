"""The truth of pixel_difference_scan: one pixel after another, in plain PyTorch. For small images."""
from typing import Optional

import torch
from torch import Tensor


def _neighbour_term(u: Tensor, W: Tensor, gamma: float) -> Tensor:
    """p = f G, every pixel found by its clamped row and column. u: [B, D, H, W]."""
    n, rows, columns = W.shape[1], torch.arange(u.shape[2]), torch.arange(u.shape[3])

    def at(dy, dx):
        return u[:, :, (rows + dy).clamp(0, u.shape[2] - 1)][..., (columns + dx).clamp(0, u.shape[3] - 1)]

    def difference(dy, dx, i):
        return sum((at(k * dy, k * dx) - at((k + 1) * dy, (k + 1) * dx)) / (2 * k + 1) for k in range(i))

    x, y = ([(difference(a, b, i), difference(-a, -b, i)) for i in range(1, n + 1)] for a, b in ((0, 1), (1, 0)))
    window = torch.stack([at(dy, dx) for dy in range(-n, n + 1) for dx in range(-n, n + 1)])
    variance = (window - window.mean(0)).square().mean(0)
    four = torch.stack(x[-1] + y[-1])
    case_1 = (four > variance.detach().sqrt()).all(0) & (variance.detach() > 0)
    theta = torch.where(case_1, variance, 1).sqrt()
    f = gamma + torch.where(case_1, torch.tanh(four.mean(0) / theta - 1), 0)
    return f * sum(W[0, i, :, None, None] * sum(x[i]) + W[1, i, :, None, None] * sum(y[i]) for i in range(n))


def pixel_difference_scan_naive(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D_skip: Optional[Tensor] = None, delta_bias: Optional[Tensor] = None,
                                W: Optional[Tensor] = None, gamma: float = 1.0, delta_softplus: bool = True) -> Tensor:
    """h(t) = exp(delta A) h(t-1) + delta B u + p, y = sum over the directions of C . h + D_skip u. Shapes as `irstd_ext.pixel_difference_scan`."""
    (batch, D, rows, columns), N = u.shape, A.shape[1]
    bias, skip = (torch.zeros_like(A[:, 0]) if t is None else t for t in (delta_bias, D_skip))
    delta = delta + bias.view(4, D, 1, 1)
    delta = torch.nn.functional.softplus(delta, threshold=40) if delta_softplus else delta  # 20 would be seen in float64
    p = torch.zeros_like(u) if W is None else _neighbour_term(u, W, gamma)
    by_row = torch.arange(rows * columns).view(rows, columns)
    visits = [by_row.flatten(), by_row.t().flatten(), by_row.flatten().flip(0), by_row.t().flatten().flip(0)]
    pixels, addends = u.flatten(2).unbind(2), p.flatten(2).unbind(2)  # of [B, D]; one unbind: the gradient of an index is as large as the image
    out = [0] * len(pixels)
    for k in range(4):
        deltas, Bs, Cs = (x[:, k].flatten(2).unbind(2) for x in (delta, B, C))
        h = u.new_zeros(batch, D, N)
        for t in visits[k].tolist():
            h = torch.exp(deltas[t][..., None] * A.view(4, D, N)[k]) * h + deltas[t][..., None] * Bs[t][:, None] * pixels[t][..., None] + addends[t][..., None]
            out[t] = out[t] + (Cs[t][:, None] * h).sum(-1) + skip.view(4, D)[k] * pixels[t]
    return torch.stack(out, -1).view(u.shape)
