"""pixel_difference_scan in Triton: the neighbour term, then one pass over all steps, or over segments of them at once, that leaves a plane for each direction,
and their sum in a fixed order. The recurrence is in _pixel_difference_steps.py and _pixel_difference_back.py."""
from functools import cache

import torch
import triton
import triton.language as tl

from ..ops.pixel_difference_scan import _fake, _fake_backward
from ._common import accum_type
from ._pixel_difference_back import adjoint_kernel, backward_kernel
from ._pixel_difference_steps import carry_kernel, scan_kernel
from .pixel_difference import filled, index_type, inner, like, neighbour_gradients, neighbour_term, pixel_tiles, places, tile_of, wide

CHUNK = 16  # steps whose states backward keeps: a program's fit the caches
SEGMENT = 32  # steps at least, a multiple of CHUNK
PROGRAMS = 1536  # of one warp, that fill a large device
LANES = 32
FORWARD, BACKWARD = 1024, 512  # states of a warp: 32 or 16 for each of its threads


@triton.jit
def merge_kernel(planes, out, pixels, H, W, L, D, o_b, o_h, o_w, plane, blocks, INT: tl.constexpr, BP: tl.constexpr, BD: tl.constexpr):
    """out = the sum of four planes [4, B, H, W, D], at BP pixels of BD channels."""
    pixel, b, r, c, d, inside = tile_of(pixels, W, L, D, blocks, INT, BP, BD)
    planes += pixel * D + d
    x = tl.load(planes, mask=inside, other=0.0)
    for k in tl.static_range(3):
        planes += plane
        x += tl.load(planes, mask=inside, other=0.0)
    tl.store(out + (b * o_b + r * o_h + c * o_w) + d, x.to(out.dtype.element_ty), mask=inside)


def _merge(planes, out):
    grid, sizes, blocks, tiles = pixel_tiles(out)
    merge_kernel[grid](planes, out, *sizes, *places(out), out.numel(), blocks, **tiles)


