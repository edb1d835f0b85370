// Products of tiles in CUDA kernels. A block of I * J / 16 threads owns an I x J tile of a product, 4 x 4 numbers a thread, and walks the summed
// dimension kDepth at a time: the factors lie in shared memory as x[kDepth][ld<I>] and y[kDepth][ld<J>], so a step is two 16-byte reads and 16 FMAs.
#pragma once
#include "common/launch.h"
#include "common/storage.h"

namespace irstd::tile {

constexpr int kDepth = 32;
template <int Width> constexpr int ld = Width + 4;  // 16-byte rows; 8 rows x 4 neighbours fall into 32 banks
template <int I, int J> constexpr int threads = I * J / 16;
// Blocks on a multiprocessor that leave a thread enough registers not to spill: 255 in double, else 168 (in blocks of 64 threads) or 128.
template <class A, int I, int J> constexpr int min_blocks = sizeof(A) == 8 ? 256 / threads<I, J> : threads<I, J> == 64 ? 6 : 512 / threads<I, J>;
template <int I, int J> constexpr int factors = kDepth * (ld<I> + ld<J>);  // numbers in both factors; the I x J result fits there too
template <int I> constexpr int ld_result = I + 1;

template <class A> struct alignas(16) Quad { A v[4]; };

inline __host__ __device__ int64_t ceil_div(int64_t n, int64_t by) { return (n + by - 1) / by; }
inline __host__ __device__ int at_most(int64_t n, int most) { return n < most ? int(n) : most; }

// This thread's first row and column of an I x J tile. The J / 4 threads of a row are neighbours in a warp.
template <int J> __device__ __forceinline__ int row0() { return int(threadIdx.x) / (J / 4) * 4; }
template <int J> __device__ __forceinline__ int col0() { return int(threadIdx.x) % (J / 4) * 4; }

// to[x][y] = f(from[x * sx + y * sy], x, y) for x < nx, y < ny, and 0 up to Depth x Width. Neighbouring threads read along the smaller stride: Width at a
// time along y, or 8 along x.
template <int Threads, int Depth, int Width, class T, class A, class F>
__device__ __forceinline__ void stage(A* to, const T* from, int nx, int ny, int64_t sx, int64_t sy, F f) {
  constexpr int kSteps = 8 * Width / Threads;  // over which the threads cover 8 x Width
  static_assert(Threads % Width == 0 && kSteps * Threads == 8 * Width, "whole rows");
  const bool along_y = sy <= sx;
  const int t = threadIdx.x, dx = along_y ? Threads / Width : 0, dy = along_y ? 0 : Threads / 8;
  const int x0 = along_y ? t / Width : t % 8, y0 = along_y ? t % Width : t / 8;
  const int64_t step = dx * sx + dy * sy;
  from += x0 * sx + y0 * sy;
  to += x0 * ld<Width> + y0;
  IRSTD_UNROLL_1  // kSteps loads in flight; more cost registers and code
  for (int x8 = 0; x8 < Depth; x8 += 8, from += 8 * sx, to += 8 * ld<Width>) {
    IRSTD_UNROLL
    for (int s = 0; s < kSteps; ++s) {
      const int x = x0 + x8 + s * dx, y = y0 + s * dy;
      A value = 0;
      if (x < nx && y < ny) value = f(load(from[s * step]), x, y);
      to[s * (dx * ld<Width> + dy)] = value;
    }
  }
}

struct Same {
  template <class A> __device__ __forceinline__ A operator()(A value, int, int) const { return value; }
};

// acc[r][c] += sum of x[d][row0 + r] y[d][col0 + c] over d < depth (rounded up to 4: both factors are 0 there).
template <int I, int J, class A> __device__ __forceinline__ void multiply(const A* x, const A* y, int depth, A (&acc)[4][4]) {
  x += row0<J>();
  y += col0<J>();
  IRSTD_UNROLL_1
  for (int d0 = 0; d0 < depth; d0 += 4) {
    IRSTD_UNROLL
    for (int d = d0; d < d0 + 4; ++d) {
      const Quad<A> a = *reinterpret_cast<const Quad<A>*>(x + d * ld<I>), b = *reinterpret_cast<const Quad<A>*>(y + d * ld<J>);
      IRSTD_UNROLL
      for (int r = 0; r < 4; ++r) {
        IRSTD_UNROLL
        for (int c = 0; c < 4; ++c) acc[r][c] += a.v[r] * b.v[c];
      }
    }
  }
}

template <class A> __device__ __forceinline__ void clear(A (&acc)[4][4]) {
  IRSTD_UNROLL
  for (int r = 0; r < 4; ++r) {
    IRSTD_UNROLL
    for (int c = 0; c < 4; ++c) acc[r][c] = 0;
  }
}

// The 4 x 4 parts laid out as result[I][ld_result<J>] in shared memory, to be stored with neighbouring threads along the contiguous dimension.
template <int J, class A> __device__ __forceinline__ void spread(const A (&acc)[4][4], A* result) {
  IRSTD_UNROLL
  for (int r = 0; r < 4; ++r) {
    IRSTD_UNROLL
    for (int c = 0; c < 4; ++c) result[(row0<J>() + r) * ld_result<J> + col0<J>() + c] = acc[r][c];
  }
}

// f(i, j) for i < rows, j < cols; neighbouring threads along j, or along i.
template <int I, int J, class F> __device__ __forceinline__ void for_each(int rows, int cols, bool along_i, F f) {
  IRSTD_UNROLL_4
  for (int s = 0; s < 16; ++s) {
    const int n = s * threads<I, J> + int(threadIdx.x), i = along_i ? n % I : n / J, j = along_i ? n / I : n % J;
    if (i < rows && j < cols) f(i, j);
  }
}

// Sum over the threads of a warp whose numbers differ in bits [Low, High).
template <int Low, int High, class A> __device__ __forceinline__ A sum_lanes(A value) {
  IRSTD_UNROLL
  for (int m = Low; m < High; m *= 2) value += __shfl_xor_sync(0xffffffffu, value, m);
  return value;
}

inline __host__ __device__ float exponential(float x) { return expf(x); }
inline __host__ __device__ double exponential(double x) { return exp(x); }

}  // namespace irstd::tile

// Declares a kernel of I x J tiles for element type T.
#define IRSTD_TILE_KERNEL(T, I, J) __global__ __launch_bounds__((I) * (J) / 16, irstd::tile::min_blocks<irstd::accum_t<T>, I, J>) void
