"""The recurrence of pixel_difference_scan forward in time. A program has G items (image, direction, segment of its steps) and BD channels of each, with all their
states in registers as [G, NP, BD], and walks through its segments step by step; G > 1 where there are fewer channels than lanes in a warp. No tensor is
transposed or reversed: a direction only says which pixel a step visits."""
import triton
import triton.language as tl

from ._common import exponential


@triton.jit
def rate_and_slope(x, SOFTPLUS: tl.constexpr):
    """delta and its derivative by x = delta_raw + delta_bias; softplus as max(x, 0) + log1p(exp(-|x|)), neither part of which cancels."""
    if not SOFTPLUS:
        return x, tl.zeros_like(x) + 1.0
    e = exponential(-tl.abs(x))
    if x.dtype == tl.float64:
        w = 1.0 + e  # rounded; log(w) / (w - 1) hardly depends on by how much
        log1p = tl.where(w == 1.0, e, tl.log(w) * (e / tl.where(w == 1.0, 1.0, w - 1.0)))
    else:  # tl.log is of no use near 1: 2 atanh(s), s = e / (2 + e) <= 1/3, by seven terms of its series
        s = e / (2.0 + e)
        square = s * s
        log1p = square * (2 / 13) + (2 / 11)
        for i in tl.static_range(5):
            log1p = log1p * square + 2 / (9 - 2 * i)
        log1p = log1p * s
    return tl.maximum(x, 0.0) + log1p, tl.where(x < 0.0, e, 1.0) / (1.0 + e)


@triton.jit
def ways(k, H, W):
    """Of directions k [G, 1]: whether they go along rows (0 and 2) or columns, whether backwards (2 and 3), and the length of a line."""
    return k % 2 == 0, k >= 2, tl.where(k % 2 == 0, W, H)


@triton.jit
def visited(t, L, rows, backwards, size):
    """Row and column of the pixel visited at step t. [G, 1]"""
    s = tl.where(backwards, L - 1 - t, t)
    line = s // size
    place = s - line * size
    return tl.where(rows, line, place).to(tl.int64), tl.where(rows, place, line).to(tl.int64)


@triton.jit
def chains(segments, blocks, G: tl.constexpr, BD: tl.constexpr):
    """Items of this program, their image, direction, segment, and number among all (item, block of channels), [G, 1]; and its channels [1, BD]."""
    pid = tl.program_id(0).to(tl.int64)
    item = pid // blocks * G + tl.arange(0, G)[:, None]
    return item, item // segments // 4, item // segments % 4, item % segments, item * blocks + pid % blocks, pid % blocks * BD + tl.arange(0, BD)[None, :]


@triton.jit
def cells(NP: tl.constexpr, BD: tl.constexpr):
    """Where a tile of states [G, NP, BD] lies in a workspace, from its first element on: distances that the compiler knows. [1, NP, BD]"""
    return (tl.arange(0, NP)[:, None] * BD + tl.arange(0, BD)[None, :])[None, :, :]


@triton.jit
def decays(A, k, j, d, mask, D, N):
    """A log2(e) [G, NP, BD], so that exp(delta A) is one exp2. Its argument rounds, which costs most where exp(delta A) is least. Rates beyond 1e8 (1e20 in
    double), infinite ones too, count as these: 0 times such a rate is 0. NaN stays."""
    rate = tl.load(A + ((k * D + d) * N)[:, None, :] + j[:, :, None], mask=mask, other=0.0) * 1.4426950408889634
    most = 1e20 if rate.dtype == tl.float64 else 1e8
    rate = tl.where(rate > most, most, rate)
    return tl.where(rate < -most, -most, rate)


@triton.jit
def step(h, A2, bias, u, delta, B, p, on, channels, states, inside, SOFTPLUS: tl.constexpr, NEIGHBOURS: tl.constexpr, WHOLE: tl.constexpr, ACC: tl.constexpr):
    """h(t) = exp(delta A) h(t-1) + delta B u + p (Eq. 8), and u(t) and delta(t). u, delta and p point to the channels [G, BD], B to the states [G, NP] of the
    pixel; h stays where not `on`. WHOLE: all are on, and there are all the channels and states of the tile."""
    x = tl.load(u, mask=channels, other=0.0).to(ACC)
    dt, slope = rate_and_slope(tl.load(delta, mask=channels, other=0.0).to(ACC) + bias, SOFTPLUS)
    dt = tl.where(channels, dt, 0.0)
    add = (dt * x)[:, None, :] * tl.load(B, mask=states, other=0.0).to(ACC)[:, :, None]
    if NEIGHBOURS:
        add += tl.load(p, mask=channels, other=0.0)[:, None, :]
    after = tl.exp2(dt[:, None, :] * A2) * h + add
    if not WHOLE:
        after = tl.where(on[:, :, None] & inside, after, h)
    return after, x, dt


