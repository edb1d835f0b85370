"""What the Triton kernels share: sums over programs, the exponential, tile sizes."""
import torch
import triton
import triton.language as tl
from torch import Tensor


def accum_type(t: Tensor) -> tl.dtype:
    return tl.float64 if t.dtype == torch.float64 else tl.float32


def rows(t: Tensor) -> int:
    """Rows of a product's tile: 64 in float32. Double has half the registers; and for half precision Triton 3.7 turns products of 64 rows into TF32 on sm_100,
    whatever the precision asked for."""
    return 64 if t.dtype == torch.float32 else 32


def tile(n: int, most: int = 32) -> int:
    """The power of two, 16 to `most`, that covers n best: 16 is the least a product takes, and one of 64 x 64 x 64 takes ten seconds to compile."""
    return max(16, min(most, triton.next_power_of_2(n)))


@triton.jit
def product(a, b, acc):
    """acc + a @ b, rounded as the accumulation type (no TF32)."""
    return tl.dot(a, b, acc, input_precision="ieee", out_dtype=acc.dtype)


@triton.jit
def exponential(x):
    """exp(x) for x <= 0 to a few ulp for any x: tl.exp loses |x| ulp in float32."""
    if x.dtype == tl.float64:
        return tl.exp(x)
    n = tl.floor(x * 1.4426950408889634 + 0.5)
    r = (x - n * 0.693359375) + n * 2.12194440e-4  # x - n ln 2, the first product exact
    return tl.where(x < -104.0, 0.0, tl.exp(r) * tl.exp2(n))


@triton.jit
def sums_kernel(part, out, rows, n, tiles, BR: tl.constexpr, BN: tl.constexpr):
    """out[batch, x] = sum over rows, in a fixed order and in double, of part[batch, row, x]; one program for BN columns."""
    pid = tl.program_id(0).to(tl.int64)
    batch = pid // tiles
    x = pid % tiles * BN + tl.arange(0, BN)
    total = tl.zeros([BR, BN], tl.float64)
    for r0 in range(0, rows, BR):
        row = r0 + tl.arange(0, BR)
        inside = (row < rows)[:, None] & (x < n)[None, :]
        total += tl.load(part + (batch * rows + row[:, None]) * n + x[None, :], mask=inside, other=0.0).to(tl.float64)
    tl.store(out + batch * n + x, tl.sum(total, 0).to(out.dtype.element_ty), mask=x < n)


def sums(part: Tensor, out: Tensor, batches: int, rows: int, n: int) -> None:
    """The sum over the middle dimension of part [batches, rows, n], which may be empty, into the dense `out`. Reads every partial once."""
    if batches * n == 0:
        return
    if out.dtype != part.dtype:  # rounded to float32 first, as the C++ kernels do
        wide = part.new_empty(out.shape)
        sums(part, wide, batches, rows, n)
        out.copy_(wide)
        return
    width = min(32, triton.next_power_of_2(n))
    tiles = triton.cdiv(n, width)
    sums_kernel[(batches * tiles,)](part, out, rows, n, tiles, BR=512 // width, BN=width)
