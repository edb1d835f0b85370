"""bilinear_attention in Triton. The design and its counts are those of csrc/ops/bilinear_attention: weights exist one tile at a time, in registers."""
import torch
import triton
import triton.language as tl

from ..ops.bilinear_attention import _fake, _fake_backward
from ._common import accum_type, product, rows, sums, tile


@triton.jit
def key_range(k, M, ACC: tl.constexpr, BM: tl.constexpr):
    """Least and greatest key of an image."""
    low, high = tl.full([BM], float("inf"), ACC), tl.full([BM], float("-inf"), ACC)
    for j0 in range(0, M, BM):
        j = j0 + tl.arange(0, BM)
        low = tl.minimum(low, tl.load(k + j, mask=j < M, other=float("inf")))
        high = tl.maximum(high, tl.load(k + j, mask=j < M, other=float("-inf")))
    return tl.min(low, 0), tl.max(high, 0)


@triton.jit
def weights(a, key, low, high, inside):
    """exp(a_i (k_j - peak_i)), 0 outside; the greatest logit of a row is a_i times the greatest or the least key."""
    top = tl.where(a >= 0, high, low)
    return tl.where(inside, tl.exp(a[:, None] * (key[None, :] - top[:, None])), 0.0)


@triton.jit
def load_tile(pointer, rows, columns, row_stride, column_stride, inside, ACC: tl.constexpr):
    return tl.load(pointer + rows[:, None] * row_stride + columns[None, :] * column_stride, mask=inside, other=0.0).to(ACC)


@triton.jit
def score_tile(grad, value, i, j, L, M, E, g_r, g_e, v_r, v_e, ACC: tl.constexpr, BI: tl.constexpr, BJ: tl.constexpr, BE: tl.constexpr):
    """dA_ij = sum_e grad_ie value_je, 0 outside."""
    acc = tl.zeros([BI, BJ], ACC)
    for e0 in range(0, E, BE):
        e = e0 + tl.arange(0, BE).to(tl.int64)
        g = load_tile(grad, i, e, g_r, g_e, (i < L)[:, None] & (e < E)[None, :], ACC)
        v = load_tile(value, e, j, v_e, v_r, (e < E)[:, None] & (j < M)[None, :], ACC)
        acc = product(g, v, acc)
    return tl.where((i < L)[:, None] & (j < M)[None, :], acc, 0.0)


@triton.jit
def forward_kernel(q, k, weight, gamma, value, residual, out, C, L, M, E, v_b, v_c, v_r, v_e, r_b, r_c, r_r, r_e, row_tiles, col_tiles, ACC: tl.constexpr,
                   BI: tl.constexpr, BJ: tl.constexpr, BE: tl.constexpr):
    """out = residual + gamma A value, one BI x BE tile of a plane: 2 L M E flops and L M exponentials (for each tile of columns) over (M + 2 L) E elements."""
    pid = tl.program_id(0).to(tl.int64)
    plane = pid // (row_tiles * col_tiles)
    b, c = plane // C, plane % C
    i = pid // col_tiles % row_tiles * BI + tl.arange(0, BI)
    e = pid % col_tiles * BE + tl.arange(0, BE)
    low, high = key_range(k + b * M, M, ACC, BJ)
    a = tl.load(weight + c) * tl.load(q + b * L + i, mask=i < L, other=0.0)
    acc, total = tl.zeros([BI, BE], ACC), tl.zeros([BI], ACC)
    for j0 in range(0, M, BJ):
        j = j0 + tl.arange(0, BJ).to(tl.int64)
        p = weights(a, tl.load(k + b * M + j, mask=j < M, other=0.0), low, high, (i < L)[:, None] & (j < M)[None, :])
        v = load_tile(value + b * v_b + c * v_c, j, e, v_r, v_e, (j < M)[:, None] & (e < E)[None, :], ACC)
        acc = product(p, v, acc)
        total += tl.sum(p, 1)
    inside = (i < L)[:, None] & (e < E)[None, :]
    res = load_tile(residual + b * r_b + c * r_c, i, e, r_r, r_e, inside, ACC)
    t = tl.load(gamma) * (acc / total[:, None])
    tl.store(out + (plane * L + i[:, None]) * E + e[None, :], tl.where(t == 0, res, res + t).to(out.dtype.element_ty), mask=inside)


