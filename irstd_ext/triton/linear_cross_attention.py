"""linear_cross_attention in Triton. The design and its counts are those of csrc/ops/linear_cross_attention: parts of the state for splits of the tokens,
their sum in a fixed order, then passes over the tokens."""
import torch
import triton
import triton.language as tl

from ..ops.linear_cross_attention import _fake, _fake_backward
from ._common import accum_type, exponential, product, rows, sums, tile


@triton.jit
def phi(x):
    """elu(x) + 1, with exp for x <= 0."""
    return tl.where(x > 0, x + 1.0, exponential(tl.where(x > 0, 0.0, x)))


@triton.jit
def load_tokens(pointer, t, f, tokens, features, t_stride, f_stride, ACC: tl.constexpr):
    """[tokens, features] tile, 0 outside."""
    return tl.load(pointer + t[:, None] * t_stride + f[None, :] * f_stride, mask=(t < tokens)[:, None] & (f < features)[None, :], other=0.0).to(ACC)


@triton.jit
def load_phi(pointer, t, f, tokens, features, t_stride, f_stride, ACC: tl.constexpr):
    """phi of a tile, 0 outside."""
    x = load_tokens(pointer, t, f, tokens, features, t_stride, f_stride, ACC)
    return tl.where((t < tokens)[:, None] & (f < features)[None, :], phi(x), 0.0)


@triton.jit
def store_tokens(pointer, x, t, f, tokens, features, t_stride, f_stride):
    tl.store(pointer + t[:, None] * t_stride + f[None, :] * f_stride, x.to(pointer.dtype.element_ty), mask=(t < tokens)[:, None] & (f < features)[None, :])


@triton.jit
def state_kernel(a, b, inverse, d_norm, part, h, n, d, e, a_b, a_h, a_n, a_f, b_b, b_h, b_n, b_f, splits, per_split, d_tiles, e_tiles, QUERIES: tl.constexpr,
                 ACC: tl.constexpr, BT: tl.constexpr, BD: tl.constexpr, BE: tl.constexpr):
    """One tile of S = sum phi(a) b^T and z = sum phi(a) over one split of the tokens; of queries, b is divided by D and phi(a) in z multiplied by dD."""
    pid = tl.program_id(0).to(tl.int64)
    e_tile, d_tile, split, head = pid % e_tiles, pid // e_tiles % d_tiles, pid // (e_tiles * d_tiles) % splits, pid // (e_tiles * d_tiles * splits)
    a += head // h * a_b + head % h * a_h
    b += head // h * b_b + head % h * b_h
    i, j = d_tile * BD + tl.arange(0, BD), e_tile * BE + tl.arange(0, BE)
    begin = split * per_split
    end = tl.minimum(begin + per_split, n)
    state, z = tl.zeros([BD, BE], ACC), tl.zeros([BD], ACC)
    for t0 in range(begin, end, BT):
        t = t0 + tl.arange(0, BT).to(tl.int64)
        x = load_phi(a, t, i, end, d, a_n, a_f, ACC)
        y = load_tokens(b, t, j, end, e, b_n, b_f, ACC)
        if QUERIES:
            y *= tl.load(inverse + head * n + t, mask=t < end, other=0.0)[:, None]
            z += tl.sum(x * tl.load(d_norm + head * n + t, mask=t < end, other=0.0)[:, None], 0)
        else:
            z += tl.sum(x, 0)
        state = product(tl.trans(x), y, state)
    part += (head * splits + split) * d * (e + 1)
    tl.store(part + i[:, None] * e + j[None, :], state, mask=(i < d)[:, None] & (j < e)[None, :])
    tl.store(part + d * e + i, z, mask=(i < d) & (e_tile == 0))


