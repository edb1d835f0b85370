"""The recurrence of pixel_difference_scan back in time."""
import triton
import triton.language as tl

from ._pixel_difference_steps import cells, chains, decays, rate_and_slope, step, visited, ways


@triton.jit
def adjoint_kernel(delta, A, C, grad, bias, end, H, W, L, D, N, e_b, e_k, e_h, e_w, c_b, c_k, c_h, c_w, g_b, g_h, g_w, items, segments, steps, blocks,
                   SOFTPLUS: tl.constexpr, WHOLE: tl.constexpr, ACC: tl.constexpr, INT: tl.constexpr, G: tl.constexpr, NP: tl.constexpr, BD: tl.constexpr):
    """What a segment passes back to the one before if nothing comes from the one behind: exp(delta A) g of its first step."""
    item, b, k, segment, slot, d = chains(segments, blocks, G, BD)
    j = tl.arange(0, NP)[None, :]
    live, has_d, has_j = item < items, d < D, j < N
    inside = has_j[:, :, None] & has_d[:, None, :]
    rows, backwards, size = ways(k, H, W)
    A2 = decays(A, k, j, d, live[:, :, None] & inside, D, N)
    shift = tl.load(bias + k * D + d, mask=live & has_d, other=0.0)
    delta, C, grad = delta + b * e_b + k * e_k + d, C + b * c_b + k * c_k + j, grad + b * g_b + d
    back = tl.zeros([G, NP, BD], ACC)
    t = (segment * steps + (steps - 1)).to(INT)
    for i in range(0, steps):
        r, c = visited(t, L, rows, backwards, size)
        on = live & (t < L)
        channels = on & has_d
        dy = tl.load(grad + (r * g_h + c * g_w), mask=channels, other=0.0).to(ACC)
        dt, slope = rate_and_slope(tl.load(delta + (r * e_h + c * e_w), mask=channels, other=0.0).to(ACC) + shift, SOFTPLUS)
        row = tl.load(C + (r * c_h + c * c_w), mask=on & has_j, other=0.0).to(ACC)
        before = tl.exp2(tl.where(channels, dt, 0.0)[:, None, :] * A2) * (row[:, :, None] * dy[:, None, :] + back)
        if not WHOLE:
            before = tl.where(on[:, :, None] & inside, before, back)
        back = before
        t -= 1
    tl.store((end + slot * (NP * BD))[:, :, None] + cells(NP, BD), back, mask=live[:, :, None])


