"""The selective scans of VMamba over `pixel_difference_scan`: `selective_scan_fn` for given sequences, `cross_selective_scan_fn` for an image.

A network that calls cross_scan, selective_scan_fn and cross_merge is served best by the second: one call, and u is neither copied nor read out of order.
"""
from typing import Optional

import torch
from torch import Tensor

from .. import ops, reference


def _check(function: str, name: str, t: Optional[Tensor], layout: str, known: dict) -> None:
    """One line unless t, if given, has this layout, as "B, N >= 1, L": letters in `known` have those sizes, others become known."""
    if t is None:
        return
    terms = layout.split(", ")
    letters = [term.removesuffix(" >= 1") for term in terms]
    if t.dim() != len(terms) or any(known.get(a, s) != s or (s == 0 and a != term) for a, term, s in zip(letters, terms, t.shape)):
        sizes = f" = [{', '.join(str(known.get(a, a)) for a in letters)}]" if any(a in known for a in letters) else ""
        raise RuntimeError(f"{function}: {name} must be [{layout}]{sizes}, got {list(t.shape)}")
    known.update(zip(letters, t.shape))


# VMamba's own names of its CUDA kernels, and of its plain form, are taken too.
_BACKENDS = {None: ops, "ext": ops, "oflex": ops, "core": ops, "mamba": ops, "reference": reference, "torch": reference}


def _scan(function: str, backend: Optional[str], *args) -> Tensor:
    if backend not in _BACKENDS:
        raise ValueError(f"{function}: backend must be 'ext' or 'reference', got {backend!r}")
    return _BACKENDS[backend].pixel_difference_scan(*args)


def scan_to_image(x: Tensor, height: int, width: int) -> Tensor:
    """Sequences of the four directions as maps: [B, 4, F, L], L = H W, in the order of VMamba's cross-scan, to [B, 4, F, H, W] in image order.

    Returns a copy in the dtype of x. Errors: RuntimeError in one line for a wrong shape.
    Source: "VMamba: Visual State Space Model", Liu et al., NeurIPS 2024, the four scans of SS2D.

    Example:
        >>> import torch
        >>> from irstd_ext.compat.vmamba import scan_to_image
        >>> scan_to_image(torch.arange(6).expand(1, 4, 1, 6), 2, 3)[0, :, 0].tolist()
        [[[0, 1, 2], [3, 4, 5]], [[0, 2, 4], [1, 3, 5]], [[5, 4, 3], [2, 1, 0]], [[5, 3, 1], [4, 2, 0]]]
    """
    _check("scan_to_image", "x", x, "B, 4, F, H*W", {"4": 4, "H*W": height * width})
    rows, columns, rows_back, columns_back = x.unbind(1)
    by_row, by_column = (height, width), (width, height)
    return torch.stack([rows.unflatten(2, by_row), columns.unflatten(2, by_column).transpose(2, 3), rows_back.flip(2).unflatten(2, by_row),
                        columns_back.flip(2).unflatten(2, by_column).transpose(2, 3)], 1)


def cross_selective_scan_fn(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Optional[Tensor] = None, delta_bias: Optional[Tensor] = None,
                            delta_softplus: bool = True, W: Optional[Tensor] = None, gamma: float = 1.0, backend: Optional[str] = None) -> Tensor:
    r"""cross_merge(selective_scan_fn(cross_scan(u), delta, A, B, C, D, delta_bias)) of an image, in one call of `pixel_difference_scan`.

    .. math:: y = \sum_{k=0}^{3} merge_k\, scan(cross_k\, u, \delta_k, A_k, B_k, C_k)

    Args:
        u: [B, D, H, W] image. delta: [B, 4 D, L] or [B, 4, D, L], L = H W, in the order of each direction's scan; B, C: [B, 4, N, L] too. A: [4 D, N].
        D, delta_bias: [4 D] or None. W, gamma: the neighbour term of `pixel_difference_scan`, which VMamba has not.
        backend: "ext" (as None) or "reference", plain PyTorch; of VMamba's names "oflex", "core", "mamba" mean the first, "torch" the second.

    Returns:
        [B, D, H, W], where VMamba's merge gives [B, D, L]. delta, B and C are copied to image order; projections computed from the image are in that order
        already, and then `pixel_difference_scan` takes them as they are.

    Dtypes: those of `pixel_difference_scan`: the result has the dtype of u. Half precision computes in float32 and is returned in half, where VMamba's oflex
    returns float32. Under autocast everything is computed and returned in float32 (float64 stays).
    Errors: RuntimeError in one line for a wrong shape, and from `pixel_difference_scan` for a wrong dtype or device; ValueError for another backend.
    Source: "VMamba: Visual State Space Model", Liu et al., NeurIPS 2024 (SS2D); the scan as in `selective_scan_fn`.

    Example:
        >>> import torch
        >>> from irstd_ext.compat.vmamba import cross_selective_scan_fn
        >>> u, B, C = torch.randn(1, 8, 5, 6), torch.randn(1, 4, 2, 30), torch.randn(1, 4, 2, 30)
        >>> cross_selective_scan_fn(u, torch.randn(1, 32, 30), -torch.ones(32, 2), B, C, torch.ones(32)).shape
        torch.Size([1, 8, 5, 6])
    """
    function, known = "cross_selective_scan_fn", {}
    _check(function, "u", u, "B, D, H, W", known)
    (_, channels, height, width), by_direction = u.shape, delta.dim() != 3
    known.update({"4": 4, "4*D": 4 * channels, "L": height * width, "2": 2})
    for name, t, layout in (("delta", delta, "B, 4, D, L" if by_direction else "B, 4*D, L"), ("A", A, "4*D, N >= 1"), ("B", B, "B, 4, N, L"),
                            ("C", C, "B, 4, N, L"), ("D", D, "4*D"), ("delta_bias", delta_bias, "4*D"), ("W", W, "2, n >= 1, D")):
        _check(function, name, t, layout, known)
    if not by_direction:
        delta = delta.unflatten(1, (4, channels))
    delta, B, C = (scan_to_image(x, height, width) for x in (delta, B, C))
    return _scan(function, backend, u, delta, A, B, C, D, delta_bias, W, gamma, delta_softplus)


