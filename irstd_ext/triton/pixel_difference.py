"""pixel_difference in Triton: a program has BP pixels of BD channels of one image, and finds every neighbour by its clamped row and column. Backward gathers:
one pass leaves what each pixel passes on, a second collects it at the pixels it goes to."""
import torch
import triton
import triton.language as tl

from ..ops.pixel_difference import _fake, _fake_backward
from ._common import accum_type, exponential


@triton.jit
def tanh(x):
    """tanh(x) for x >= 0 to a few ulp: (1 - e) / (1 + e) with e = exp(-2 x), where that does not cancel, else seven levels of its continued fraction."""
    e = exponential(-2.0 * x)
    square = x * x
    level = square * 0.0 + 15.0
    for i in tl.static_range(7):
        level = (13 - 2 * i) + square / level  # 1 + x^2 / (3 + x^2 / (5 + ...))
    return tl.where(x < 0.5, x / level, (1.0 - e) / (1.0 + e))


@triton.jit
def tile_of(pixels, W, L, D, blocks, INT: tl.constexpr, BP: tl.constexpr, BD: tl.constexpr):
    """Pixels of this program among those of all images, their image, row and column [BP, 1], its channels [1, BD], and which there are. INT holds the number
    of pixels: 64-bit divisions are slow."""
    pid = tl.program_id(0).to(tl.int64)
    pixel = (pid // blocks).to(INT) * BP + tl.arange(0, BP)[:, None]
    b = pixel // L
    place = pixel - b * L
    r = place // W
    d = pid % blocks * BD + tl.arange(0, BD)[None, :]
    return pixel.to(tl.int64), b.to(tl.int64), r.to(tl.int64), (place - r * W).to(tl.int64), d, (pixel < pixels) & (d < D)


@triton.jit
def at(u, r, c, inside, H, W, u_h, u_w, ACC: tl.constexpr):
    """[BP, BD]: the images u at the pixels (r, c), replicated beyond the border."""
    r, c = tl.minimum(tl.maximum(r, 0), H - 1), tl.minimum(tl.maximum(c, 0), W - 1)
    return tl.load(u + (r * u_h + c * u_w), mask=inside, other=0.0).to(ACC)


@triton.jit
def longer(u, i, near, near_back, ahead, back, r, c, inside, H, W, u_h, u_w, DR: tl.constexpr, DC: tl.constexpr, ACC: tl.constexpr):
    """Dl^(i) of an axis, ahead and back, from Dl^(i-1) and the pixels at distance i - 1."""
    far = at(u, r + DR * i, c + DC * i, inside, H, W, u_h, u_w, ACC)
    far_back = at(u, r - DR * i, c - DC * i, inside, H, W, u_h, u_w, ACC)
    return far, far_back, ahead + (near - far) / (2 * i - 1), back + (near_back - far_back) / (2 * i - 1)


@triton.jit
def look(u, weight, r, c, d, inside, H, W, D, u_h, u_w, n: tl.constexpr, ACC: tl.constexpr, BP: tl.constexpr, BD: tl.constexpr):
    """[BP, BD] each: G (Eq. 8), m, whether all four differences exceed Theta > 0 (Eq. 9), Theta or 1, tanh(m / Theta - 1) or 0 (Eq. 10), and the window's mean."""
    centre = at(u, r, c, inside, H, W, u_h, u_w, ACC)
    east, west, south, north = centre, centre, centre, centre
    G = tl.zeros([BP, BD], ACC)
    right, left, down, up = G, G, G, G
    for i in range(1, n + 1):
        east, west, right, left = longer(u, i, east, west, right, left, r, c, inside, H, W, u_h, u_w, 0, 1, ACC)
        south, north, down, up = longer(u, i, south, north, down, up, r, c, inside, H, W, u_h, u_w, 1, 0, ACC)
        x = tl.load(weight + (i - 1) * D + d, mask=d < D, other=0.0)
        y = tl.load(weight + (n + i - 1) * D + d, mask=d < D, other=0.0)
        G += x * (right + left) + y * (down + up)
    # The deviation in two passes, both from the centre: exactly 0 where the image is flat.
    mean = tl.zeros([BP, BD], ACC)
    for i in range(-n, n + 1):
        line = u + tl.minimum(tl.maximum(r + i, 0), H - 1) * u_h
        for j in range(-n, n + 1):
            mean += tl.load(line + tl.minimum(tl.maximum(c + j, 0), W - 1) * u_w, mask=inside, other=0.0).to(ACC) - centre
    mean = mean / ((2 * n + 1) * (2 * n + 1))
    square = tl.zeros([BP, BD], ACC)
    for i in range(-n, n + 1):
        line = u + tl.minimum(tl.maximum(r + i, 0), H - 1) * u_h
        for j in range(-n, n + 1):
            off = (tl.load(line + tl.minimum(tl.maximum(c + j, 0), W - 1) * u_w, mask=inside, other=0.0).to(ACC) - centre) - mean
            square += off * off
    variance = square / ((2 * n + 1) * (2 * n + 1))
    if ACC == tl.float64:
        theta = tl.sqrt(variance)
    else:
        theta = tl.sqrt_rn(variance)
    m = ((right + left) + (down + up)) * 0.25
    case_1 = (tl.minimum(tl.minimum(right, left), tl.minimum(down, up)) > theta) & (theta > 0.0)  # squares of tiny numbers are 0
    theta = tl.where(case_1, theta, 1.0)
    return G, m, case_1, theta, tanh(tl.where(case_1, m / theta - 1.0, 0.0)), centre + mean


@triton.jit
def difference_kernel(u, weight, p, pixels, H, W, L, D, u_b, u_h, u_w, p_b, p_h, p_w, blocks, n: tl.constexpr, GAMMA: tl.constexpr, ACC: tl.constexpr,
                      INT: tl.constexpr, BP: tl.constexpr, BD: tl.constexpr):
    """p = f G, f = gamma + tanh(m / Theta - 1) in case 1. Reads u 4 n + 2 (2n+1)^2 times, from the caches but for one."""
    pixel, b, r, c, d, inside = tile_of(pixels, W, L, D, blocks, INT, BP, BD)
    G, m, case_1, theta, gate, mean = look(u + b * u_b + d, weight, r, c, d, inside, H, W, D, u_h, u_w, n, ACC, BP, BD)
    out = (gate + GAMMA) * G
    tl.store(p + (b * p_b + r * p_h + c * p_w) + d, out.to(p.dtype.element_ty), mask=inside)


@triton.jit
def sources_kernel(u, weight, grad, sources, part, pixels, H, W, L, D, u_b, u_h, u_w, g_k, g_b, g_h, g_w, field, blocks, n: tl.constexpr, GAMMA: tl.constexpr,
                   PLANES: tl.constexpr, ACC: tl.constexpr, INT: tl.constexpr, BP: tl.constexpr, BD: tl.constexpr):
    """What each pixel passes on, for dp the sum of the planes of grad: dG = f dp, dm / 4, dTheta / ((2n+1)^2 Theta) and the mean as sources [4, B, L, D],
    and the part of dW [2, n, D] of these pixels, sum f dp Dl_a^(i)."""
    pixel, b, r, c, d, inside = tile_of(pixels, W, L, D, blocks, INT, BP, BD)
    u += b * u_b + d
    G, m, case_1, theta, gate, mean = look(u, weight, r, c, d, inside, H, W, D, u_h, u_w, n, ACC, BP, BD)
    grad += (b * g_b + r * g_h + c * g_w) + d
    dp = tl.load(grad, mask=inside, other=0.0).to(ACC)
    for _ in tl.static_range(1, PLANES):
        grad += g_k
        dp += tl.load(grad, mask=inside, other=0.0).to(ACC)
    dG = (gate + GAMMA) * dp
    dm = tl.where(case_1, (1.0 - gate) * (1.0 + gate) * (G * dp) / theta, 0.0)
    sources += pixel * D + d
    tl.store(sources, dG, mask=inside)
    sources += field  # step by step: a multiple of it may pass 2^31
    tl.store(sources, dm * 0.25, mask=inside)
    sources += field
    tl.store(sources, tl.where(case_1, -dm * (m / theta) / ((2 * n + 1) * (2 * n + 1)) / theta, 0.0), mask=inside)
    sources += field
    tl.store(sources, mean, mask=inside)
    east = at(u, r, c, inside, H, W, u_h, u_w, ACC)
    west, south, north = east, east, east
    right = tl.zeros([BP, BD], ACC)
    left, down, up = right, right, right
    part += tl.program_id(0).to(tl.int64) // blocks * (2 * n * D)
    for i in range(1, n + 1):
        east, west, right, left = longer(u, i, east, west, right, left, r, c, inside, H, W, u_h, u_w, 0, 1, ACC)
        south, north, down, up = longer(u, i, south, north, down, up, r, c, inside, H, W, u_h, u_w, 1, 0, ACC)
        tl.store(part + (i - 1) * D + d, tl.sum(dG * (right + left), 0)[None, :], mask=d < D)
        tl.store(part + (n + i - 1) * D + d, tl.sum(dG * (down + up), 0)[None, :], mask=d < D)


@triton.jit
def from_arm(dG, dM, x, D, there, pixel, tap, tap_m):
    """What an arm brings from the pixels it starts at, where there are such."""
    g = tl.load(dG + pixel * D, mask=there, other=0.0)
    return x + tl.where(there, tap * g + tap_m * tl.load(dM + pixel * D, mask=there, other=0.0), 0.0)


@triton.jit
def from_axis(dG, dM, x, D, i, step, pixel, place, size, inside, tap, tail, tap_m, tail_m):
    """What the pixels i before and i behind bring along an axis. Of an arm that ends on this pixel at the border, all taps from i on clamp to it."""
    first, last = place == 0, place == size - 1
    x = from_arm(dG, dM, x, D, inside & (place + i < size), pixel + i * step, tl.where(first, tail, tap), tl.where(first, tail_m, tap_m))
    return from_arm(dG, dM, x, D, inside & (place >= i), pixel - i * step, tl.where(last, tail, tap), tl.where(last, tail_m, tap_m))


@triton.jit
def gather_kernel(u, weight, sources, add, du, pixels, H, W, L, D, u_b, u_h, u_w, o_b, o_h, o_w, field, blocks, n: tl.constexpr, PLANES: tl.constexpr,
                  ACC: tl.constexpr, INT: tl.constexpr, BP: tl.constexpr, BD: tl.constexpr):
    """du = the sum of the planes of `add`, and what the sources around bring to each pixel: along the arms with the weights
    T_i - T_{i+1}, T_i = -1/(2i-1) the sum of all taps from distance i on, T_0 = T_{n+1} = 0; from windows (u - mean) times what they pass on."""
    pixel, b, r, c, d, inside = tile_of(pixels, W, L, D, blocks, INT, BP, BD)
    dG = sources + d
    dM = dG + field
    dT = dM + field
    mean = dT + field
    add += pixel * D + d
    x = tl.zeros([BP, BD], ACC)
    for _ in tl.static_range(PLANES):
        x += tl.load(add, mask=inside, other=0.0)
        add += field
    w_x = tl.zeros([1, BD], ACC)  # sum of the weights of the windows that reach distance i
    w_y, beyond_x, beyond_y, beyond_m = w_x, w_x, w_x, w_x  # T_{i+1}
    for back in range(0, n):
        i = n - back
        w_x += tl.load(weight + (i - 1) * D + d, mask=d < D, other=0.0)
        w_y += tl.load(weight + (n + i - 1) * D + d, mask=d < D, other=0.0)
        tail_x, tail_y, tail_m = -w_x / (2 * i - 1), -w_y / (2 * i - 1), tl.full([1, BD], -1.0, ACC) / (2 * i - 1)
        x = from_axis(dG, dM, x, D, i, 1, pixel, c, W, inside, tail_x - beyond_x, tail_x, tail_m - beyond_m, tail_m)
        x = from_axis(dG, dM, x, D, i, W, pixel, r, H, inside, tail_y - beyond_y, tail_y, tail_m - beyond_m, tail_m)
        beyond_x, beyond_y, beyond_m = tail_x, tail_y, tail_m
    # Distance 0: weight -T_1 for each arm that does not end here.
    top, bottom, left, right = (r == 0).to(ACC), (r == H - 1).to(ACC), (c == 0).to(ACC), (c == W - 1).to(ACC)
    arms_x, arms_y = 2.0 - left - right, 2.0 - top - bottom
    x -= tl.load(dG + pixel * D, mask=inside, other=0.0) * (arms_x * beyond_x + arms_y * beyond_y)
    x += tl.load(dM + pixel * D, mask=inside, other=0.0) * (arms_x + arms_y)
    value = at(u + b * u_b + d, r, c, inside, H, W, u_h, u_w, ACC)
    for i in range(-n, n + 1):
        row = (r + i >= 0) & (r + i < H)
        rows = 1.0 + top * (n - i) + bottom * (n + i)  # of the window around row r + i, how many clamp to r
        for j in range(-n, n + 1):
            there = inside & (row & (c + j >= 0) & (c + j < W))
            around = (pixel + (i * W + j)) * D
            factor = tl.load(dT + around, mask=there, other=0.0)
            off = (value - tl.load(mean + around, mask=there, other=0.0)) * (rows * (1.0 + left * (n - j) + right * (n + j)))
            x += tl.where(factor == 0.0, 0.0, factor * off)  # in case 2 the mean may be anything
    tl.store(du + (b * o_b + r * o_h + c * o_w) + d, x.to(du.dtype.element_ty), mask=inside)


def wide(t):
    return torch.float64 if t.dtype == torch.float64 else torch.float32


def inner(t, axis=1):
    """t, or where its channels do not lie side by side, a copy in which they do."""
    if t.stride(axis) == 1 or t.shape[axis] == 1:
        return t
    return t.movedim(axis, -1).contiguous().movedim(-1, axis)


def like(t, axis=1):
    """Memory for t in which its channels lie side by side: its own, if possible."""
    if t.stride(axis) == 1 or t.shape[axis] == 1:
        return t
    return torch.empty_like(t.movedim(axis, -1), memory_format=torch.contiguous_format).movedim(-1, axis)


def filled(out, t):
    return out if t is out else out.copy_(t)


def places(t):
    """Strides of batch, (direction,) row and column of [B, (4,) D, H, W]."""
    return t.stride()[:-3] + t.stride()[-2:]


def index_type(n):
    """What counts to n, and a tile further."""
    return tl.int32 if n + 4096 < 2**31 else tl.int64


def pixel_tiles(u, most=1024):
    """Grid, number of pixels, sizes of an image, blocks of channels, and the size of a tile, for programs with so many elements of u."""
    B, D, H, W = u.shape
    BD = min(32, triton.next_power_of_2(D))
    BP, blocks = min(most // BD, triton.next_power_of_2(B * H * W)), triton.cdiv(D, BD)
    return (triton.cdiv(B * H * W, BP) * blocks,), (B * H * W, H, W, H * W, D), blocks, dict(INT=index_type(B * H * W), BP=BP, BD=BD)


def _tiles(u):
    """The same for kernels that take a dozen tiles in registers."""
    grid, sizes, blocks, tiles = pixel_tiles(u, 256 if u.dtype == torch.float64 else 512)
    return grid, sizes, blocks, dict(ACC=accum_type(u), **tiles)


def neighbour_term(u, weight, gamma, p):
    """p of channels-innermost u and p [B, D, H, W]; weight [2, n, D] dense, of the accumulation dtype."""
    grid, sizes, blocks, tiles = _tiles(u)
    difference_kernel[grid](u, weight, p, *sizes, *places(u), *places(p), blocks, n=weight.shape[1], GAMMA=float(gamma), **tiles)


def neighbour_gradients(grad, planes, u, weight, gamma, du, add=None):
    """dW, and du = its gradient + the four planes of add [4, B, H, W, D]; the gradient of p is the sum of the planes of grad [planes, B, D, H, W]."""
    grid, sizes, blocks, tiles = _tiles(u)
    n, D = weight.shape[1:]
    sources = weight.new_empty(4, u.numel())
    part = weight.new_empty(grid[0] // blocks, 2, n, D)
    sources_kernel[grid](u, weight, grad, sources, part, *sizes, *places(u), *places(grad), u.numel(), blocks, n=n, GAMMA=float(gamma), PLANES=planes, **tiles)
    gather_kernel[grid](u, weight, sources, sources if add is None else add, du, *sizes, *places(u), *places(du), u.numel(), blocks, n=n,
                        PLANES=0 if add is None else 4, **tiles)
    return part.sum(0, dtype=torch.float64)


def pixel_difference(u, W, gamma=1.0):
    """`torch.ops.irstd_ext.pixel_difference` on a CUDA device."""
    out = _fake(u, W, gamma)
    if out.numel() == 0:
        return out
    p = like(out)
    with torch.cuda.device_of(u):
        neighbour_term(inner(u), W.to(wide(u)).contiguous(), gamma, p)
        return filled(out, p)


def pixel_difference_backward(grad, u, W, gamma):
    """`torch.ops.irstd_ext.pixel_difference_backward` on a CUDA device."""
    du, dW = _fake_backward(grad, u, W, gamma)
    if du.numel() == 0:
        return du, dW.zero_()
    target = like(du)
    with torch.cuda.device_of(u):
        dW.copy_(neighbour_gradients(inner(grad)[None], 1, inner(u), W.to(wide(u)).contiguous(), gamma, target))
        return filled(du, target), dW
