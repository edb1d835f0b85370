"""The selective scans of VMamba over `pixel_difference_scan`: `selective_scan_fn` for given sequences, `cross_selective_scan_fn` for an image.

A network that calls cross_scan, selective_scan_fn and cross_merge is served best by the second: one call, and u is neither copied nor read out of order.
"""
from typing import Optional

import torch
from torch import Tensor

from .. import ops, reference


def _scan(function: str, backend: Optional[str], *args) -> Tensor:
    if backend not in (None, "ext", "reference"):
        raise ValueError(f"{function}: backend must be 'ext' or 'reference', got {backend!r}")
    return (reference if backend == "reference" else ops).pixel_difference_scan(*args)


def scan_to_image(x: Tensor, height: int, width: int) -> Tensor:
    """Sequences of the four directions as maps: [B, 4, F, H W], in the order of VMamba's cross-scan, to [B, 4, F, H, W] in image order.

    Example:
        >>> import torch
        >>> from irstd_ext.compat.vmamba import scan_to_image
        >>> scan_to_image(torch.arange(6).expand(1, 4, 1, 6), 2, 3)[0, :, 0].tolist()
        [[[0, 1, 2], [3, 4, 5]], [[0, 2, 4], [1, 3, 5]], [[5, 4, 3], [2, 1, 0]], [[5, 3, 1], [4, 2, 0]]]
    """
    if x.dim() != 4 or x.shape[1] != 4 or x.shape[3] != height * width:
        raise RuntimeError(f"scan_to_image: x must be [B, 4, F, {height * width}] for a {height} x {width} image, got {list(x.shape)}")
    rows, columns, rows_back, columns_back = x.unbind(1)
    by_row, by_column = (height, width), (width, height)
    return torch.stack([rows.unflatten(2, by_row), columns.unflatten(2, by_column).transpose(2, 3), rows_back.flip(2).unflatten(2, by_row),
                        columns_back.flip(2).unflatten(2, by_column).transpose(2, 3)], 1)


def cross_selective_scan_fn(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Optional[Tensor] = None, delta_bias: Optional[Tensor] = None,
                            delta_softplus: bool = True, W: Optional[Tensor] = None, gamma: float = 1.0, backend: Optional[str] = None) -> Tensor:
    r"""cross_merge(selective_scan_fn(cross_scan(u), delta, A, B, C, D, delta_bias)) of an image, in one call of `pixel_difference_scan`.

    .. math:: y = \sum_{k=0}^{3} merge_k\, scan(cross_k\, u, \delta_k, A_k, B_k, C_k)

    Args:
        u: [B, D, H, W] image. delta: [B, 4 D, L] or [B, 4, D, L], L = H W, in the order of each direction's scan. A: [4 D, N]. B, C: [B, 4, N, L], in scan order.
        D, delta_bias: [4 D] or None. W, gamma: the neighbour term of `pixel_difference_scan`, which VMamba has not.
        backend: "ext" (as None) or "reference", plain PyTorch.

    Returns:
        [B, D, H, W], where VMamba's merge gives [B, D, L]. delta, B and C are copied to image order; projections computed from the image are in that order
        already, and then `pixel_difference_scan` takes them as they are.
    Errors: RuntimeError in one line for a wrong shape, dtype or device.

    Example:
        >>> import torch
        >>> from irstd_ext.compat.vmamba import cross_selective_scan_fn
        >>> u, B, C = torch.randn(1, 8, 5, 6), torch.randn(1, 4, 2, 30), torch.randn(1, 4, 2, 30)
        >>> cross_selective_scan_fn(u, torch.randn(1, 32, 30), -torch.ones(32, 2), B, C, torch.ones(32)).shape
        torch.Size([1, 8, 5, 6])
    """
    if u.dim() != 4:
        raise RuntimeError(f"cross_selective_scan_fn: u must be 4-D [B, D, H, W], got {u.dim()}-D")
    height, width = u.shape[2:]
    if delta.dim() == 3:
        delta = delta.unflatten(1, (4, u.shape[1]))
    delta, B, C = (scan_to_image(x, height, width) for x in (delta, B, C))
    return _scan("cross_selective_scan_fn", backend, u, delta, A, B, C, D, delta_bias, W, gamma, delta_softplus)


