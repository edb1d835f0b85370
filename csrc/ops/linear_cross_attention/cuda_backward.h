// Backward kernels of linear_cross_attention after the state: of the queries, then (with the gradient of the state) of keys and values; read by cuda.cu.
#pragma once
#include "ops/linear_cross_attention/cuda_forward.h"

namespace irstd::linear_cross_attention {

// Queries, I tokens a block, d in tiles of J. With D = phi(q) . z + eps and w = S grad:  dq = phi'(q) (w / D + z dD),  dD = -(phi(q) . w) / D^2.
// Writes 1 / D and dD for the sum of dS. 2 d e flops a token (twice that where d has several tiles: w is computed again), reads q and grad, writes dq.
template <class T, int I, int J>
IRSTD_TILE_KERNEL(T, I, J) queries_kernel(Tokens<const T> q, Tokens<const T> grad, int64_t heads, int64_t per_image, int64_t n, int64_t d, int64_t e,
                                          accum_t<T> eps, const accum_t<T>* states, accum_t<T>* inverse, accum_t<T>* d_norm, Tokens<T> dq) {
  using A = accum_t<T>;
  using namespace tile;
  static_assert(I * ld_result<J> <= factors<I, J> && J * ld<I> <= factors<I, J>, "the result, and before it phi(q), take the place of the factors");
  IRSTD_DYN_SHARED(A, shared);
  A *x = shared, *y = shared + kDepth * ld<I>;
  const int64_t token_tiles = ceil_div(n, I), d_tiles = ceil_div(d, J), items = heads * token_tiles;
  for (int64_t item = blockIdx.x; item < items; item += gridDim.x) {
    const int64_t t0 = item % token_tiles * I, head = item / token_tiles, image = head / per_image, h = head % per_image;
    const int rows = at_most(n - t0, I);
    const A *S = states + head * state_size(d, e), *z = S + d * e;
    // w and f = phi(q) of this thread's 4 tokens and 4 features of the tile at d0.
    auto products = [&](int64_t d0, A(&w)[4][4], A(&f)[4][4]) {
      const int cols = at_most(d - d0, J);
      clear(w);
      for (int64_t e0 = 0; e0 < e; e0 += kDepth) {
        const int depth = at_most(e - e0, kDepth);
        __syncthreads();
        stage<threads<I, J>, kDepth, I>(x, grad.at(image, h, t0, e0), depth, rows, grad.f, grad.n, Same());
        stage<threads<I, J>, kDepth, J>(y, S + d0 * e + e0, depth, cols, 1, e, Same());
        __syncthreads();
        multiply<I, J>(x, y, depth, w);
      }
      __syncthreads();
      stage<threads<I, J>, J, I>(shared, q.at(image, h, t0, d0), cols, rows, q.f, q.n, Phi());
      __syncthreads();
      IRSTD_UNROLL
      for (int c = 0; c < 4; ++c) {
        const Quad<A> four = *reinterpret_cast<const Quad<A>*>(shared + (col0<J>() + c) * ld<I> + row0<J>());
        IRSTD_UNROLL
        for (int r = 0; r < 4; ++r) f[r][c] = four.v[r];
      }
    };
    auto z_of = [&](int64_t d0, int c) { return d0 + col0<J>() + c < d ? z[d0 + col0<J>() + c] : A(0); };
    A w[4][4], f[4][4], norm[4] = {0, 0, 0, 0}, dot[4] = {0, 0, 0, 0};
    for (int64_t d0 = 0; d0 < d; d0 += J) {
      products(d0, w, f);
      IRSTD_UNROLL
      for (int c = 0; c < 4; ++c) {
        const A zc = z_of(d0, c);
        IRSTD_UNROLL
        for (int r = 0; r < 4; ++r) norm[r] += f[r][c] * zc, dot[r] += f[r][c] * w[r][c];
      }
    }
    IRSTD_UNROLL
    for (int r = 0; r < 4; ++r) {
      norm[r] = A(1) / (sum_lanes<1, J / 4>(norm[r]) + eps);
      dot[r] = -sum_lanes<1, J / 4>(dot[r]) * norm[r] * norm[r];
      const int token = row0<J>() + r;
      if (col0<J>() == 0 && token < rows) inverse[head * n + t0 + token] = norm[r], d_norm[head * n + t0 + token] = dot[r];
    }
    for (int64_t d0 = 0; d0 < d; d0 += J) {
      if (d_tiles > 1) products(d0, w, f);
      IRSTD_UNROLL
      for (int c = 0; c < 4; ++c) {
        const A zc = z_of(d0, c);
        IRSTD_UNROLL
        for (int r = 0; r < 4; ++r) w[r][c] = (w[r][c] * norm[r] + zc * dot[r]) * phi_slope(f[r][c] - 1, f[r][c]);  // q > 0 where phi(q) > 1, and phi' is 1 at 0
      }
      __syncthreads();
      spread<J>(w, shared);
      __syncthreads();
      T* o = dq.at(image, h, t0, d0);
      for_each<I, J>(rows, at_most(d - d0, J), dq.n < dq.f, [&](int i, int j) { o[i * dq.n + j * dq.f] = Store<T>::from(shared[i * ld_result<J> + j]); });
    }
    __syncthreads();
  }
}

// Keys and values, I tokens x J features of dk or of dv a block:  dk = phi'(k) (dS v + dz),  dv = dS^T phi(k). 4 d e flops a token; for d = e a block reads
// one of k, v (and k again for dk), so about 2 (d + e) elements a token with the output.
template <class T, int I, int J>
IRSTD_TILE_KERNEL(T, I, J) keys_kernel(Tokens<const T> k, Tokens<const T> v, int64_t heads, int64_t per_image, int64_t m, int64_t d, int64_t e,
                                       const accum_t<T>* d_states, Tokens<T> dk, Tokens<T> dv) {
  using A = accum_t<T>;
  using namespace tile;
  static_assert(I * ld_result<J> <= factors<I, J>, "the result takes the place of the factors");
  IRSTD_DYN_SHARED(A, shared);
  A *x = shared, *y = shared + kDepth * ld<I>;
  const int64_t token_tiles = ceil_div(m, I), d_tiles = ceil_div(d, J), tiles = d_tiles + ceil_div(e, J), items = heads * token_tiles * tiles;
  for (int64_t item = blockIdx.x; item < items; item += gridDim.x) {
    const int64_t tile = item % tiles, t0 = item / tiles % token_tiles * I, head = item / (tiles * token_tiles), image = head / per_image, h = head % per_image;
    const bool of_keys = tile < d_tiles;
    const int64_t c0 = (of_keys ? tile : tile - d_tiles) * J, summed = of_keys ? e : d;
    const int rows = at_most(m - t0, I), cols = at_most((of_keys ? d : e) - c0, J);
    const A *dS = d_states + head * state_size(d, e), *dz = dS + d * e;
    A acc[4][4];
    clear(acc);
    for (int64_t s0 = 0; s0 < summed; s0 += kDepth) {
      const int depth = at_most(summed - s0, kDepth);
      __syncthreads();
      if (of_keys) {
        stage<threads<I, J>, kDepth, I>(x, v.at(image, h, t0, s0), depth, rows, v.f, v.n, Same());
        stage<threads<I, J>, kDepth, J>(y, dS + c0 * e + s0, depth, cols, 1, e, Same());
      } else {
        stage<threads<I, J>, kDepth, I>(x, k.at(image, h, t0, s0), depth, rows, k.f, k.n, Phi());
        stage<threads<I, J>, kDepth, J>(y, dS + s0 * e + c0, depth, cols, e, 1, Same());
      }
      __syncthreads();
      multiply<I, J>(x, y, depth, acc);
    }
    __syncthreads();
    spread<J>(acc, shared);
    __syncthreads();
    const Tokens<T>& to = of_keys ? dk : dv;
    T* o = to.at(image, h, t0, c0);
    const T* own = of_keys ? k.at(image, h, t0, c0) : nullptr;
    for_each<I, J>(rows, cols, to.n < to.f, [&](int i, int j) {
      A value = shared[i * ld_result<J> + j];
      if (of_keys) {
        const A key = load(own[i * k.n + j * k.f]);
        value = (value + dz[c0 + j]) * phi_slope(key, phi_of(key));
      }
      o[i * to.n + j * to.f] = Store<T>::from(value);
    });
    __syncthreads();
  }
}

}  // namespace irstd::linear_cross_attention
