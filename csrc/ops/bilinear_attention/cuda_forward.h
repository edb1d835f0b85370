// What the kernels of bilinear_attention share, and the forward one; read by cuda.cu. I x J is the tile of a block, see common/tile.h.
#pragma once
#include "common/tile.h"
#include "ops/bilinear_attention/cuda.h"
#include "ops/bilinear_attention/math.h"

namespace irstd::bilinear_attention {

template <class T> struct Planes {
  const T* data;
  int64_t b, c, r, e;
  __device__ const T* at(int64_t image, int64_t channel, int64_t row, int64_t column) const { return data + image * b + channel * c + row * r + column * e; }
};
template <class T> Planes<T> planes(const View& v) { return {(const T*)v.data, v.b, v.c, v.r, v.e}; }

template <class T> struct Problem {
  using A = accum_t<T>;
  int64_t B, C, L, M, E;
  const A *q, *k, *weight, *gamma;
  Planes<T> value;
};

// First stage of the sums over channels and images. With JT tiles of columns and IT of rows (one of each where a plane is one block):
template <class A> struct Partials {
  A* dq;           // [B, C, JT, L]
  A* dk;           // [B, C, M]
  A* d_weight;     // [B, JT, C]
  A* d_gamma;      // [B, C, IT]
  A *scale, *dot;  // [B, C, L]: 1 / sum_j exp, and sum_j A dA of every row
};

template <class A> struct Range { A low, high; };

// Least and greatest key of an image, NaN left out. Every warp finds them for itself: no barrier, M / 32 reads a lane.
template <class A> __device__ __forceinline__ Range<A> key_range(const A* k, int64_t M) {
  A low = INFINITY, high = -INFINITY;
  for (int64_t j = threadIdx.x % 32; j < M; j += 32) {
    const A x = k[j];
    low = x < low ? x : low;
    high = x > high ? x : high;
  }
  for (int m = 16; m > 0; m /= 2) {
    const A l = __shfl_xor_sync(0xffffffffu, low, m), h = __shfl_xor_sync(0xffffffffu, high, m);
    low = l < low ? l : low;
    high = h > high ? h : high;
  }
  return {low, high};
}

template <class A, int I, int J> constexpr int forward_shared = (tile::factors<I, J> + tile::threads<I, J>) * int(sizeof(A));

// out = residual + gamma A value, one I x J tile of a plane's [L, E] a block. Reads value once for each tile of rows, residual once, writes out once;
// L M exponentials for each tile of columns.
template <class T, int I, int J> IRSTD_TILE_KERNEL(T, I, J) forward_kernel(Problem<T> p, Planes<T> residual, T* out) {
  using A = accum_t<T>;
  using namespace tile;
  constexpr int kThreads = threads<I, J>, kGroups = kThreads / I;
  static_assert(I * ld_result<J> <= factors<I, J>, "the result takes the place of the factors");
  IRSTD_DYN_SHARED(A, shared);
  A *weights = shared, *values = shared + kDepth * ld<I>, *sums = shared + factors<I, J>;  // [kDepth][I] [kDepth][J] [kGroups][I]
  const int64_t row_tiles = ceil_div(p.L, I), col_tiles = ceil_div(p.E, J), items = p.B * p.C * row_tiles * col_tiles;
  const A gamma = *p.gamma;
  const int row = threadIdx.x % I, group = threadIdx.x / I;
  for (int64_t item = blockIdx.x; item < items; item += gridDim.x) {
    const int64_t e0 = item % col_tiles * J, i0 = item / col_tiles % row_tiles * I, plane = item / (col_tiles * row_tiles), b = plane / p.C, c = plane % p.C;
    const int rows = at_most(p.L - i0, I), cols = at_most(p.E - e0, J);
    const A* k = p.k + b * p.M;
    const Range<A> range = key_range(k, p.M);
    const A a = row < rows ? p.weight[c] * p.q[b * p.L + i0 + row] : A(0), top = peak(a, range.low, range.high);
    A acc[4][4], sum = 0;
    clear(acc);
    for (int64_t j0 = 0; j0 < p.M; j0 += kDepth) {
      const int depth = at_most(p.M - j0, kDepth);
      __syncthreads();
      stage<kThreads, kDepth, J>(values, p.value.at(b, c, j0, e0), depth, cols, p.value.r, p.value.e, Same());
      IRSTD_UNROLL_4
      for (int j = group; j < kDepth; j += kGroups) {
        const A w = j < depth ? exponential(exponent(a, k[j0 + j], top)) : A(0);
        weights[j * ld<I> + row] = w;
        sum += w;
      }
      __syncthreads();
      multiply<I, J>(weights, values, depth, acc);
    }
    sums[group * I + row] = sum;
    __syncthreads();
    spread<J>(acc, shared);
    if (group == 0) {
      for (int g = 1; g < kGroups; ++g) sum += sums[g * I + row];
      sums[row] = A(1) / sum;
    }
    __syncthreads();
    const T* res = residual.at(b, c, i0, e0);
    T* o = out + (plane * p.L + i0) * p.E + e0;
    for_each<I, J>(rows, cols, false, [&](int i, int j) {
      const A mixed = shared[i * ld_result<J> + j] * sums[i];
      o[i * p.E + j] = Store<T>::from(add_residual(load(res[i * residual.r + j * residual.e]), gamma, mixed));
    });
  }
}

}  // namespace irstd::bilinear_attention
