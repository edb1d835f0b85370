// Small matrix products kept in registers: out[r][c] (+)= sum_t left[r * step_r + t * step_t] right[t * ld_right + c].
// left is read one number at a time, so any layout (a transpose, too) costs the same; right and out have rows of whole vectors.
#pragma once
#include <algorithm>
#include <cstdint>

#include "common/simd.h"

namespace irstd::gemm {

// Accumulators of one register tile: 16 of 32 registers with AVX-512, 8 of 16 otherwise; enough to cover the latency of two FMA pipes.
template <class V> inline constexpr int tile_rows = sizeof(V) == 64 ? 8 : 4;

template <int R, int N, class V, class A = simd::lane_t<V>>
IRSTD_INLINE void tile(int64_t depth, const A* left, int64_t step_r, int64_t step_t, const A* right, int64_t ld_right, A* out, int64_t ld_out, bool add) {
  constexpr int n = simd::lanes<V>;
  V acc[R][N];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < N; ++v) acc[r][v] = add ? simd::load<V>(out + r * ld_out + v * n) : V{};
  for (int64_t t = 0; t < depth; ++t) {
    V x[N];
#pragma GCC unroll 2
    for (int v = 0; v < N; ++v) x[v] = simd::load<V>(right + t * ld_right + v * n);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const A l = left[r * step_r + t * step_t];
#pragma GCC unroll 2
      for (int v = 0; v < N; ++v) acc[r][v] += l * x[v];
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < N; ++v) simd::store(out + r * ld_out + v * n, acc[r][v]);
}

template <int N, class V, class A = simd::lane_t<V>>
IRSTD_INLINE void columns(int64_t rows, int64_t depth, const A* left, int64_t step_r, int64_t step_t, const A* right, int64_t ld_right, A* out, int64_t ld_out, bool add) {
  constexpr int R = tile_rows<V>;
  int64_t r = 0;
  for (; r + R <= rows; r += R) tile<R, N, V>(depth, left + r * step_r, step_r, step_t, right, ld_right, out + r * ld_out, ld_out, add);
  for (; r < rows; ++r) tile<1, N, V>(depth, left + r * step_r, step_r, step_t, right, ld_right, out + r * ld_out, ld_out, add);
}

// cols is a multiple of the vector's lanes.
template <class V, class A = simd::lane_t<V>>
IRSTD_INLINE void multiply(int64_t rows, int64_t cols, int64_t depth, const A* left, int64_t step_r, int64_t step_t, const A* right, int64_t ld_right, A* out, int64_t ld_out, bool add) {
  constexpr int n = simd::lanes<V>;
  int64_t c = 0;
  for (; c + 2 * n <= cols; c += 2 * n) columns<2, V>(rows, depth, left, step_r, step_t, right + c, ld_right, out + c, ld_out, add);
  if (c < cols) columns<1, V>(rows, depth, left, step_r, step_t, right + c, ld_right, out + c, ld_out, add);
}

// The same product, compiled once per type and width and called: for kernels with many products that are large enough.
template <class A> struct Product {
  int64_t rows, cols, depth;
  const A* left;
  int64_t step_r, step_t;
  const A* right;
  int64_t ld_right;
  A* out;
  int64_t ld_out;
  bool add;
  template <int Bytes> IRSTD_INLINE void operator()() const {
    multiply<simd::vec<A, Bytes>>(rows, cols, depth, left, step_r, step_t, right, ld_right, out, ld_out, add);
  }
};

template <class V, class A = simd::lane_t<V>> IRSTD_INLINE void product(const Product<std::type_identity_t<A>>& p) { simd::call<sizeof(V)>(p); }

}  // namespace irstd::gemm