def selective_scan_fn(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Optional[Tensor] = None, delta_bias: Optional[Tensor] = None,
                      delta_softplus: bool = True, oflex: bool = True, backend: Optional[str] = None) -> Tensor:
    r"""The selective scan of Mamba as VMamba calls it: independent sequences of K groups, each with its own u, step sizes and maps.

    .. math:: h_j(t) = e^{\delta_t A_j} h_j(t-1) + \delta_t B_j(t) u(t),\quad y(t) = \sum_j C_j(t) h_j(t) + D u(t)

    Args:
        u, delta: [B, K D, L]. A: [K D, N]. B, C: [B, K, N, L]. D, delta_bias: [K D] or None. Row k D + d is group k, channel d; any K.
        oflex: float32 output for half-precision u; False gives the dtype of u.
        backend: "ext" (as None) or "reference", plain PyTorch; of VMamba's names "oflex", "core", "mamba" mean the first, "torch" the second.

    Returns:
        [B, K D, L]. Causal: what is not finite reaches no earlier step. Inf or NaN in u at step t: NaN from t on in that row; for gradients that u is 0.

    How: one call per group, on an image of one row, where directions 0 and 1 both walk from left to right: each takes half of the states. Directions 2 and
    3 walk back and have no part in this (their delta, B and C are 0, and u, which all share, is made finite), so half of the work is for nothing;
    `cross_selective_scan_fn` wastes none.
    Dtypes: those of `pixel_difference_scan`; with oflex, half-precision u turns everything to float32. Half precision computes in float32. Under autocast
    everything is computed and returned in float32 (float64 stays).
    Errors: RuntimeError in one line for a wrong shape, and from `pixel_difference_scan` for a wrong dtype or device; ValueError for another backend.
    Source: "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", Gu and Dao, 2023, Eq. 2-4, with Euler's step for B as in its code.

    Example:
        >>> import torch
        >>> from irstd_ext.compat.vmamba import selective_scan_fn
        >>> u, delta, B, C = torch.randn(2, 12, 20), torch.randn(2, 12, 20), torch.randn(2, 4, 5, 20), torch.randn(2, 4, 5, 20)
        >>> selective_scan_fn(u, delta, -torch.ones(12, 5), B, C, torch.ones(12)).shape
        torch.Size([2, 12, 20])
    """
    function, known = "selective_scan_fn", {}
    for name, t, layout in (("u", u, "B, K*D, L"), ("delta", delta, "B, K*D, L"), ("A", A, "K*D, N >= 1"), ("B", B, "B, K >= 1, N, L"),
                            ("C", C, "B, K, N, L"), ("D", D, "K*D"), ("delta_bias", delta_bias, "K*D")):
        _check(function, name, t, layout, known)
    groups, rows = known["K"], known["K*D"]
    if rows % groups:
        raise RuntimeError(f"{function}: B must be [B, K, N, L] with K a divisor of the {rows} rows of u, got {list(B.shape)}")
    if oflex and u.dtype in (torch.float16, torch.bfloat16):
        u, delta, A, B, C, D, delta_bias = (None if t is None else t.float() for t in (u, delta, A, B, C, D, delta_bias))

    def halves(t, axis):
        """States shared out to directions 0 and 1, an odd one beside a zero; zeros for directions 2 and 3."""
        size = (t.shape[axis] + 1) // 2
        first, second = t.narrow(axis, 0, size), t.narrow(axis, size, t.shape[axis] - size)
        nothing = torch.zeros_like(first)
        return [first, torch.cat([second, nothing.narrow(axis, 0, 2 * size - t.shape[axis])], axis), nothing, nothing]

    late = (u.detach() * 0).cumsum(2)  # 0, but NaN from the first step on that is not finite
    u = u.nan_to_num(0, 0, 0)
    out = []
    split = [t.chunk(groups, 1) for t in (u, delta)] + [A.chunk(groups), B.unbind(1), C.unbind(1)]
    optional = [[None] * groups if t is None else t.chunk(groups) for t in (D, delta_bias)]
    for u_k, delta_k, A_k, B_k, C_k, D_k, bias_k in zip(*split, *optional):
        image = u_k.unsqueeze(2)  # [B, D, 1, L]
        steps = torch.stack([delta_k, delta_k, *[torch.zeros_like(delta_k)] * 2], 1).unsqueeze(3)  # [B, 4, D, 1, L]
        maps = [torch.stack(halves(t, 1), 1).unsqueeze(3) for t in (B_k, C_k)]
        skip = None if D_k is None else torch.cat([D_k, D_k.new_zeros(3 * len(D_k))])
        bias = None if bias_k is None else torch.cat([bias_k, bias_k, bias_k.new_zeros(2 * len(bias_k))])
        out.append(_scan(function, backend, image, steps, torch.cat(halves(A_k, 1)), *maps, skip, bias, None, 1.0, delta_softplus).squeeze(2))
    return torch.cat(out, 1) + late
