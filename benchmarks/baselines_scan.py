"""Selective scans as they are written without a kernel, for comparison with pixel_difference_scan."""
import torch
from irstd_ext import reference
from torch import Tensor


def _doubling(a: Tensor, x: Tensor) -> None:
    """x(t) = a(t) x(t-1) + x(t) in place along dimension 1: pairs up the steps, solves half as many, fills in the others (Blelloch, 1990). a is spent."""
    if x.shape[1] == 1:
        return
    pairs = x.shape[1] // 2 * 2
    odd_a, odd_x = a[:, 1::2], x[:, 1::2]
    odd_x.addcmul_(odd_a, x[:, 0:pairs:2])
    odd_a.mul_(a[:, 0:pairs:2])
    _doubling(odd_a, odd_x)
    later = x[:, 2::2]
    later.addcmul_(a[:, 2::2], odd_x[:, : later.shape[1]])


class _Recurrence(torch.autograd.Function):
    """h(t) = a(t) h(t-1) + x(t); a, x: [G, L, ...]. The gradient is the same recurrence from the end."""

    @staticmethod
    def forward(ctx, a, x):
        h = x.clone()
        _doubling(a.clone(), h)
        ctx.save_for_backward(a, h)
        return h

    @staticmethod
    def backward(ctx, grad):
        a, h = ctx.saved_tensors
        g = grad.flip(1)
        _doubling(torch.cat([torch.zeros_like(a[:, :1]), a[:, 1:].flip(1)], 1), g)
        g = g.flip(1)
        return torch.cat([torch.zeros_like(a[:, :1]), g[:, 1:] * h[:, :-1]], 1), g


def _directions(x: Tensor) -> Tensor:
    """[B, 4, F, H, W] -> [4 B, L, F] in scan order, contiguous."""
    rows, columns, rows_back, columns_back = x.unbind(1)
    order = [rows.flatten(2), columns.transpose(2, 3).flatten(2), rows_back.flatten(2).flip(2), columns_back.transpose(2, 3).flatten(2).flip(2)]
    return torch.cat([t.transpose(1, 2) for t in order])


def pscan(u, delta, A, B, C, D_skip=None, delta_bias=None, W=None, gamma=1.0, delta_softplus=True):
    """Every state of every step at once: a parallel scan over tensors [4 B, L, D, N], as Mamba is often written in PyTorch."""
    batch, D, height, width = u.shape
    if delta_bias is not None:
        delta = delta + delta_bias.view(4, D, 1, 1)
    steps = _directions(torch.nn.functional.softplus(delta) if delta_softplus else delta)
    us, Bs, Cs = (_directions(x) for x in (u.unsqueeze(1).expand(-1, 4, -1, -1, -1), B, C))
    a = torch.exp(steps.unsqueeze(-1) * A.view(4, 1, D, -1).repeat_interleave(batch, 0))  # [4 B, L, D, N]
    x = (steps * us).unsqueeze(-1) * Bs.unsqueeze(2)
    if W is not None:
        p = reference.pixel_difference(u, W, gamma)
        x = x + _directions(p.unsqueeze(1).expand(-1, 4, -1, -1, -1)).unsqueeze(-1)
    y = (_Recurrence.apply(a, x) @ Cs.unsqueeze(-1)).squeeze(-1).transpose(1, 2).unflatten(0, (4, batch))  # [4, B, D, L]
    rows, columns = y[0] + y[2].flip(2), y[1] + y[3].flip(2)
    out = rows.unflatten(2, (height, width)) + columns.unflatten(2, (width, height)).transpose(2, 3)
    return out if D_skip is None else out + D_skip.view(4, D).sum(0)[:, None, None] * u


def loop(u, delta, A, B, C, D_skip=None, delta_bias=None, W=None, gamma=1.0, delta_softplus=True):
    """One step after the other, all directions together. With unbind, whose gradient is linear in L; the usual x[:, t] takes time in L^2 there."""
    batch, D, height, width = u.shape
    if delta_bias is not None:
        delta = delta + delta_bias.view(4, D, 1, 1)
    steps = _directions(torch.nn.functional.softplus(delta) if delta_softplus else delta)
    us, Bs, Cs = (_directions(x) for x in (u.unsqueeze(1).expand(-1, 4, -1, -1, -1), B, C))
    added = [0] * us.shape[1]
    if W is not None:
        added = _directions(reference.pixel_difference(u, W, gamma).unsqueeze(1).expand(-1, 4, -1, -1, -1)).unsqueeze(-1).unbind(1)
    decay = A.view(4, D, -1).repeat_interleave(batch, 0)
    h, y = torch.zeros_like(decay), []
    for step, drive, b, c, p in zip(steps.unbind(1), (steps * us).unbind(1), Bs.unbind(1), Cs.unbind(1), added):
        h = torch.exp(step.unsqueeze(-1) * decay) * h + drive.unsqueeze(-1) * b.unsqueeze(1) + p
        y.append((h @ c.unsqueeze(-1)).squeeze(-1))
    y = torch.stack(y, -1).unflatten(0, (4, batch))
    rows, columns = y[0] + y[2].flip(2), y[1] + y[3].flip(2)
    out = rows.unflatten(2, (height, width)) + columns.unflatten(2, (width, height)).transpose(2, 3)
    return out if D_skip is None else out + D_skip.view(4, D).sum(0)[:, None, None] * u