@triton.jit
def scan_kernel(u, delta, A, B, C, skip, bias, p, start, y, end, total, H, W, L, D, N, u_b, u_h, u_w, e_b, e_k, e_h, e_w, b_b, b_k, b_h, b_w, c_b, c_k, c_h, c_w,
                plane, items, segments, steps, blocks, LOCAL: tl.constexpr, STARTS: tl.constexpr, SKIP: tl.constexpr, SOFTPLUS: tl.constexpr,
                NEIGHBOURS: tl.constexpr, WHOLE: tl.constexpr, ACC: tl.constexpr, INT: tl.constexpr, G: tl.constexpr, NP: tl.constexpr, BD: tl.constexpr):
    """y_k(t) = sum_j C_j h_j + D_skip_k u into y [4, B, H, W, D], from the states `start` [items, blocks, NP, BD] or 0. LOCAL: from 0, and instead of y what
    the segment does to a state: exp(A total) h + end, total [items, blocks, BD]. One exp2 and five other operations per step, channel and state; reads u,
    delta and p once per direction, B and C once per block of channels."""
    item, b, k, segment, slot, d = chains(segments, blocks, G, BD)
    j = tl.arange(0, NP)[None, :]
    live, has_d, has_j = item < items, d < D, j < N
    inside = has_j[:, :, None] & has_d[:, None, :]
    rows, backwards, size = ways(k, H, W)
    A2 = decays(A, k, j, d, live[:, :, None] & inside, D, N)
    shift = tl.load(bias + k * D + d, mask=live & has_d, other=0.0)
    u, delta, B, p = u + b * u_b + d, delta + b * e_b + k * e_k + d, B + b * b_b + k * b_k + j, p + b * L * D + d
    h = tl.zeros([G, NP, BD], ACC)
    if STARTS:
        h = tl.load((start + slot * (NP * BD))[:, :, None] + cells(NP, BD), mask=live[:, :, None], other=0.0)
    if LOCAL:
        sum_of = tl.zeros([G, BD], ACC)
    else:
        C, y = C + b * c_b + k * c_k + j, y + k * plane + b * L * D + d
        if SKIP:
            kept = tl.load(skip + k * D + d, mask=live & has_d, other=0.0)
    t = (segment * steps).to(INT)
    for i in range(0, steps):
        r, c = visited(t, L, rows, backwards, size)
        on, pixel = live & (t < L), (r * W + c) * D
        channels, states = on & has_d, on & has_j
        h, x, dt = step(h, A2, shift, u + (r * u_h + c * u_w), delta + (r * e_h + c * e_w), B + (r * b_h + c * b_w), p + pixel, on, channels, states, inside, SOFTPLUS,
                        NEIGHBOURS, WHOLE, ACC)
        if LOCAL:
            sum_of += dt
        else:
            out = tl.sum(tl.load(C + (r * c_h + c * c_w), mask=states, other=0.0).to(ACC)[:, :, None] * h, 1)
            if SKIP:
                out += kept * x
            tl.store(y + pixel, out, mask=channels)
        t += 1
    if LOCAL:
        tl.store((end + slot * (NP * BD))[:, :, None] + cells(NP, BD), h, mask=live[:, :, None])
        tl.store(total + slot * BD + tl.arange(0, BD)[None, :], sum_of, mask=live)


@triton.jit
def carry_kernel(A, end, total, start, D, N, items, segments, blocks, BACK: tl.constexpr, ACC: tl.constexpr, G: tl.constexpr, NP: tl.constexpr, BD: tl.constexpr):
    """States at the segments' starts: h(next) = exp(A total) h + end; BACK: the adjoint ones at their ends, from the last segment to the first."""
    item, _, k, _, _, d = chains(1, blocks, G, BD)  # (image, direction)
    live, j = item < items, tl.arange(0, NP)[None, :]
    A2 = decays(A, k, j, d, (live & (j < N))[:, :, None] & (d < D)[:, None, :], D, N)
    h = tl.zeros([G, NP, BD], ACC)
    for i in range(0, segments):
        segment = i
        if BACK:
            segment = segments - 1 - i
        slot = (item * segments + segment) * blocks + tl.program_id(0) % blocks
        state = (slot * (NP * BD))[:, :, None] + cells(NP, BD)
        tl.store(start + state, h, mask=live[:, :, None])
        sum_of = tl.load(total + slot * BD + tl.arange(0, BD)[None, :], mask=live, other=0.0)
        h = tl.exp2(sum_of[:, None, :] * A2) * h + tl.load(end + state, mask=live[:, :, None], other=0.0)