def _tile(D, N, states):
    """Items and channels of a program and its states per channel, of which a warp has up to so many; it loads B and C once for all its channels."""
    NP = triton.next_power_of_2(N)
    BD = max(LANES, min(4 * LANES, states // NP))
    while BD > LANES and D % BD:
        BD //= 2
    BD = min(BD, triton.next_power_of_2(D))
    G = max(1, LANES // BD)
    return dict(G=G, NP=NP, BD=BD, num_warps=max(1, min(8, G * NP * BD // states)))


@cache
def _segments(pairs, blocks, G, L):
    """Segments of a direction's L steps, and their length: 1 where images, directions and blocks of channels fill the device, since several cost one more
    exponential per state and step. Without a rest, if half as many steps more allow it."""
    programs = triton.cdiv(pairs, G) * blocks
    most = 1 if 2 * programs > PROGRAMS else min(PROGRAMS // programs, L // SEGMENT)
    if most <= 1:
        return 1, L
    least = triton.cdiv(triton.cdiv(L, most), CHUNK) * CHUNK
    length = next((n for n in range(least, 3 * least // 2, CHUNK) if L % n == 0), least)
    return triton.cdiv(L, length), length


def _which_kernel(B, D, H, W, N, states=FORWARD):
    tile = _tile(D, N, states)
    return "one pass" if _segments(4 * B, triton.cdiv(D, tile["BD"]), tile["G"], H * W)[0] == 1 else "segments"


class _Plan:
    """What all kernels of a call share: dense parameters, channels-innermost inputs, sizes, tiles."""

    def __init__(self, states, u, delta, A, B, C, D_skip, delta_bias, W, delta_softplus):
        (self.batch, D, H, width), N = u.shape, A.shape[1]
        self.dtype, self.L = wide(u), H * width
        self.u, self.delta, self.B, self.C = inner(u), inner(delta, 2), inner(B, 2), inner(C, 2)
        self.A, self.skip, self.bias, self.weight = (None if t is None else t.to(self.dtype).contiguous() for t in (A, D_skip, delta_bias, W))
        if self.bias is None:
            self.bias = self.A.new_zeros(4 * D)
        tile = _tile(D, N, states)
        self.blocks, self.pairs = triton.cdiv(D, tile["BD"]), self.batch * 4
        self.segments, self.steps = _segments(self.pairs, self.blocks, tile["G"], self.L)
        self.items = self.pairs * self.segments
        self.sizes = H, width, self.L, D, N
        self.tile = tile["NP"] * tile["BD"]  # of an item in a workspace
        self.tiles = dict(ACC=accum_type(u), **tile)
        even = self.items % tile["G"] == 0 and self.segments * self.steps == self.L and self.steps % CHUNK == 0
        self.options = dict(SOFTPLUS=bool(delta_softplus), WHOLE=even and N == tile["NP"] and D % tile["BD"] == 0, INT=index_type(self.L))
        self.flags = dict(SKIP=D_skip is not None, NEIGHBOURS=W is not None)

    def grid(self, items):
        return (triton.cdiv(items, self.tiles["G"]) * self.blocks,)

    def empty(self, *shape):
        return self.A.new_empty(shape)

    def planes(self):
        return self.empty(4, *self.image())

    def image(self):
        H, width, _, D, _ = self.sizes
        return self.batch, H, width, D

    def neighbours(self, gamma):
        """p [B, H, W, D], or what stands for it without W."""
        if self.weight is None:
            return self.A
        p = self.empty(*self.image())
        neighbour_term(self.u, self.weight, gamma, p.movedim(-1, 1))
        return p

    def scan(self, p, start=None, y=None, end=None, total=None):
        """y, from the states at the segments' starts if there are several, or the segments' ends."""
        local = y is None
        spare = self.A
        args = (spare if t is None else t for t in (self.skip, self.bias, p, start, y, end, total))
        strides = *places(self.u), *places(self.delta), *places(self.B), *places(self.C)
        flags = {**self.flags, "SKIP": self.flags["SKIP"] and not local}
        scan_kernel[self.grid(self.items)](self.u, self.delta, self.A, self.B, self.C, *args, *self.sizes, *strides, self.u.numel(), self.items, self.segments, self.steps,
                                           self.blocks, LOCAL=local, STARTS=start is not None, **flags, **self.options, **self.tiles)

    def carry(self, end, total, back=False):
        start = torch.empty_like(end)
        D, N = self.sizes[3:]
        carry_kernel[self.grid(self.pairs)](self.A, end, total, start, D, N, self.pairs, self.segments, self.blocks, BACK=back, **self.tiles)
        return start

    def ends(self, p):
        end, total = self.empty(self.items * self.blocks, self.tile), self.empty(self.items * self.blocks, self.tiles["BD"])
        self.scan(p, end=end, total=total)
        return end, total

    def behind(self, grad, total):
        """What comes back to each segment from the one behind it."""
        end = self.empty(self.items * self.blocks, self.tile)
        strides = *places(self.delta), *places(self.C), *places(grad)
        adjoint_kernel[self.grid(self.items)](self.delta, self.A, self.C, grad, self.bias, end, *self.sizes, *strides, self.items, self.segments, self.steps, self.blocks,
                                              **self.options, **self.tiles)
        return self.carry(end, total, back=True)


def pixel_difference_scan(u, delta, A, B, C, D_skip=None, delta_bias=None, W=None, gamma=1.0, delta_softplus=True):
    """`torch.ops.irstd_ext.pixel_difference_scan` on a CUDA device."""
    out = _fake(u, delta, A, B, C, D_skip, delta_bias, W, gamma, delta_softplus)
    if out.numel() == 0:
        return out
    with torch.cuda.device_of(u):
        plan = _Plan(FORWARD, u, delta, A, B, C, D_skip, delta_bias, W, delta_softplus)
        p, y, target = plan.neighbours(gamma), plan.planes(), like(out)
        plan.scan(p, y=y, start=None if plan.segments == 1 else plan.carry(*plan.ends(p)))
        _merge(y, target)
        return filled(out, target)


def pixel_difference_scan_backward(grad, u, delta, A, B, C, D_skip, delta_bias, W, gamma, delta_softplus):
    """`torch.ops.irstd_ext.pixel_difference_scan_backward` on a CUDA device."""
    outs = _fake_backward(grad, u, delta, A, B, C, D_skip, delta_bias, W, gamma, delta_softplus)
    if u.numel() == 0:
        return tuple(t.zero_() for t in outs)
    du, d_delta, dA, dB, dC, d_skip, d_bias, dW = outs
    with torch.cuda.device_of(u):
        plan, grad = _Plan(BACKWARD, u, delta, A, B, C, D_skip, delta_bias, W, delta_softplus), inner(grad)
        p, start, behind = plan.neighbours(gamma), None, None
        if plan.segments > 1:
            end, total = plan.ends(p)
            start, behind = plan.carry(end, total), plan.behind(grad, total)
        (H, width, _, D, N), dp = plan.sizes, plan.A if W is None else plan.planes()
        rows, cells = plan.items * plan.blocks, plan.tile
        marks, states = plan.empty(rows, triton.cdiv(plan.steps, CHUNK), cells), plan.empty(rows, CHUNK, cells)
        parts_B, parts_C = plan.empty(2, plan.blocks, plan.batch, 4, H, width, N)
        parts_A, parts_row = plan.empty(plan.batch * plan.segments, 4 * D, N), plan.empty(2, plan.batch * plan.segments, 4 * D)
        planes, of_delta = plan.planes(), like(d_delta, 2)
        strides = *places(plan.u), *places(plan.delta), *places(plan.B), *places(plan.C), *places(grad), *places(of_delta)
        args = (plan.A if t is None else t for t in (plan.skip, plan.bias, p, start, behind, marks, states, planes, dp, of_delta, parts_B, parts_C, parts_A, *parts_row))
        backward_kernel[plan.grid(plan.items)](plan.u, plan.delta, plan.A, plan.B, plan.C, grad, *args, *plan.sizes, *strides, u.numel(), parts_B[0].numel(), plan.items,
                                               plan.segments, plan.steps, plan.blocks, STARTS=start is not None, CHUNK=CHUNK, **plan.flags, **plan.options, **plan.tiles)
        filled(d_delta, of_delta)
        dB.copy_(parts_B.sum(0).movedim(-1, 2))
        dC.copy_(parts_C.sum(0).movedim(-1, 2))
        dA.copy_(parts_A.sum(0, dtype=torch.float64))
        for to, part in ((d_skip, parts_row[0]), (d_bias, parts_row[1])):
            if to.numel():
                to.copy_(part.sum(0, dtype=torch.float64))
        target = like(du)
        if W is None:
            _merge(planes, target)
        else:
            dW.copy_(neighbour_gradients(dp.movedim(-1, 2), 4, plan.u, plan.weight, gamma, target, planes))
        filled(du, target)
    return outs