@triton.jit
def plane_kernel(q, k, weight, gamma, value, grad, dq, dk, dw, dg, d_value, C, L, M, E, v_b, v_c, v_r, v_e, g_b, g_c, g_r, g_e, ADD: tl.constexpr, ACC: tl.constexpr,
                 BI: tl.constexpr, BJ: tl.constexpr, BE: tl.constexpr):
    """The whole backward of a plane with L <= BI, M <= BJ: 6 L M E flops, (2 (or 3) L + 2 M) E elements."""
    plane = tl.program_id(0).to(tl.int64)
    b, c = plane // C, plane % C
    i, j = tl.arange(0, BI).to(tl.int64), tl.arange(0, BJ).to(tl.int64)
    inside = (i < L)[:, None] & (j < M)[None, :]
    grad += b * g_b + c * g_c
    scores = score_tile(grad, value + b * v_b + c * v_c, i, j, L, M, E, g_r, g_e, v_r, v_e, ACC, BI, BJ, BE)
    low, high = key_range(k + b * M, M, ACC, BJ)
    w, g0 = tl.load(weight + c), tl.load(gamma)
    qi, key = tl.load(q + b * L + i, mask=i < L, other=0.0), tl.load(k + b * M + j, mask=j < M, other=0.0)
    p = weights(w * qi, key, low, high, inside)
    p = tl.where(inside, p / tl.sum(p, 1)[:, None], 0.0)
    dot = tl.sum(p * scores, 1)
    dt = tl.where(inside, g0 * p * (scores - dot[:, None]), 0.0)
    u = tl.sum(dt * key[None, :], 1)
    tl.store(dq + plane * L + i, w * u, mask=i < L)
    tl.store(dk + plane * M + j, w * tl.sum(dt * qi[:, None], 0), mask=j < M)
    tl.store(dw + plane, tl.sum(qi * u, 0))
    tl.store(dg + plane, tl.sum(dot, 0))
    for e0 in range(0, E, BE):
        e = e0 + tl.arange(0, BE).to(tl.int64)
        g = load_tile(grad, i, e, g_r, g_e, (i < L)[:, None] & (e < E)[None, :], ACC)
        d = g0 * product(tl.trans(p), g, tl.zeros([BJ, BE], ACC))
        stored = (j < M)[:, None] & (e < E)[None, :]
        if ADD:
            d += load_tile(grad, j, e, g_r, g_e, stored, ACC)
        tl.store(d_value + (plane * M + j[:, None]) * E + e[None, :], d.to(d_value.dtype.element_ty), mask=stored)


@triton.jit
def rows_kernel(q, k, weight, value, grad, scale, dots, dg, C, L, M, E, v_b, v_c, v_r, v_e, g_b, g_c, g_r, g_e, row_tiles, ACC: tl.constexpr, BI: tl.constexpr,
                BJ: tl.constexpr, BE: tl.constexpr):
    """Of a tile of rows: scale_i = 1 / sum_j exp, dot_i = sum_j A_ij dA_ij, and d_gamma's part. 2 L M E flops a plane."""
    pid = tl.program_id(0).to(tl.int64)
    plane = pid // row_tiles
    b, c = plane // C, plane % C
    i = pid % row_tiles * BI + tl.arange(0, BI)
    low, high = key_range(k + b * M, M, ACC, BJ)
    a = tl.load(weight + c) * tl.load(q + b * L + i, mask=i < L, other=0.0)
    total, dot = tl.zeros([BI], ACC), tl.zeros([BI], ACC)
    for j0 in range(0, M, BJ):
        j = j0 + tl.arange(0, BJ).to(tl.int64)
        scores = score_tile(grad + b * g_b + c * g_c, value + b * v_b + c * v_c, i, j, L, M, E, g_r, g_e, v_r, v_e, ACC, BI, BJ, BE)
        p = weights(a, tl.load(k + b * M + j, mask=j < M, other=0.0), low, high, (i < L)[:, None] & (j < M)[None, :])
        total += tl.sum(p, 1)
        dot += tl.sum(p * scores, 1)
    dot = tl.where(i < L, dot / total, 0.0)
    tl.store(scale + plane * L + i, 1.0 / total, mask=i < L)
    tl.store(dots + plane * L + i, dot, mask=i < L)
    tl.store(dg + pid, tl.sum(dot, 0))


