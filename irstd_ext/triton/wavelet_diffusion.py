"""wavelet_diffusion in Triton: a step is a launch, in which a program gathers what the up to four cells around each of its BP pixels of BD channels bring there.
Backward keeps the input of every step, a copy of u in the accumulation type for each step after the first."""
import torch
import triton
import triton.language as tl

from ..ops.wavelet_diffusion import _fake, _fake_backward
from ._common import accum_type, sums
from .pixel_difference import index_type, tile_of, wide


@triton.jit
def at(image, r, c, inside, H, W, i_h, i_w, ACC: tl.constexpr):
    """[BP, BD]: the images at the pixels (r, c), and 0 beyond the border."""
    return tl.load(image + (r * i_h + c * i_w), mask=inside & (r >= 0) & (r < H) & (c >= 0) & (c < W), other=0.0).to(ACC)


@triton.jit
def around(image, r, c, inside, H, W, i_h, i_w, ACC: tl.constexpr):
    """The pixel (r, c) among its neighbours, row by row."""
    nw, n, ne = at(image, r - 1, c - 1, inside, H, W, i_h, i_w, ACC), at(image, r - 1, c, inside, H, W, i_h, i_w, ACC), at(image, r - 1, c + 1, inside, H, W, i_h, i_w, ACC)
    w, own, e = at(image, r, c - 1, inside, H, W, i_h, i_w, ACC), at(image, r, c, inside, H, W, i_h, i_w, ACC), at(image, r, c + 1, inside, H, W, i_h, i_w, ACC)
    sw, s, se = at(image, r + 1, c - 1, inside, H, W, i_h, i_w, ACC), at(image, r + 1, c, inside, H, W, i_h, i_w, ACC), at(image, r + 1, c + 1, inside, H, W, i_h, i_w, ACC)
    return nw, n, ne, w, own, e, sw, s, se


@triton.jit
def corner(share, e, f, x, CORNER: tl.constexpr, HIGH: tl.constexpr):
    """What a cell moves to a corner, of a b / c d the 0th to 3rd: e to a and from d, f to c and from b, x to b and c and from a and d."""
    if CORNER == 0:
        to = e
    elif CORNER == 1:
        to = -f
    elif CORNER == 2:
        to = f
    else:
        to = -e
    to = share * to
    if HIGH:
        if CORNER == 0 or CORNER == 3:
            to -= share * x
        else:
            to += share * x
    return to


@triton.jit
def flow(a, b, c, d, live, per_k, CORNER: tl.constexpr, HIGH: tl.constexpr):
    """What the cells a b / c d bring to one corner."""
    e, f = d - a, b - c
    p, q = e * per_k, f * per_k
    share = 1.0 / (p * p + (q * q + 8.0))
    return tl.where(live, corner(share, e, f, ((a + d) - (b + c)) * 0.5, CORNER, HIGH), 0.0)


@triton.jit
def flow_backward(a, b, c, d, ya, yb, yc, yd, live, per_k, CORNER: tl.constexpr, HIGH: tl.constexpr):
    """What the cells bring to the gradient of one corner, and to that of k (csrc/ops/wavelet_diffusion/math.h)."""
    p, q = (d - a) * per_k, (b - c) * per_k
    e, f, x = yd - ya, yb - yc, ((ya + yd) - (yb + yc)) * 0.5
    share = 1.0 / (p * p + (q * q + 8.0))
    t = (share * p) * e + (share * q) * f
    if HIGH:
        t += share * ((a + d) - (b + c)) * per_k * x
    t *= 2.0
    nonlinear = share * t
    if CORNER == 0:
        of_g = nonlinear * p
    elif CORNER == 1:
        of_g = -nonlinear * q
    elif CORNER == 2:
        of_g = nonlinear * q
    else:
        of_g = -nonlinear * p
    return tl.where(live, corner(share, e, f, x, CORNER, HIGH) - of_g, 0.0), tl.where(live, -t * (p * (share * p) + q * (share * q)), 0.0)


@triton.jit
def step_kernel(u, per_k, out, pixels, H, W, L, C, u_b, u_c, u_h, u_w, o_b, o_c, o_h, o_w, blocks, HIGH: tl.constexpr, ACC: tl.constexpr, INT: tl.constexpr,
                BP: tl.constexpr, BD: tl.constexpr):
    """One step. Reads 9 numbers a pixel, from the caches but for one, and computes every cell at each of its corners: 4 x 15 operations (24 with HIGH)."""
    pixel, b, r, c, d, inside = tile_of(pixels, W, L, C, blocks, INT, BP, BD)
    u += b * u_b + d * u_c
    k = tl.load(per_k + d, mask=d < C, other=0.0)
    nw, n, ne, w, own, e, sw, s, se = around(u, r, c, inside, H, W, u_h, u_w, ACC)
    north, south, west, east = r > 0, r + 1 < H, c > 0, c + 1 < W
    above = flow(nw, n, w, own, north & west, k, 3, HIGH) + flow(n, ne, own, e, north & east, k, 2, HIGH)
    below = flow(w, own, sw, s, south & west, k, 1, HIGH) + flow(own, e, s, se, south & east, k, 0, HIGH)
    tl.store(out + (b * o_b + r * o_h + c * o_w) + d * o_c, (own + (above + below)).to(out.dtype.element_ty), mask=inside)