@triton.jit
def forward_kernel(q, states, out, h, n, d, e, q_b, q_h, q_n, q_f, o_b, o_h, o_n, o_f, t_tiles, e_tiles, EPS: tl.constexpr, ACC: tl.constexpr, BT: tl.constexpr,
                   BD: tl.constexpr, BE: tl.constexpr):
    """out = phi(q)^T S / (phi(q) . z + eps), BT tokens x BE features: 2 d e flops a token; reads q, writes out."""
    pid = tl.program_id(0).to(tl.int64)
    head = pid // (e_tiles * t_tiles)
    t = pid // e_tiles % t_tiles * BT + tl.arange(0, BT)
    j = pid % e_tiles * BE + tl.arange(0, BE)
    q += head // h * q_b + head % h * q_h
    states += head * d * (e + 1)
    acc, norm = tl.zeros([BT, BE], ACC), tl.full([BT], EPS, ACC)
    for d0 in range(0, d, BD):
        i = d0 + tl.arange(0, BD).to(tl.int64)
        x = load_phi(q, t, i, n, d, q_n, q_f, ACC)
        acc = product(x, load_tokens(states, i, j, d, e, e, 1, ACC), acc)
        norm += tl.sum(x * tl.load(states + d * e + i, mask=i < d, other=0.0)[None, :], 1)
    store_tokens(out + head // h * o_b + head % h * o_h, acc / norm[:, None], t, j, n, e, o_n, o_f)


@triton.jit
def state_times_grad(grad, states, t, i, n, d, e, g_n, g_f, ACC: tl.constexpr, BT: tl.constexpr, BD: tl.constexpr, BE: tl.constexpr):
    """w = S grad of a tile of tokens, features i of d."""
    w = tl.zeros([BT, BD], ACC)
    for e0 in range(0, e, BE):
        j = e0 + tl.arange(0, BE).to(tl.int64)
        w = product(load_tokens(grad, t, j, n, e, g_n, g_f, ACC), load_tokens(states, j, i, e, d, 1, e, ACC), w)
    return w


@triton.jit
def queries_kernel(q, grad, states, inverse, d_norm, dq, h, n, d, e, q_b, q_h, q_n, q_f, g_b, g_h, g_n, g_f, o_b, o_h, o_n, o_f, t_tiles, EPS: tl.constexpr,
                   ACC: tl.constexpr, BT: tl.constexpr, BD: tl.constexpr, BE: tl.constexpr):
    """dq = phi'(q) (w / D + z dD), w = S grad, dD = -(phi(q) . w) / D^2; writes 1 / D and dD. w is computed twice: 4 d e flops a token."""
    pid = tl.program_id(0).to(tl.int64)
    head = pid // t_tiles
    t = pid % t_tiles * BT + tl.arange(0, BT)
    q += head // h * q_b + head % h * q_h
    grad += head // h * g_b + head % h * g_h
    states += head * d * (e + 1)
    norm, dot = tl.full([BT], EPS, ACC), tl.zeros([BT], ACC)
    for d0 in range(0, d, BD):
        i = d0 + tl.arange(0, BD).to(tl.int64)
        f = load_phi(q, t, i, n, d, q_n, q_f, ACC)
        norm += tl.sum(f * tl.load(states + d * e + i, mask=i < d, other=0.0)[None, :], 1)
        dot += tl.sum(f * state_times_grad(grad, states, t, i, n, d, e, g_n, g_f, ACC, BT, BD, BE), 1)
    inv = 1.0 / norm
    dn = -dot * inv * inv
    tl.store(inverse + head * n + t, inv, mask=t < n)
    tl.store(d_norm + head * n + t, dn, mask=t < n)
    for d0 in range(0, d, BD):
        i = d0 + tl.arange(0, BD).to(tl.int64)
        w = state_times_grad(grad, states, t, i, n, d, e, g_n, g_f, ACC, BT, BD, BE)
        z = tl.load(states + d * e + i, mask=i < d, other=0.0)
        x = load_tokens(q, t, i, n, d, q_n, q_f, ACC)
        x = (w * inv[:, None] + z[None, :] * dn[:, None]) * tl.where(x > 0, 1.0, phi(x))
        store_tokens(dq + head // h * o_b + head % h * o_h, x, t, i, n, d, o_n, o_f)


@triton.jit
def keys_kernel(k, v, d_states, dk, h, m, d, e, k_b, k_h, k_n, k_f, v_b, v_h, v_n, v_f, o_b, o_h, o_n, o_f, t_tiles, d_tiles, ACC: tl.constexpr, BT: tl.constexpr,
                BD: tl.constexpr, BE: tl.constexpr):
    """dk = phi'(k) (dS v + dz), BT tokens x BD features: 2 d e flops a token; reads k and v, writes dk."""
    pid = tl.program_id(0).to(tl.int64)
    head = pid // (d_tiles * t_tiles)
    t = pid // d_tiles % t_tiles * BT + tl.arange(0, BT)
    i = pid % d_tiles * BD + tl.arange(0, BD)
    d_states += head * d * (e + 1)
    dphi = state_times_grad(v + head // h * v_b + head % h * v_h, d_states, t, i, m, d, e, v_n, v_f, ACC, BT, BD, BE)
    dphi += tl.load(d_states + d * e + i, mask=i < d, other=0.0)[None, :]
    x = load_tokens(k + head // h * k_b + head % h * k_h, t, i, m, d, k_n, k_f, ACC)
    store_tokens(dk + head // h * o_b + head % h * o_h, dphi * tl.where(x > 0, 1.0, phi(x)), t, i, m, d, o_n, o_f)


@triton.jit
def values_kernel(k, d_states, dv, h, m, d, e, k_b, k_h, k_n, k_f, o_b, o_h, o_n, o_f, t_tiles, e_tiles, ACC: tl.constexpr, BT: tl.constexpr, BD: tl.constexpr,
                  BE: tl.constexpr):
    """dv = dS^T phi(k), BT tokens x BE features: 2 d e flops a token; reads k, writes dv."""
    pid = tl.program_id(0).to(tl.int64)
    head = pid // (e_tiles * t_tiles)
    t = pid // e_tiles % t_tiles * BT + tl.arange(0, BT)
    j = pid % e_tiles * BE + tl.arange(0, BE)
    k += head // h * k_b + head % h * k_h
    d_states += head * d * (e + 1)
    acc = tl.zeros([BT, BE], ACC)
    for d0 in range(0, d, BD):
        i = d0 + tl.arange(0, BD).to(tl.int64)
        acc = product(load_phi(k, t, i, m, d, k_n, k_f, ACC), load_tokens(d_states, i, j, d, e, e, 1, ACC), acc)
    store_tokens(dv + head // h * o_b + head % h * o_h, acc, t, j, m, e, o_n, o_f)


def _tiles(t, d, e):
    return dict(ACC=accum_type(t), BT=rows(t), BD=tile(d), BE=tile(e))


def _state(a, b, inverse=None, d_norm=None):
    """[B h, d (e + 1)]: S [d, e], then z [d], over the tokens of a and b. The split depends on the number of tokens only, so a head's sums do not depend on
    the batch."""
    B, h, n, d = a.shape
    e, heads, step = b.shape[3], B * h, 32
    splits = min(max(triton.cdiv(n, 128), 1), 128)
    per_split = triton.cdiv(n, splits * step) * step
    tiles = _tiles(a, d, e)
    grid = triton.cdiv(d, tiles["BD"]), triton.cdiv(max(e, 1), tiles["BE"])
    wide = torch.float64 if a.dtype == torch.float64 else torch.float32
    part = a.new_empty(heads, splits, d * (e + 1), dtype=wide)
    if part.numel() == 0:
        return part[:, 0]
    queries = inverse is not None
    state_kernel[(heads * splits * grid[0] * grid[1],)](a, b, inverse if queries else part, d_norm if queries else part, part, h, n, d, e, *a.stride(), *b.stride(),
                                                        splits, per_split, *grid, QUERIES=queries, **{**tiles, "BT": step})
    if splits == 1:
        return part[:, 0]
    total = a.new_empty(heads, d * (e + 1), dtype=wide)
    sums(part, total, heads, splits, d * (e + 1))
    return total


def linear_cross_attention(q, k, v, eps=1e-6):
    """`torch.ops.irstd_ext.linear_cross_attention` on a CUDA device."""
    out = _fake(q, k, v, eps)
    if out.numel() == 0:
        return out
    B, h, n, d = q.shape
    e, tiles = v.shape[3], _tiles(q, d, v.shape[3])
    t_tiles, e_tiles = triton.cdiv(n, tiles["BT"]), triton.cdiv(e, tiles["BE"])
    with torch.cuda.device_of(q):
        states = _state(k, v)
        forward_kernel[(B * h * t_tiles * e_tiles,)](q, states, out, h, n, d, e, *q.stride(), *out.stride(), t_tiles, e_tiles, EPS=float(eps), **tiles)
    return out


def linear_cross_attention_backward(grad, q, k, v, eps):
    """`torch.ops.irstd_ext.linear_cross_attention_backward` on a CUDA device."""
    dq, dk, dv = _fake_backward(grad, q, k, v, eps)
    B, h, n, d = q.shape
    m, e, tiles = k.shape[2], v.shape[3], _tiles(q, d, v.shape[3])
    with torch.cuda.device_of(q):
        states = _state(k, v)
        inverse, d_norm = states.new_empty(2, B * h * n)
        t_tiles = triton.cdiv(n, tiles["BT"])
        if dq.numel():
            queries_kernel[(B * h * t_tiles,)](q, grad, states, inverse, d_norm, dq, h, n, d, e, *q.stride(), *grad.stride(), *dq.stride(), t_tiles, EPS=float(eps),
                                               **tiles)
        d_states = _state(q, grad, inverse, d_norm)
        t_tiles, d_tiles, e_tiles = triton.cdiv(m, tiles["BT"]), triton.cdiv(d, tiles["BD"]), triton.cdiv(e, tiles["BE"])
        if dk.numel():
            keys_kernel[(B * h * t_tiles * d_tiles,)](k, v, d_states, dk, h, m, d, e, *k.stride(), *v.stride(), *dk.stride(), t_tiles, d_tiles, **tiles)
        if dv.numel():
            values_kernel[(B * h * t_tiles * e_tiles,)](k, d_states, dv, h, m, d, e, *k.stride(), *dv.stride(), t_tiles, e_tiles, **tiles)
    return dq, dk, dv