@triton.jit
def cols_kernel(q, k, weight, gamma, value, grad, scale, dots, dq, dk, dw, C, L, M, E, v_b, v_c, v_r, v_e, g_b, g_c, g_r, g_e, col_tiles, ACC: tl.constexpr,
                BI: tl.constexpr, BJ: tl.constexpr, BE: tl.constexpr):
    """Of a tile of columns, over all rows: dk, and the parts of dq and d_weight. 2 L M E flops a plane."""
    pid = tl.program_id(0).to(tl.int64)
    plane, part = pid // col_tiles, pid % col_tiles
    b, c = plane // C, plane % C
    j = part * BJ + tl.arange(0, BJ)
    low, high = key_range(k + b * M, M, ACC, BJ)
    w, g0, key = tl.load(weight + c), tl.load(gamma), tl.load(k + b * M + j, mask=j < M, other=0.0)
    t = tl.zeros([BJ], ACC)
    for i0 in range(0, L, BI):
        i = i0 + tl.arange(0, BI).to(tl.int64)
        inside = (i < L)[:, None] & (j < M)[None, :]
        scores = score_tile(grad + b * g_b + c * g_c, value + b * v_b + c * v_c, i, j, L, M, E, g_r, g_e, v_r, v_e, ACC, BI, BJ, BE)
        qi = tl.load(q + b * L + i, mask=i < L, other=0.0)
        p = weights(w * qi, key, low, high, inside) * tl.load(scale + plane * L + i, mask=i < L, other=0.0)[:, None]
        dt = tl.where(inside, g0 * p * (scores - tl.load(dots + plane * L + i, mask=i < L, other=0.0)[:, None]), 0.0)
        tl.store(dq + (plane * col_tiles + part) * L + i, w * tl.sum(dt * key[None, :], 1), mask=i < L)
        t += tl.sum(dt * qi[:, None], 0)
    tl.store(dk + plane * M + j, w * t, mask=j < M)
    tl.store(dw + (b * col_tiles + part) * C + c, tl.sum(t * key, 0))


@triton.jit
def values_kernel(q, k, weight, gamma, grad, scale, d_value, C, L, M, E, g_b, g_c, g_r, g_e, row_tiles, col_tiles, ADD: tl.constexpr, ACC: tl.constexpr,
                  BI: tl.constexpr, BJ: tl.constexpr, BE: tl.constexpr):
    """d_value = gamma A^T grad (+ grad), one BJ x BE tile: 2 L M E flops a plane, L M exponentials for each tile of columns."""
    pid = tl.program_id(0).to(tl.int64)
    plane = pid // (row_tiles * col_tiles)
    b, c = plane // C, plane % C
    j = pid // col_tiles % row_tiles * BJ + tl.arange(0, BJ)
    e = pid % col_tiles * BE + tl.arange(0, BE)
    grad += b * g_b + c * g_c
    low, high = key_range(k + b * M, M, ACC, BJ)
    w, key = tl.load(weight + c), tl.load(k + b * M + j, mask=j < M, other=0.0)
    acc = tl.zeros([BJ, BE], ACC)
    for i0 in range(0, L, BI):
        i = i0 + tl.arange(0, BI).to(tl.int64)
        p = weights(w * tl.load(q + b * L + i, mask=i < L, other=0.0), key, low, high, (i < L)[:, None] & (j < M)[None, :])
        p *= tl.load(scale + plane * L + i, mask=i < L, other=0.0)[:, None]
        acc = product(tl.trans(p), load_tile(grad, i, e, g_r, g_e, (i < L)[:, None] & (e < E)[None, :], ACC), acc)
    d = tl.load(gamma) * acc
    stored = (j < M)[:, None] & (e < E)[None, :]
    if ADD:
        d += load_tile(grad, j, e, g_r, g_e, stored, ACC)
    tl.store(d_value + (plane * M + j[:, None]) * E + e[None, :], d.to(d_value.dtype.element_ty), mask=stored)