@triton.jit
def back_kernel(u, grad, per_k, out, part, pixels, H, W, L, C, u_b, u_c, u_h, u_w, g_b, g_c, g_h, g_w, o_b, o_c, o_h, o_w, blocks, HIGH: tl.constexpr,
                ACC: tl.constexpr, INT: tl.constexpr, BP: tl.constexpr, BD: tl.constexpr):
    """The gradient of one step's input u, for that of its result, and the part of dk of the cells that have their upper left corner in this program. Reads 2 x 9
    numbers a pixel, from the caches but for two: 4 x 32 operations (48 with HIGH)."""
    pixel, b, r, c, d, inside = tile_of(pixels, W, L, C, blocks, INT, BP, BD)
    u += b * u_b + d * u_c
    grad += b * g_b + d * g_c
    k = tl.load(per_k + d, mask=d < C, other=0.0)
    nw, n, ne, w, own, e, sw, s, se = around(u, r, c, inside, H, W, u_h, u_w, ACC)
    ynw, yn, yne, yw, y, ye, ysw, ys, yse = around(grad, r, c, inside, H, W, g_h, g_w, ACC)
    north, south, west, east = r > 0, r + 1 < H, c > 0, c + 1 < W
    from_nw, _ = flow_backward(nw, n, w, own, ynw, yn, yw, y, north & west, k, 3, HIGH)
    from_ne, _ = flow_backward(n, ne, own, e, yn, yne, y, ye, north & east, k, 2, HIGH)
    from_sw, _ = flow_backward(w, own, sw, s, yw, y, ysw, ys, south & west, k, 1, HIGH)
    from_se, dk = flow_backward(own, e, s, se, y, ye, ys, yse, inside & south & east, k, 0, HIGH)
    tl.store(out + (b * o_b + r * o_h + c * o_w) + d * o_c, (y + ((from_nw + from_ne) + (from_sw + from_se))).to(out.dtype.element_ty), mask=inside)
    tl.store(part + tl.program_id(0).to(tl.int64) // blocks * C + d, tl.sum(dk, 0)[None, :], mask=d < C)


def _tiles(u):
    """Grid, sizes, blocks of channels, and constants: neighbouring threads have neighbouring channels or, where these lie apart, one channel and pixels."""
    B, C, H, W = u.shape
    BD = min(32, triton.next_power_of_2(C)) if u.stride(1) < u.stride(3) else 1
    BP, blocks = min((256 if u.dtype == torch.float64 else 512) // BD, triton.next_power_of_2(B * H * W)), triton.cdiv(C, BD)
    sizes, constants = (B * H * W, H, W, H * W, C), dict(ACC=accum_type(u), INT=index_type(B * H * W), BP=BP, BD=BD)
    return (triton.cdiv(B * H * W, BP) * blocks,), sizes, blocks, constants


def _inverse(k):
    """As in csrc/ops/wavelet_diffusion/math.h."""
    return torch.where(k == 0, 1 / k, (1 / k).clamp(max=torch.finfo(k.dtype).max))


def _still(u, steps):
    return steps == 0 or min(u.shape[2:]) < 2


def wavelet_diffusion(u, k, steps, all_high=False):
    """`torch.ops.irstd_ext.wavelet_diffusion` on a CUDA device."""
    out = _fake(u, k, steps, all_high)
    if out.numel() == 0 or _still(u, steps):
        return out.copy_(u)
    with torch.cuda.device_of(u):
        per_k = _inverse(k.to(wide(u)))
        grid, sizes, blocks, constants = _tiles(u)
        step, between = u, [torch.empty_like(u, dtype=wide(u)) for _ in range(min(steps - 1, 2))]
        for i in range(steps):
            to = out if i == steps - 1 else between[i % 2]
            step_kernel[grid](step, per_k, to, *sizes, *step.stride(), *to.stride(), blocks, HIGH=all_high, **constants)
            step = to
        return out


def wavelet_diffusion_backward(grad, u, k, steps, all_high):
    """`torch.ops.irstd_ext.wavelet_diffusion_backward` on a CUDA device."""
    du, dk = _fake_backward(grad, u, k, steps, all_high)
    if du.numel() == 0 or _still(u, steps):
        return du.copy_(grad), dk.zero_()
    with torch.cuda.device_of(u):
        per_k = _inverse(k.to(wide(u)))
        grid, sizes, blocks, constants = _tiles(u)
        rows = grid[0] // blocks
        part, inputs = per_k.new_empty(steps, rows, k.shape[0]), [u]  # what each step begins with
        for _ in range(steps - 1):
            to = torch.empty_like(u, dtype=wide(u))
            step_kernel[grid](inputs[-1], per_k, to, *sizes, *inputs[-1].stride(), *to.stride(), blocks, HIGH=all_high, **constants)
            inputs.append(to)
        for i in reversed(range(steps)):
            step = inputs.pop()
            to = du if i == 0 else torch.empty_like(u, dtype=wide(u))
            back_kernel[grid](step, grad, per_k, to, part[i], *sizes, *step.stride(), *grad.stride(), *to.stride(), blocks, HIGH=all_high, **constants)
            grad = to
        sums(part, dk, 1, steps * rows, k.shape[0])
        return du, dk
