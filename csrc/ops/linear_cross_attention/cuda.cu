// linear_cross_attention on CUDA. Forward: tokens of a head are split over blocks, each adds its part of the state S, z; a second kernel adds the parts in
// a fixed order; a third passes over the queries. Backward: the state again, the queries, the state's gradient in the same two steps, keys and values.
// How tokens are split depends on their number only, so a head's result does not depend on the batch it is in.
#include "ops/linear_cross_attention/cuda.h"

#include "common/dispatch.h"
#include "common/sums.h"
#include "ops/linear_cross_attention/cuda_backward.h"

namespace irstd::linear_cross_attention {
namespace {

int feature_tile(int64_t features) { return features <= 32 ? 32 : 64; }

// Blocks of at least 128 tokens, and at most 128 blocks.
int64_t state_splits(int64_t tokens) {
  const int64_t splits = tile::ceil_div(tokens, 128);
  return splits < 1 ? 1 : splits > 128 ? 128 : splits;
}

// What a state takes of the workspace: its parts, and the sum of them (the same numbers where there is one part).
int64_t parts_size(const Inputs& in, int64_t splits) { return in.B * in.h * state_size(in.d, in.e) * splits; }

template <int I, class T> void launch_state(const Inputs& in, const View& a, const View& b, int64_t n, const accum_t<T>* inverse, const accum_t<T>* d_norm,
                                            accum_t<T>* parts, cudaStream_t stream) {
  const int64_t heads = in.B * in.h, splits = state_splits(n), e_tiles = in.e > 0 ? tile::ceil_div(in.e, I) : 1;
  const unsigned grid = blocks_for(heads * splits * tile::ceil_div(in.d, I) * e_tiles);
  const auto x = tokens<const T>(a), y = tokens<const T>(b);
  if (inverse)
    IRSTD_LAUNCH((state_kernel<T, I, I, true>), grid, (tile::threads<I, I>), (shared_bytes<accum_t<T>, I, I>), stream, x, y, heads, in.h, n, in.d, in.e, splits,
                 inverse, d_norm, parts);
  else
    IRSTD_LAUNCH((state_kernel<T, I, I, false>), grid, (tile::threads<I, I>), (shared_bytes<accum_t<T>, I, I>), stream, x, y, heads, in.h, n, in.d, in.e, splits,
                 inverse, d_norm, parts);
}

// The state over n tokens of a and b (its gradient where `inverse` is given), [B h, d (e + 1)].
template <class T> const accum_t<T>* state(const Inputs& in, const View& a, const View& b, int64_t n, const accum_t<T>* inverse, const accum_t<T>* d_norm,
                                           accum_t<T>* sum, accum_t<T>* parts, cudaStream_t stream) {
  const int64_t splits = state_splits(n);
  accum_t<T>* to = splits > 1 ? parts : sum;
  if (feature_tile(in.d > in.e ? in.d : in.e) == 32) launch_state<32, T>(in, a, b, n, inverse, d_norm, to, stream);
  else launch_state<64, T>(in, a, b, n, inverse, d_norm, to, stream);
  if (splits > 1) launch_sums(Sums<accum_t<T>, 1>{{{parts, sum, in.B * in.h, splits, state_size(in.d, in.e)}}}, stream);
  return sum;
}

template <int I, int J, class T> void launch_forward(const Inputs& in, const accum_t<T>* states, const View& out, cudaStream_t stream) {
  const int64_t heads = in.B * in.h, items = heads * tile::ceil_div(in.N, I) * tile::ceil_div(in.e, J);
  IRSTD_LAUNCH((forward_kernel<T, I, J>), blocks_for(items), (tile::threads<I, J>), (shared_bytes<accum_t<T>, I, J>), stream, tokens<const T>(in.q), heads, in.h,
               in.N, in.d, in.e, accum_t<T>(in.eps), states, tokens<T>(out));
}

template <int I, int J, class T> void launch_queries(const Inputs& in, const View& grad, const accum_t<T>* states, accum_t<T>* inverse, accum_t<T>* d_norm,
                                                     const View& dq, cudaStream_t stream) {
  const int64_t heads = in.B * in.h;
  IRSTD_LAUNCH((queries_kernel<T, I, J>), blocks_for(heads * tile::ceil_div(in.N, I)), (tile::threads<I, J>), (shared_bytes<accum_t<T>, I, J>), stream,
               tokens<const T>(in.q), tokens<const T>(grad), heads, in.h, in.N, in.d, in.e, accum_t<T>(in.eps), states, inverse, d_norm, tokens<T>(dq));
}

template <int I, int J, class T> void launch_keys(const Inputs& in, const accum_t<T>* d_states, const View& dk, const View& dv, cudaStream_t stream) {
  const int64_t heads = in.B * in.h, items = heads * tile::ceil_div(in.M, I) * (tile::ceil_div(in.d, J) + tile::ceil_div(in.e, J));
  if (items > 0)
    IRSTD_LAUNCH((keys_kernel<T, I, J>), blocks_for(items), (tile::threads<I, J>), (shared_bytes<accum_t<T>, I, J>), stream, tokens<const T>(in.k),
                 tokens<const T>(in.v), heads, in.h, in.M, in.d, in.e, d_states, tokens<T>(dk), tokens<T>(dv));
}

}  // namespace

int64_t forward_workspace(const Inputs& in) { return parts_size(in, 1) + parts_size(in, state_splits(in.M)); }

int64_t backward_workspace(const Inputs& in) {
  const int64_t of_keys = state_splits(in.M), of_queries = state_splits(in.N);
  return 2 * parts_size(in, 1) + parts_size(in, of_keys > of_queries ? of_keys : of_queries) + 2 * in.B * in.h * in.N;
}

cudaError_t forward(const Inputs& in, View out, void* workspace, cudaStream_t stream) {
  if (in.B * in.h * in.N * in.e == 0) return cudaSuccess;
  with_dtype(in.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = accum_t<T>;
    A* sum = (A*)workspace;
    if (in.d > 0) state<T>(in, in.k, in.v, in.M, nullptr, nullptr, sum, sum + parts_size(in, 1), stream);
    if (feature_tile(in.e) == 32) launch_forward<64, 32, T>(in, sum, out, stream);
    else launch_forward<64, 64, T>(in, sum, out, stream);
  });
  return cudaGetLastError();
}

cudaError_t backward(const Inputs& in, View grad, View dq, View dk, View dv, void* workspace, cudaStream_t stream) {
  if (in.B * in.h * (in.d + in.e) == 0) return cudaSuccess;
  with_dtype(in.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = accum_t<T>;
    const int64_t heads = in.B * in.h;
    A *states = (A*)workspace, *d_states = states + parts_size(in, 1), *inverse = d_states + parts_size(in, 1), *d_norm = inverse + heads * in.N;
    A* parts = d_norm + heads * in.N;
    if (in.d > 0) {
      state<T>(in, in.k, in.v, in.M, nullptr, nullptr, states, parts, stream);
      if (in.N > 0) {
        if (feature_tile(in.d) == 32) launch_queries<64, 32, T>(in, grad, states, inverse, d_norm, dq, stream);
        else launch_queries<64, 64, T>(in, grad, states, inverse, d_norm, dq, stream);
      }
      state<T>(in, in.q, grad, in.N, inverse, d_norm, d_states, parts, stream);
    }
    if (feature_tile(in.d > in.e ? in.d : in.e) == 32) launch_keys<64, 32, T>(in, d_states, dk, dv, stream);
    else launch_keys<64, 64, T>(in, d_states, dk, dv, stream);
  });
  return cudaGetLastError();
}

}  // namespace irstd::linear_cross_attention