def _dense(value, *small):
    wide = torch.float64 if value.dtype == torch.float64 else torch.float32
    return [t.to(wide).contiguous() for t in small]


def _backward_tiles(L, M, value):
    """Tiles of rows, columns and the summed dimension, and whether a program takes a plane."""
    most = rows(value)
    return tile(L, most), tile(M, most), tile(value.shape[3]), max(L, M) <= most


def bilinear_attention(q, k, weight, value, gamma, residual=None, bias=None):
    """`torch.ops.irstd_ext.bilinear_attention` on a CUDA device."""
    out = _fake(q, k, weight, value, gamma, residual, bias)
    if out.numel() == 0:
        return out
    residual = value if residual is None else residual
    B, C, M, E = value.shape
    L = q.shape[1]
    bi, bj, be = tile(L), tile(M), tile(E)
    row_tiles, col_tiles = triton.cdiv(L, bi), triton.cdiv(E, be)
    with torch.cuda.device_of(value):
        qa, ka, wa, ga = _dense(value, q, k, weight, gamma)
        forward_kernel[(B * C * row_tiles * col_tiles,)](qa, ka, wa, ga, value, residual, out, C, L, M, E, *value.stride(), *residual.stride(), row_tiles, col_tiles,
                                               ACC=accum_type(value), BI=bi, BJ=bj, BE=be)
    return out


def bilinear_attention_backward(grad, q, k, weight, value, gamma, add_grad):
    """`torch.ops.irstd_ext.bilinear_attention_backward` on a CUDA device."""
    dq, dk, dw, d_value, dg = _fake_backward(grad, q, k, weight, value, gamma, add_grad)
    B, C, M, E = value.shape
    L, planes = q.shape[1], B * C
    bi, bj, be, whole = _backward_tiles(L, M, value)
    row_tiles, col_tiles = (1, 1) if whole else (triton.cdiv(L, bi), triton.cdiv(M, bj))
    tiles = dict(ACC=accum_type(value), BI=bi, BJ=bj, BE=be)
    with torch.cuda.device_of(value):
        qa, ka, wa, ga = small = _dense(value, q, k, weight, gamma)
        n = [planes * col_tiles * L, planes * M, planes * col_tiles, planes * row_tiles, planes * L, planes * L]  # [B, C, JT, L] [B, C, M] [B, JT, C] [B, C, IT] and rows
        dq_part, dk_part, dw_part, dg_part, scale, dots = qa.new_empty(sum(n)).split(n)
        strides = C, L, M, E, *value.stride(), *grad.stride()
        if planes and whole:
            plane_kernel[(planes,)](*small, value, grad, dq_part, dk_part, dw_part, dg_part, d_value, *strides, ADD=add_grad, **tiles)
        elif planes:
            if row_tiles:
                rows_kernel[(planes * row_tiles,)](qa, ka, wa, value, grad, scale, dots, dg_part, *strides, row_tiles, **tiles)
            cols_kernel[(planes * col_tiles,)](*small, value, grad, scale, dots, dq_part, dk_part, dw_part, *strides, col_tiles, **tiles)
            if E:
                e_tiles = triton.cdiv(E, be)
                values_kernel[(planes * col_tiles * e_tiles,)](*small, grad, scale, d_value, C, L, M, E, *grad.stride(), col_tiles, e_tiles, ADD=add_grad, **tiles)
        sums(dq_part, dq, B, C * col_tiles, L)
        sums(dk_part, dk, B, C, M)
        sums(dw_part, dw, 1, B * col_tiles, C)
        sums(dg_part, dg, 1, planes * row_tiles, 1)
    return dq, dk, dw, d_value, dg
