// Backward of bilinear_attention for planes larger than a tile, in three kernels; read by cuda.cu. dA is computed twice and the weights three times,
// so that no block needs more than a tile of them: 8 L M E flops.
#pragma once
#include "ops/bilinear_attention/cuda_backward_plane.h"

namespace irstd::bilinear_attention {

// One block a tile of rows, over all columns: scale_i = 1 / sum_j exp, dot_i = sum_j A_ij dA_ij, and the tile's part of d_gamma = sum_i dot_i.
template <class T, int I> IRSTD_TILE_KERNEL(T, I, I) rows_kernel(Problem<T> p, Planes<T> grad, Partials<accum_t<T>> part) {
  using A = accum_t<T>;
  using namespace tile;
  IRSTD_DYN_SHARED(A, shared);
  A* partial = shared + factors<I, I>;
  const int64_t row_tiles = ceil_div(p.L, I), col_tiles = ceil_div(p.M, I);
  for (int64_t item = blockIdx.x; item < p.B * p.C * row_tiles; item += gridDim.x) {
    const int64_t i0 = item % row_tiles * I, plane = item / row_tiles, b = plane / p.C, c = plane % p.C;
    const int rows = at_most(p.L - i0, I);
    const A *q = p.q + b * p.L + i0, *k = p.k + b * p.M, w = p.weight[c];
    const Range<A> range = key_range(k, p.M);
    A sum[4] = {0, 0, 0, 0}, dot[4] = {0, 0, 0, 0};
    for (int64_t tile = 0; tile < col_tiles; ++tile) {
      const int64_t j0 = tile * I;
      const int cols = at_most(p.M - j0, I);
      A scores[4][4];
      score_tile<T, I>(shared, grad.at(b, c, i0, 0), grad.r, grad.e, rows, p.value.at(b, c, j0, 0), p.value.r, p.value.e, cols, p.E, scores);
      IRSTD_UNROLL
      for (int s = 0; s < 4; ++s) {
        const int j = col0<I>() + s;
        const A key = j < cols ? k[j0 + j] : A(0);
        IRSTD_UNROLL
        for (int r = 0; r < 4; ++r) {
          const int i = row0<I>() + r;
          if (i < rows && j < cols) {
            const A a = w * q[i], weight = exponential(exponent(a, key, peak(a, range.low, range.high)));
            sum[r] += weight;
            dot[r] += weight * scores[r][s];
          }
        }
      }
    }
    A dg = 0;
    IRSTD_UNROLL
    for (int r = 0; r < 4; ++r) {
      const int i = row0<I>() + r;
      const A total = sum_lanes<1, I / 4>(sum[r]), d = sum_lanes<1, I / 4>(dot[r]);
      if (col0<I>() == 0 && i < rows) {
        const A scale = A(1) / total;
        part.scale[plane * p.L + i0 + i] = scale;
        part.dot[plane * p.L + i0 + i] = d * scale;
        dg += d * scale;
      }
    }
    sum_block<threads<I, I>>(dg, partial, [&](A s) { part.d_gamma[item] = s; });
    __syncthreads();
  }
}

// One block a tile of columns, over all rows: dk_j = weight sum_i dT_ij q_i, d_weight's part sum_j k_j sum_i dT_ij q_i, and dq's part of these columns.
template <class T, int I> IRSTD_TILE_KERNEL(T, I, I) cols_kernel(Problem<T> p, Planes<T> grad, Partials<accum_t<T>> part) {
  using A = accum_t<T>;
  using namespace tile;
  constexpr int kWarps = threads<I, I> / 32;
  IRSTD_DYN_SHARED(A, shared);
  A *partial = shared + factors<I, I>, *block = partial + kWarps * I;
  const int64_t row_tiles = ceil_div(p.L, I), col_tiles = ceil_div(p.M, I);
  const A gamma = *p.gamma;
  for (int64_t item = blockIdx.x; item < p.B * p.C * col_tiles; item += gridDim.x) {
    const int64_t tile = item % col_tiles, j0 = tile * I, plane = item / col_tiles, b = plane / p.C, c = plane % p.C;
    const int cols = at_most(p.M - j0, I);
    const A *k = p.k + b * p.M, w = p.weight[c];
    const Range<A> range = key_range(k, p.M);
    A key[4], t[4] = {0, 0, 0, 0};
    IRSTD_UNROLL
    for (int s = 0; s < 4; ++s) key[s] = col0<I>() + s < cols ? k[j0 + col0<I>() + s] : A(0);
    for (int64_t i0 = 0; i0 < p.L; i0 += I) {
      const int rows = at_most(p.L - i0, I);
      A scores[4][4];
      score_tile<T, I>(shared, grad.at(b, c, i0, 0), grad.r, grad.e, rows, p.value.at(b, c, j0, 0), p.value.r, p.value.e, cols, p.E, scores);
      IRSTD_UNROLL
      for (int r = 0; r < 4; ++r) {
        const int i = row0<I>() + r;
        A u = 0;
        if (i < rows) {
          const A qi = p.q[b * p.L + i0 + i], a = w * qi, top = peak(a, range.low, range.high);
          const A scale = part.scale[plane * p.L + i0 + i], dot = part.dot[plane * p.L + i0 + i];
          IRSTD_UNROLL
          for (int s = 0; s < 4; ++s)
            if (col0<I>() + s < cols) {
              const A dt = logit_gradient(gamma, exponential(exponent(a, key[s], top)) * scale, scores[r][s], dot);
              u += dt * key[s];
              t[s] += dt * qi;
            }
        }
        u = sum_lanes<1, I / 4>(u);
        if (col0<I>() == 0 && i < rows) part.dq[(plane * col_tiles + tile) * p.L + i0 + i] = w * u;
      }
    }
    A dw = 0;
    sum_columns<I>(t, partial, cols, [&](int j, A s) {
      part.dk[plane * p.M + j0 + j] = w * s;
      dw = k[j0 + j] * s;
    });
    sum_block<threads<I, I>>(dw, block, [&](A s) { part.d_weight[(b * col_tiles + tile) * p.C + c] = s; });
    __syncthreads();
  }
}

// d_value = gamma A^T grad (+ grad): one I x I tile of a plane's [M, E] a block, over all rows. The forward with rows and columns changed.
template <class T, int I> IRSTD_TILE_KERNEL(T, I, I) values_kernel(Problem<T> p, Planes<T> grad, bool add_grad, Partials<accum_t<T>> part, T* d_value) {
  using A = accum_t<T>;
  using namespace tile;
  constexpr int kThreads = threads<I, I>, kGroups = kThreads / I;
  IRSTD_DYN_SHARED(A, shared);
  A *weights = shared, *grads = shared + kDepth * ld<I>;
  const int64_t row_tiles = ceil_div(p.M, I), col_tiles = ceil_div(p.E, I), items = p.B * p.C * row_tiles * col_tiles;
  const A gamma = *p.gamma;
  const int row = threadIdx.x % I, group = threadIdx.x / I;
  for (int64_t item = blockIdx.x; item < items; item += gridDim.x) {
    const int64_t e0 = item % col_tiles * I, j0 = item / col_tiles % row_tiles * I, plane = item / (col_tiles * row_tiles), b = plane / p.C, c = plane % p.C;
    const int rows = at_most(p.M - j0, I), cols = at_most(p.E - e0, I);
    const A *k = p.k + b * p.M, w = p.weight[c], key = row < rows ? k[j0 + row] : A(0);
    const Range<A> range = key_range(k, p.M);
    A acc[4][4];
    clear(acc);
    for (int64_t i0 = 0; i0 < p.L; i0 += kDepth) {
      const int depth = at_most(p.L - i0, kDepth);
      __syncthreads();
      stage<kThreads, kDepth, I>(grads, grad.at(b, c, i0, e0), depth, cols, grad.r, grad.e, Same());
      IRSTD_UNROLL_4
      for (int i = group; i < kDepth; i += kGroups) {
        A weight = 0;
        if (i < depth && row < rows) {
          const A a = w * p.q[b * p.L + i0 + i];
          weight = exponential(exponent(a, key, peak(a, range.low, range.high))) * part.scale[plane * p.L + i0 + i];
        }
        weights[i * ld<I> + row] = weight;
      }
      __syncthreads();
      multiply<I, I>(weights, grads, depth, acc);
    }
    __syncthreads();
    spread<I>(acc, shared);
    __syncthreads();
    store_values<T, I>(shared, rows, cols, gamma, grad, grad.at(b, c, j0, e0), add_grad, d_value + (plane * p.M + j0) * p.E + e0, p.E);
    __syncthreads();
  }
}

}  // namespace irstd::bilinear_attention
