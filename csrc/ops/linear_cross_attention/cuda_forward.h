// What the kernels of linear_cross_attention share, the state and the forward kernel; read by cuda.cu. I x J is the tile of a block, see common/tile.h.
#pragma once
#include "common/tile.h"
#include "ops/linear_cross_attention/cuda.h"
#include "ops/linear_cross_attention/math.h"

namespace irstd::linear_cross_attention {

template <class T> struct Tokens {
  T* data;
  int64_t b, h, n, f;
  __device__ T* at(int64_t image, int64_t head, int64_t token, int64_t feature) const { return data + image * b + head * h + token * n + feature * f; }
};
template <class T> Tokens<T> tokens(const View& v) { return {(T*)v.data, v.b, v.h, v.n, v.f}; }

template <class A> __device__ __forceinline__ A phi_of(A x) { return phi(x, tile::exponential(x)); }

struct Phi {
  template <class A> __device__ __forceinline__ A operator()(A x, int, int) const { return phi_of(x); }
};

// State of a head: S [d, e], then z [d].
__host__ __device__ inline int64_t state_size(int64_t d, int64_t e) { return d * (e + 1); }

template <class A, int I, int J> constexpr int shared_bytes = (tile::factors<I, J> + I) * int(sizeof(A));

// Parts of a sum over tokens. Of keys: S = sum phi(a) b^T, z = sum phi(a), with a = k, b = v. Of queries (a = q, b = grad), for the backward:
// dS = sum phi(a) (b / D)^T, dz = sum phi(a) dD, with 1 / D and dD of every token in `inverse` and `d_norm`.
// One I x J tile of the state for one split of the tokens a block; part is [B h, splits, state]. Reads a for each tile of e and b for each tile of d, 2 d e
// flops a token: for d = e = 32 that is 8 flops a byte.
template <class T, int I, int J, bool Queries>
IRSTD_TILE_KERNEL(T, I, J) state_kernel(Tokens<const T> a, Tokens<const T> b, int64_t heads, int64_t per_image, int64_t n, int64_t d, int64_t e, int64_t splits,
                                        const accum_t<T>* inverse, const accum_t<T>* d_norm, accum_t<T>* part) {
  using A = accum_t<T>;
  using namespace tile;
  IRSTD_DYN_SHARED(A, shared);
  A *x = shared, *y = shared + kDepth * ld<I>;
  const int64_t d_tiles = ceil_div(d, I), e_tiles = ceil_div(e > 0 ? e : 1, J), per_split = ceil_div(n, splits * kDepth) * kDepth;
  const int64_t items = heads * splits * d_tiles * e_tiles;
  for (int64_t item = blockIdx.x; item < items; item += gridDim.x) {
    const int64_t e0 = item % e_tiles * J, d0 = item / e_tiles % d_tiles * I, split = item / (e_tiles * d_tiles) % splits;
    const int64_t head = item / (e_tiles * d_tiles * splits), image = head / per_image, h = head % per_image;
    const int64_t begin = split * per_split, end = begin + per_split < n ? begin + per_split : n;
    const int rows = at_most(d - d0, I), cols = at_most(e - e0, J);
    A acc[4][4], z = 0;
    clear(acc);
    for (int64_t t = begin; t < end; t += kDepth) {
      const int depth = at_most(end - t, kDepth);
      const A *inv = inverse + head * n + t, *dn = d_norm + head * n + t;
      __syncthreads();
      stage<threads<I, J>, kDepth, I>(x, a.at(image, h, t, d0), depth, rows, a.n, a.f, Phi());
      stage<threads<I, J>, kDepth, J>(y, b.at(image, h, t, e0), depth, cols, b.n, b.f, [&](A value, int token, int) { return Queries ? value * inv[token] : value; });
      __syncthreads();
      multiply<I, J>(x, y, depth, acc);
      if (e0 == 0 && int(threadIdx.x) < I)
        for (int token = 0; token < depth; ++token) z += x[token * ld<I> + threadIdx.x] * (Queries ? dn[token] : A(1));
    }
    A* state = part + (head * splits + split) * state_size(d, e);
    if (e0 == 0 && int(threadIdx.x) < rows) state[d * e + d0 + threadIdx.x] = z;
    __syncthreads();
    spread<J>(acc, shared);
    __syncthreads();
    for_each<I, J>(rows, cols, false, [&](int i, int j) { state[(d0 + i) * e + e0 + j] = shared[i * ld_result<J> + j]; });
    __syncthreads();
  }
}

// out = phi(q)^T S / (phi(q) . z + eps): I tokens x J features a block. 2 d e flops a token; q is read for each tile of e, S (d J) for each tile of tokens.
template <class T, int I, int J>
IRSTD_TILE_KERNEL(T, I, J) forward_kernel(Tokens<const T> q, int64_t heads, int64_t per_image, int64_t n, int64_t d, int64_t e, accum_t<T> eps,
                                          const accum_t<T>* states, Tokens<T> out) {
  using A = accum_t<T>;
  using namespace tile;
  static_assert(I * ld_result<J> <= factors<I, J> && I <= threads<I, J>, "the result takes the place of the factors; one thread a token");
  IRSTD_DYN_SHARED(A, shared);
  A *x = shared, *y = shared + kDepth * ld<I>, *norms = shared + factors<I, J>;
  const int64_t token_tiles = ceil_div(n, I), e_tiles = ceil_div(e, J), items = heads * token_tiles * e_tiles;
  for (int64_t item = blockIdx.x; item < items; item += gridDim.x) {
    const int64_t e0 = item % e_tiles * J, t0 = item / e_tiles % token_tiles * I, head = item / (e_tiles * token_tiles);
    const int64_t image = head / per_image, h = head % per_image;
    const int rows = at_most(n - t0, I), cols = at_most(e - e0, J);
    const A *S = states + head * state_size(d, e), *z = S + d * e;
    A acc[4][4], norm = eps;
    clear(acc);
    for (int64_t d0 = 0; d0 < d; d0 += kDepth) {
      const int depth = at_most(d - d0, kDepth);
      __syncthreads();
      stage<threads<I, J>, kDepth, I>(x, q.at(image, h, t0, d0), depth, rows, q.f, q.n, Phi());
      stage<threads<I, J>, kDepth, J>(y, S + d0 * e + e0, depth, cols, e, 1, Same());
      __syncthreads();
      multiply<I, J>(x, y, depth, acc);
      if (int(threadIdx.x) < I)
        for (int i = 0; i < depth; ++i) norm += x[i * ld<I> + threadIdx.x] * z[d0 + i];
    }
    __syncthreads();
    if (int(threadIdx.x) < I) norms[threadIdx.x] = norm;
    spread<J>(acc, shared);
    __syncthreads();
    T* o = out.at(image, h, t0, e0);
    for_each<I, J>(rows, cols, out.n < out.f, [&](int i, int j) { o[i * out.n + j * out.f] = Store<T>::from(shared[i * ld_result<J> + j] / norms[i]); });
    __syncthreads();
  }
}

}  // namespace irstd::linear_cross_attention