@triton.jit
def backward_kernel(u, delta, A, B, C, grad, skip, bias, p, start, behind, marks, saved, du, dp, d_delta, dB, dC, dA, d_skip, d_bias, H, W, L, D, N,
                    u_b, u_h, u_w, e_b, e_k, e_h, e_w, b_b, b_k, b_h, b_w, c_b, c_k, c_h, c_w, g_b, g_h, g_w, o_b, o_k, o_h, o_w, plane, part, items, segments, steps,
                    blocks, STARTS: tl.constexpr, SKIP: tl.constexpr, SOFTPLUS: tl.constexpr, NEIGHBOURS: tl.constexpr, WHOLE: tl.constexpr, ACC: tl.constexpr,
                    INT: tl.constexpr, CHUNK: tl.constexpr, G: tl.constexpr, NP: tl.constexpr, BD: tl.constexpr):
    """All gradients of the recurrence. Once forward for the states at the chunks' starts (marks [items, blocks, chunks, NP, BD]); then from the last chunk to the
    first: forward again for the states before each of its steps (saved [items, blocks, CHUNK, NP, BD]) and back, with g_j(t) = C_j dy + exp(delta A_j) g_j of
    the step behind. dp and du are left as four planes [4, B, H, W, D], dB and dC as one for each block of channels, dA, d_skip and d_bias by image and
    segment: no two programs write to one place. Three exp2 and some twenty other operations per step, channel and state."""
    item, b, k, segment, slot, d = chains(segments, blocks, G, BD)
    j = tl.arange(0, NP)[None, :]
    live, has_d, has_j = item < items, d < D, j < N
    inside, one, cell = has_j[:, :, None] & has_d[:, None, :], live[:, :, None], cells(NP, BD)
    rows, backwards, size = ways(k, H, W)
    A2 = decays(A, k, j, d, one & inside, D, N)
    shift = tl.load(bias + k * D + d, mask=live & has_d, other=0.0)
    if SKIP:
        kept = tl.load(skip + k * D + d, mask=live & has_d, other=0.0)
    u, delta, B, C, grad = u + b * u_b + d, delta + b * e_b + k * e_k + d, B + b * b_b + k * b_k + j, C + b * c_b + k * c_k + j, grad + b * g_b + d
    p, du, dp, d_delta = p + b * L * D + d, du + k * plane + b * L * D + d, dp + k * plane + b * L * D + d, d_delta + b * o_b + k * o_k + d
    of_block = (b * 4 + k) * L * N + (tl.program_id(0) % blocks).to(tl.int64) * part + j  # in [blocks, B, 4, H, W, N]
    dB, dC = dB + of_block, dC + of_block
    chunks = (steps + CHUNK - 1) // CHUNK
    marks, saved = marks + slot * chunks * (NP * BD), saved + slot * (CHUNK * NP * BD)
    h, g = tl.zeros([G, NP, BD], ACC), tl.zeros([G, NP, BD], ACC)  # g: exp(delta A) g of the step behind
    if STARTS:
        h = tl.load((start + slot * (NP * BD))[:, :, None] + cell, mask=one, other=0.0)
        g = tl.load((behind + slot * (NP * BD))[:, :, None] + cell, mask=one, other=0.0)
    tl.store(marks[:, :, None] + cell, h, mask=one)
    t = (segment * steps).to(INT)
    for chunk in range(1, chunks):
        for i in range(0, CHUNK):
            r, c = visited(t, L, rows, backwards, size)
            on = live & (t < L)
            h, x, dt = step(h, A2, shift, u + (r * u_h + c * u_w), delta + (r * e_h + c * e_w), B + (r * b_h + c * b_w), p + (r * W + c) * D, on, on & has_d, on & has_j,
                            inside, SOFTPLUS, NEIGHBOURS, WHOLE, ACC)
            t += 1
        marks += NP * BD
        tl.store(marks[:, :, None] + cell, h, mask=one)
    tl.debug_barrier()  # what is read below may have been written by another thread of this program
    sum_A, sum_skip, sum_bias = tl.zeros([G, NP, BD], ACC), tl.zeros([G, BD], ACC), tl.zeros([G, BD], ACC)
    for chunk in range(0, chunks):
        h = tl.load(marks[:, :, None] + cell, mask=one, other=0.0)
        for i in range(0, CHUNK):
            tl.store(saved[:, :, None] + cell, h, mask=one)
            r, c = visited(t, L, rows, backwards, size)
            on = live & (t < L)
            h, x, dt = step(h, A2, shift, u + (r * u_h + c * u_w), delta + (r * e_h + c * e_w), B + (r * b_h + c * b_w), p + (r * W + c) * D, on, on & has_d, on & has_j,
                            inside, SOFTPLUS, NEIGHBOURS, WHOLE, ACC)
            saved += NP * BD
            t += 1
        tl.debug_barrier()
        part_A, part_skip, part_bias = tl.zeros([G, NP, BD], ACC), tl.zeros([G, BD], ACC), tl.zeros([G, BD], ACC)  # sums of sums: less rounding
        for i in range(0, CHUNK):
            saved -= NP * BD
            t -= 1
            r, c = visited(t, L, rows, backwards, size)
            on, pixel = live & (t < L), r * W + c
            channels, states = on & has_d, on & has_j
            x = tl.load(u + (r * u_h + c * u_w), mask=channels, other=0.0).to(ACC)
            dy = tl.load(grad + (r * g_h + c * g_w), mask=channels, other=0.0).to(ACC)
            dt, slope = rate_and_slope(tl.load(delta + (r * e_h + c * e_w), mask=channels, other=0.0).to(ACC) + shift, SOFTPLUS)
            dt = tl.where(channels, dt, 0.0)
            to_state = tl.load(B + (r * b_h + c * b_w), mask=states, other=0.0).to(ACC)[:, :, None]
            from_state = tl.load(C + (r * c_h + c * c_w), mask=states, other=0.0).to(ACC)[:, :, None]
            decay = tl.exp2(dt[:, None, :] * A2)
            hp = decay * tl.load(saved[:, :, None] + cell, mask=one, other=0.0)
            h = hp + (dt * x)[:, None, :] * to_state
            if NEIGHBOURS:
                h += tl.load(p + pixel * D, mask=channels, other=0.0)[:, None, :]
            behind_g = g
            g += from_state * dy[:, None, :]
            if not WHOLE:
                there = on[:, :, None] & inside
                decay, hp, h, g = tl.where(there, decay, 1.0), tl.where(there, hp, 0.0), tl.where(there, h, 0.0), tl.where(there, g, behind_g)
            tl.store(dC + pixel * N, tl.sum(dy[:, None, :] * h, 2), mask=states)
            tl.store(dB + pixel * N, tl.sum((dt * x)[:, None, :] * g, 2), mask=states)
            g_in, g_hp = tl.sum(g * to_state, 1), g * hp
            part_A += dt[:, None, :] * g_hp
            d_raw = tl.where(channels, slope * (tl.sum(A2 * g_hp, 1) * 0.6931471805599453 + g_in * x), 0.0)
            tl.store(d_delta + (r * o_h + c * o_w), d_raw.to(d_delta.dtype.element_ty), mask=channels)
            part_bias += d_raw
            dx = dt * g_in
            if SKIP:
                dx += kept * dy
                part_skip += dy * x
            tl.store(du + pixel * D, dx, mask=channels)
            if NEIGHBOURS:
                tl.store(dp + pixel * D, tl.sum(g, 1), mask=channels)
            g = decay * g
        sum_A += part_A
        sum_skip += part_skip
        sum_bias += part_bias
        t -= CHUNK
        marks -= NP * BD
        tl.debug_barrier()  # before the next chunk overwrites the states
    of_sums = ((b * segments + segment) * 4 + k) * D + d  # in [B, segments, 4, D]
    tl.store(dA + (of_sums * N)[:, None, :] + j[:, :, None], sum_A, mask=one & inside)
    tl.store(d_skip + of_sums, sum_skip, mask=live & has_d)
    tl.store(d_bias + of_sums, sum_bias, mask=live & has_d)