def selective_scan_fn(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Optional[Tensor] = None, delta_bias: Optional[Tensor] = None,
                      delta_softplus: bool = True, oflex: bool = True, backend: Optional[str] = None) -> Tensor:
    r"""The selective scan of Mamba as VMamba calls it: independent sequences of K groups, each with its own u, step sizes and maps.

    .. math:: h_j(t) = e^{\delta_t A_j} h_j(t-1) + \delta_t B_j(t) u(t),\quad y(t) = \sum_j C_j(t) h_j(t) + D u(t)

    Args:
        u, delta: [B, K D, L]. A: [K D, N]. B, C: [B, K, N, L]. D, delta_bias: [K D] or None. Row k D + d is group k, channel d; any K.
        oflex: float32 output for half-precision input; False gives the dtype of u.
        backend: "ext" (as None) or "reference", plain PyTorch.

    Returns:
        [B, K D, L].

    How: one call per group, on an image of one row, where directions 0 and 1 both walk from left to right: each takes half of the states. Directions 2 and
    3 walk back and have no part in this (their B and C are 0), so half of the work is for nothing; `cross_selective_scan_fn` wastes none.
    Errors: RuntimeError in one line for a wrong shape, dtype or device.

    Example:
        >>> import torch
        >>> from irstd_ext.compat.vmamba import selective_scan_fn
        >>> u, delta, B, C = torch.randn(2, 12, 20), torch.randn(2, 12, 20), torch.randn(2, 4, 5, 20), torch.randn(2, 4, 5, 20)
        >>> selective_scan_fn(u, delta, -torch.ones(12, 5), B, C, torch.ones(12)).shape
        torch.Size([2, 12, 20])
    """
    for name, t, layout in (("u", u, "[B, K*D, L]"), ("delta", delta, "[B, K*D, L]"), ("A", A, "[K*D, N]"), ("B", B, "[B, K, N, L]"), ("C", C, "[B, K, N, L]")):
        if t.dim() != layout.count(",") + 1:
            raise RuntimeError(f"selective_scan_fn: {name} must be {layout.count(',') + 1}-D {layout}, got {t.dim()}-D")
    groups = B.shape[1]
    if groups == 0 or u.shape[1] % groups or A.shape[0] != u.shape[1] or C.shape[1] != groups or delta.shape != u.shape:
        raise RuntimeError(f"selective_scan_fn: u and delta must be [B, K*D, L], A [K*D, N] and B, C [B, K, N, L] with the same K, got u {list(u.shape)},"
                           f" delta {list(delta.shape)}, A {list(A.shape)}, B {list(B.shape)}, C {list(C.shape)}")
    if oflex and u.dtype in (torch.float16, torch.bfloat16):
        u, delta, A, B, C, D, delta_bias = (None if t is None else t.float() for t in (u, delta, A, B, C, D, delta_bias))

    def halves(t, axis):
        """States shared out to directions 0 and 1, an odd one beside a zero; zeros for directions 2 and 3."""
        size = (t.shape[axis] + 1) // 2
        first, second = t.narrow(axis, 0, size), t.narrow(axis, size, t.shape[axis] - size)
        nothing = torch.zeros_like(first)
        return [first, torch.cat([second, nothing.narrow(axis, 0, 2 * size - t.shape[axis])], axis), nothing, nothing]

    out = []
    split = [t.chunk(groups, 1) for t in (u, delta)] + [A.chunk(groups), B.unbind(1), C.unbind(1)]
    optional = [[None] * groups if t is None else t.chunk(groups) for t in (D, delta_bias)]
    for u_k, delta_k, A_k, B_k, C_k, D_k, bias_k in zip(*split, *optional):
        image = u_k.unsqueeze(2)  # [B, D, 1, L]
        steps = delta_k[:, None, :, None].expand(-1, 4, -1, -1, -1)
        maps = [torch.stack(halves(t, 1), 1).unsqueeze(3) for t in (B_k, C_k)]
        skip = None if D_k is None else torch.cat([D_k, D_k.new_zeros(3 * len(D_k))])
        bias = None if bias_k is None else bias_k.repeat(4)
        out.append(_scan("selective_scan_fn", backend, image, steps, torch.cat(halves(A_k, 1)), *maps, skip, bias, None, 1.0, delta_softplus).squeeze(2))
    return torch.cat(out, 1)
