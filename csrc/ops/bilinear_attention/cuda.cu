// bilinear_attention on CUDA. An L x M matrix never exists outside a tile: its weights are exponentials taken where they are needed.
// Per plane (b, c) the forward is 2 L M E flops and L M exponentials over (M + 2 L) E elements; for 32 x 32 x 32 that is 5 flops a byte: memory bound.
#include "ops/bilinear_attention/cuda.h"

#include "common/dispatch.h"
#include "common/sums.h"
#include "common/tile.h"
#include "ops/bilinear_attention/cuda_backward_tiles.h"

namespace irstd::bilinear_attention {
namespace {

// Tile edges, and whether the backward takes a plane in one block.
int forward_tile(const Inputs& in) { return in.L <= 32 || in.E <= 32 ? 32 : 64; }

// 64 x 64 weights beside two factors are more shared memory than a block has in double.
int backward_tile(const Inputs& in) { return in.dtype == DType::f64 || (in.L <= 32 && in.M <= 32) ? 32 : 64; }

bool backward_in_one_block(const Inputs& in) { return in.L <= backward_tile(in) && in.M <= backward_tile(in); }

template <class T> Problem<T> problem(const Inputs& in) {
  using A = accum_t<T>;
  return {in.B, in.C, in.L, in.M, in.E, (const A*)in.q, (const A*)in.k, (const A*)in.weight, (const A*)in.gamma, planes<T>(in.value)};
}

// Numbers of each part of the backward's workspace. Where a plane is one block, the weights' row statistics stay in it.
struct Parts {
  int64_t dq, dk, d_weight, d_gamma, scale, dot;
  explicit Parts(const Inputs& in) {
    const int tile = backward_tile(in);
    const bool whole = backward_in_one_block(in);
    const int64_t planes = in.B * in.C, row_tiles = whole ? 1 : tile::ceil_div(in.L, tile), col_tiles = whole ? 1 : tile::ceil_div(in.M, tile);
    dq = planes * col_tiles * in.L, dk = planes * in.M, d_weight = planes * col_tiles, d_gamma = planes * row_tiles;
    scale = dot = whole ? 0 : planes * in.L;
  }
  int64_t total() const { return dq + dk + d_weight + d_gamma + scale + dot; }
};

template <int I, class T> void launch_forward(const Inputs& in, const View& residual, void* out, cudaStream_t stream) {
  const int64_t items = in.B * in.C * tile::ceil_div(in.L, I) * tile::ceil_div(in.E, I);
  IRSTD_LAUNCH((forward_kernel<T, I, I>), blocks_for(items), (tile::threads<I, I>), (forward_shared<accum_t<T>, I, I>), stream, problem<T>(in),
               planes<T>(residual), (T*)out);
}

template <int I, class T> void launch_backward(const Inputs& in, const Planes<T>& grad, bool add_grad, const Partials<accum_t<T>>& part, T* d_value,
                                               cudaStream_t stream) {
  using A = accum_t<T>;
  const Problem<T> p = problem<T>(in);
  const int64_t planes = in.B * in.C, rows = tile::ceil_div(in.L, I), cols = tile::ceil_div(in.M, I), e = tile::ceil_div(in.E, I);
  if (planes == 0) return;
  const dim3 block(tile::threads<I, I>);
  if (backward_in_one_block(in)) {
    IRSTD_LAUNCH((plane_kernel<T, I>), blocks_for(planes), block, (plane_shared<A, I>), stream, p, grad, add_grad, part, d_value);
    return;
  }
  if (rows > 0) IRSTD_LAUNCH((rows_kernel<T, I>), blocks_for(planes * rows), block, (score_shared<A, I>), stream, p, grad, part);
  IRSTD_LAUNCH((cols_kernel<T, I>), blocks_for(planes * cols), block, (score_shared<A, I>), stream, p, grad, part);
  if (e > 0) IRSTD_LAUNCH((values_kernel<T, I>), blocks_for(planes * cols * e), block, (score_shared<A, I>), stream, p, grad, add_grad, part, d_value);
}

}  // namespace

int64_t backward_workspace(const Inputs& in) { return Parts(in).total(); }

cudaError_t forward(const Inputs& in, View residual, void* out, cudaStream_t stream) {
  if (in.B * in.C * in.L * in.E == 0) return cudaSuccess;
  with_dtype(in.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if (forward_tile(in) == 32) launch_forward<32, T>(in, residual, out, stream);
    else launch_forward<64, T>(in, residual, out, stream);
  });
  return cudaGetLastError();
}

cudaError_t backward(const Inputs& in, View grad, bool add_grad, void* workspace, void* dq, void* dk, void* d_weight, void* d_value, void* d_gamma,
                     cudaStream_t stream) {
  with_dtype(in.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = accum_t<T>;
    const Parts n(in);
    Partials<A> part;
    part.dq = (A*)workspace, part.dk = part.dq + n.dq, part.d_weight = part.dk + n.dk, part.d_gamma = part.d_weight + n.d_weight;
    part.scale = part.d_gamma + n.d_gamma, part.dot = part.scale + n.scale;
    const Planes<T> g = planes<T>(grad);
    if constexpr (sizeof(A) == sizeof(float)) {
      if (backward_tile(in) == 64) launch_backward<64, T>(in, g, add_grad, part, (T*)d_value, stream);
    }
    if (backward_tile(in) == 32) launch_backward<32, T>(in, g, add_grad, part, (T*)d_value, stream);
    const int64_t planes = in.B * in.C, plane_rows = planes > 0 ? n.d_gamma / planes : 0, plane_cols = planes > 0 ? n.d_weight / planes : 0;
    launch_sums(Sums<A, 4>{{{part.dq, (A*)dq, in.B, in.C * plane_cols, in.L},
                            {part.dk, (A*)dk, in.B, in.C, in.M},
                            {part.d_weight, (A*)d_weight, 1, in.B * plane_cols, in.C},
                            {part.d_gamma, (A*)d_gamma, 1, planes * plane_rows, 1}}},
                stream);
  });
  return cudaGetLastError();
}

}  // namespace irstd::bilinear_attention
