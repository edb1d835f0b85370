// Backward of bilinear_attention, its common pieces and the kernel that takes a whole plane in a block; read by cuda.cu.
#pragma once
#include "ops/bilinear_attention/cuda_forward.h"

namespace irstd::bilinear_attention {

template <class A, int I> constexpr int score_shared = (tile::factors<I, I> + (I + 4) * tile::threads<I, I> / 32) * int(sizeof(A));

// dA of a tile: acc[i][j] = sum_e grad[i, e] value[j, e].
template <class T, int I, class A>
__device__ __forceinline__ void score_tile(A* shared, const T* grad, int64_t gr, int64_t ge, int rows, const T* value, int64_t vr, int64_t ve, int cols,
                                           int64_t E, A (&acc)[4][4]) {
  using namespace tile;
  A *x = shared, *y = shared + kDepth * ld<I>;
  clear(acc);
  for (int64_t e0 = 0; e0 < E; e0 += kDepth) {
    const int depth = at_most(E - e0, kDepth);
    __syncthreads();
    stage<threads<I, I>, kDepth, I>(x, grad + e0 * ge, depth, rows, ge, gr, Same());
    stage<threads<I, I>, kDepth, I>(y, value + e0 * ve, depth, cols, ve, vr, Same());
    __syncthreads();
    multiply<I, I>(x, y, depth, acc);
  }
}

// sums[j] = sum over the tile's rows of t, for the I columns of which every thread has the part of its 4 rows. `partial` is [warps][I].
template <int I, class A, class F> __device__ __forceinline__ void sum_columns(const A (&t)[4], A* partial, int cols, F store) {
  constexpr int kWarps = tile::threads<I, I> / 32;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  IRSTD_UNROLL
  for (int c = 0; c < 4; ++c) {
    const A s = tile::sum_lanes<I / 4, 32>(t[c]);
    if (lane < I / 4) partial[warp * I + tile::col0<I>() + c] = s;
  }
  __syncthreads();
  if (int(threadIdx.x) < cols) {
    A s = 0;
    for (int w = 0; w < kWarps; ++w) s += partial[w * I + threadIdx.x];
    store(int(threadIdx.x), s);
  }
}

// One thread gets the sum over the block. `partial` is [warps].
template <int Threads, class A, class F> __device__ __forceinline__ void sum_block(A value, A* partial, F store) {
  value = tile::sum_lanes<1, 32>(value);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
  __syncthreads();
  if (threadIdx.x == 0) {
    A s = 0;
    for (int w = 0; w < Threads / 32; ++w) s += partial[w];
    store(s);
  }
}

// d_value of columns [e0, e0 + cols) of a tile from its product in shared memory.
template <class T, int I, class A>
__device__ __forceinline__ void store_values(const A* result, int rows, int cols, A gamma, const Planes<T>& grad, const T* own, bool add_grad, T* d, int64_t E) {
  tile::for_each<I, I>(rows, cols, false, [&](int j, int e) {
    A x = gamma * result[j * tile::ld_result<I> + e];
    if (add_grad) x += load(own[j * grad.r + e * grad.e]);
    d[j * E + e] = Store<T>::from(x);
  });
}

template <class A, int I> constexpr int plane_shared = score_shared<A, I> + I * tile::ld<I> * int(sizeof(A));  // and the weights

// The whole backward of a plane with L, M <= I, one block a plane. Weights, their gradients and all sums stay in registers; only the weights pass through
// shared memory, for d_value = gamma A^T grad. 6 L M E flops counting the exponentials' use, (2 (or 3) L + 2 M) E elements: grad is read twice, from L1.
template <class T, int I> IRSTD_TILE_KERNEL(T, I, I) plane_kernel(Problem<T> p, Planes<T> grad, bool add_grad, Partials<accum_t<T>> part, T* d_value) {
  using A = accum_t<T>;
  using namespace tile;
  constexpr int kThreads = threads<I, I>, kWarps = kThreads / 32;
  static_assert(I * ld_result<I> <= factors<I, I>, "the result takes the place of the factors");
  IRSTD_DYN_SHARED(A, shared);
  A *partial = shared + factors<I, I>, *block = partial + kWarps * I, *weights = block + kWarps * 4;  // [kWarps][I] [4][kWarps] [I][I]
  const A gamma = *p.gamma;
  const int L = int(p.L), M = int(p.M), i0 = row0<I>(), j0 = col0<I>();
  for (int64_t plane = blockIdx.x; plane < p.B * p.C; plane += gridDim.x) {
    const int64_t b = plane / p.C, c = plane % p.C;
    const A *q = p.q + b * p.L, *k = p.k + b * p.M, w = p.weight[c];
    const Range<A> range = key_range(k, p.M);
    A scores[4][4];
    score_tile<T, I>(shared, grad.at(b, c, 0, 0), grad.r, grad.e, L, p.value.at(b, c, 0, 0), p.value.r, p.value.e, M, p.E, scores);
    A key[4], t[4] = {0, 0, 0, 0}, dw = 0, dg = 0;
    IRSTD_UNROLL
    for (int s = 0; s < 4; ++s) key[s] = j0 + s < M ? k[j0 + s] : A(0);
    IRSTD_UNROLL
    for (int r = 0; r < 4; ++r) {
      const int i = i0 + r;
      const A qi = i < L ? q[i] : A(0), a = w * qi, top = peak(a, range.low, range.high);
      A row[4], sum = 0, dot = 0, u = 0;
      IRSTD_UNROLL
      for (int s = 0; s < 4; ++s) {
        const bool inside = i < L && j0 + s < M;
        row[s] = inside ? exponential(exponent(a, key[s], top)) : A(0);
        scores[r][s] = inside ? scores[r][s] : A(0);
        sum += row[s];
      }
      sum = sum_lanes<1, I / 4>(sum);
      const A scale = i < L ? A(1) / sum : A(0);
      IRSTD_UNROLL
      for (int s = 0; s < 4; ++s) {
        row[s] *= scale;
        weights[i * ld<I> + j0 + s] = row[s];
        dot += row[s] * scores[r][s];
      }
      dot = sum_lanes<1, I / 4>(dot);
      IRSTD_UNROLL
      for (int s = 0; s < 4; ++s) {
        const A dt = logit_gradient(gamma, row[s], scores[r][s], dot);
        u += dt * key[s];
        t[s] += dt * qi;
      }
      u = sum_lanes<1, I / 4>(u);
      if (j0 == 0 && i < L) {
        part.dq[plane * L + i] = w * u;
        dw += qi * u, dg += dot;
      }
    }
    sum_columns<I>(t, partial, M, [&](int j, A s) { part.dk[plane * M + j] = w * s; });
    sum_block<kThreads>(dw, block, [&](A s) { part.d_weight[plane] = s; });
    sum_block<kThreads>(dg, block + kWarps, [&](A s) { part.d_gamma[plane] = s; });
    for (int64_t e0 = 0; e0 < p.E; e0 += I) {
      const int cols = at_most(p.E - e0, I);
      A acc[4][4];
      clear(acc);
      for (int i = 0; i < L; i += kDepth) {
        const int depth = at_most(L - i, kDepth);
        __syncthreads();
        stage<kThreads, kDepth, I>(shared, grad.at(b, c, i, e0), depth, cols, grad.r, grad.e, Same());
        __syncthreads();
        multiply<I, I>(weights + i * ld<I>, shared, depth, acc);
      }
      __syncthreads();
      spread<I>(acc, shared);
      __syncthreads();
      store_values<T, I>(shared, M, cols, gamma, grad, grad.at(b, c, 0, e0), add_grad, d_value + plane * p.M * p.E + e0, p.E);
    }
    __syncthreads();
  }
}

}  // namespace irstd::bilinear_attention
