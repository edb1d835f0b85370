"""Reference of pixel_difference_scan: a scan by chunks, in plain PyTorch, for images of any size. pixel_difference_scan_naive is the truth it is tested against."""
from typing import Optional

import torch
from torch import Tensor
from torch.nn.functional import pad, softplus
from torch.utils.checkpoint import checkpoint

from ._neighbours import neighbour_term

LARGE = 1 << 26  # elements; above it, tensors are made again in backward instead of kept


def _to_scan(x: Tensor, steps: int) -> Tensor:
    """[B, 4, F, H, W] in image order -> [steps, B, 4, F]: row by row, column by column, and both reversed; zeros at the end."""
    rows, columns, rows_back, columns_back = (y.permute(2, 3, 0, 1) for y in x.unbind(1))  # [H, W, B, F]
    order = [rows.flatten(0, 1), columns.transpose(0, 1).flatten(0, 1), rows_back.flatten(0, 1).flip(0), columns_back.transpose(0, 1).flatten(0, 1).flip(0)]
    return pad(torch.stack(order, 2), (0, 0, 0, 0, 0, 0, 0, steps - x.shape[3] * x.shape[4]))


def _merge(y: Tensor, rows: int, columns: int) -> Tensor:
    """[L, B, 4, D] -> the sum of the directions at their pixels, [B, D, H, W]."""
    by_row, by_column, by_row_back, by_column_back = y.unbind(2)
    along_rows, along_columns = by_row + by_row_back.flip(0), by_column + by_column_back.flip(0)
    return (along_rows.unflatten(0, (rows, columns)) + along_columns.unflatten(0, (columns, rows)).transpose(0, 1)).permute(2, 3, 0, 1)


def _decay(delta: Tensor, A: Tensor) -> Tensor:
    """exp(delta A): [..., D] and [4, N, D] -> [..., N, D]. Exponents end at -50: denormal numbers would make all that follows slow."""
    exponent = delta.unsqueeze(-2) * A
    with torch.no_grad():
        exponent.clamp_(min=-50)  # 2e-22 for 0, and the gradient goes on as if nothing had been done
    return torch.exp(exponent)


def _segment(h: Tensor, u: Tensor, p: Optional[Tensor], delta: Tensor, A: Tensor, B: Tensor, C: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    """h: the state before, [B, 4, N, D]; A: [4, N, D]; the others [steps, B, 4, D or N]. Returns y [steps, B, 4, D] and the state after.

    The chunks advance together, each from a zero state: then a scan over the chunks gives the states they really start from, and as the recurrence is linear,
    C exp(A S) times that state, S the sum of delta since the start of the chunk, is what is missing from y.
    """
    def by_step(x):  # [steps, B, 4, F] -> chunk tensors [chunks, B, 4, F]; unbind, since the gradient of x[:, t] would be as large as x
        return x.unflatten(0, (-1, chunk)).unbind(1)

    drives, deltas, Bs, Cs = by_step(delta * u), by_step(delta), by_step(B), by_step(C)
    addends = by_step(p) if p is not None else None
    local, total, sums, y = None, 0, [], []
    for t in range(chunk):
        drive, b = drives[t].unsqueeze(-2), Bs[t].unsqueeze(-1)
        local = drive * b if local is None else torch.addcmul(_decay(deltas[t], A) * local, drive, b)  # [chunks, B, 4, N, D]
        if addends is not None:
            local = local + addends[t].unsqueeze(-2)
        total = total + deltas[t]
        sums.append(total)
        y.append(Cs[t].unsqueeze(-2) @ local)
    before = []
    for decay, end in zip(_decay(total, A).unbind(0), local.unbind(0)):
        before.append(h)
        h = torch.addcmul(end, decay, h)
    before = torch.stack(before)
    y = [y[t] + Cs[t].unsqueeze(-2) @ (_decay(sums[t], A) * before) for t in range(chunk)]
    return torch.stack(y, 1).flatten(0, 1).squeeze(-2), h


def pixel_difference_scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D_skip: Optional[Tensor] = None, delta_bias: Optional[Tensor] = None,
                          W: Optional[Tensor] = None, gamma: float = 1.0, delta_softplus: bool = True) -> Tensor:
    """h(t) = exp(delta A) h(t-1) + delta B u + p, y = sum over the directions of C . h + D_skip u. Shapes as `irstd_ext.pixel_difference_scan`."""
    if A.shape[1] == 0 or (W is not None and W.shape[1] == 0):
        raise ValueError("pixel_difference_scan: A must have N >= 1 states and W n >= 1 windows")
    (batch, D, rows, columns), N, L = u.shape, A.shape[1], u.shape[2] * u.shape[3]
    if u.numel() == 0:
        return u * A.sum().to(u.dtype)
    wide = torch.float64 if u.dtype == torch.float64 else torch.float32
    image, delta, A, B, C, D_skip, delta_bias, W = (None if t is None else t.to(wide) for t in (u, delta, A, B, C, D_skip, delta_bias, W))
    if delta_bias is not None:
        delta = delta + delta_bias.view(4, D, 1, 1)
    if delta_softplus:
        delta = softplus(delta.contiguous(), threshold=40)  # 20 would be seen in float64; compiled, its gradient needs dense strides

    # Segments follow one another, each of so many steps that its states fit; chunks of a segment advance together.
    longest = max(1, min(L, LARGE // (batch * 4 * N * D)))
    chunk = max(1, round(longest**0.5))
    span = -(-longest // chunk) * chunk
    steps = -(-L // chunk) * chunk
    pieces = [_to_scan(x, steps).split(span) for x in (image.unsqueeze(1).expand(-1, 4, -1, -1, -1), delta, B, C)]
    if W is None:
        addends = [None] * len(pieces[0])
    else:
        addends = _to_scan(neighbour_term(image, W, gamma).unsqueeze(1).expand(-1, 4, -1, -1, -1), steps).split(span)
    h, y, decay = image.new_zeros(batch, 4, N, D), [], A.view(4, D, N).transpose(1, 2).contiguous()
    for us, deltas, Bs, Cs, ps in zip(*pieces, addends):
        if len(addends) == 1:
            part, h = _segment(h, us, ps, deltas, decay, Bs, Cs, chunk)
        else:
            part, h = checkpoint(_segment, h, us, ps, deltas, decay, Bs, Cs, chunk, use_reentrant=False)
        y.append(part)
    out = _merge(torch.cat(y)[:L], rows, columns)
    if D_skip is not None:
        out = out + D_skip.view(4, D).sum(0)[:, None, None] * image
    format = torch.channels_last if u.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    return out.to(u.dtype).contiguous(memory_format=format)
