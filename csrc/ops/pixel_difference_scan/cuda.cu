// pixel_difference_scan on CUDA. Forward: the neighbour term p, then the scans of the four directions, each into a buffer of its own, then their sum. With
// many chains a scan is one pass over the image; with few its steps are cut into chunks, and a first pass finds the states between them. Backward is always
// cut into chunks: the same first pass, which also keeps the states at the start of every few steps; the reverse; then the sums of what directions,
// channels and chunks give, and the neighbour term. More states than a block holds are taken in several launches that add up. Every sum has a fixed order.
#include "ops/pixel_difference_scan/cuda.h"

#include <type_traits>

#include "common/sums.h"
#include "ops/pixel_difference_scan/cuda_plan.h"

namespace irstd::pixel_difference_scan {
namespace {


// p, dense [B, H, W, D].
template <class A> void launch_term(const Inputs& in, A* p, cudaStream_t stream) {
  pixel_difference::launch_forward(field<A>(in), Image(in.u, in.dtype), Image(dense_view(in, p), type_of<A>), stream);
}

// call(warps) for each launch over the states, with q.first_state set.
template <class A, class F> void for_states(const Inputs& in, Problem<A>& q, F call) {
  for (int64_t launch = 0; launch < launches(in); ++launch) {
    q.first_state = int(launch) * kMaxWarps * states_of_thread(in);
    call(warps_of(in, launch));
  }
}

// h of every chunk, and where `both` g too.
template <class A> void launch_chunks(const Problem<A>& q, int states, const Ends<A>& ends, bool both, cudaStream_t stream) {
  const unsigned grid = blocks_for(tile::ceil_div(q.B * kDirections * states * q.D, kChainThreads));
  IRSTD_LAUNCH((chunks_kernel<A>), dim3(grid, both ? 2 : 1), kChainThreads, 0, stream, q, states, ends);
}

template <class A> void launch_merge(const Problem<A>& q, const Parts<A>& parts, const Strided& out, cudaStream_t stream) {
  const int64_t items = q.B * tile::ceil_div(q.L, kMergePixels) * q.channel_tiles();
  IRSTD_LAUNCH((merge_kernel<A>), blocks_for(items), kMergeThreads, kMergePixels * (kLanes + 1) * sizeof(A), stream, q, parts, out);
}

template <class A, int S> void run_forward(const Inputs& in, const View& out, A* workspace, cudaStream_t stream) {
  const ForwardSpace<A> space(in, workspace);
  if (in.n > 0) launch_term(in, space.p, stream);
  Problem<A> q = problem<A>(in, forward_cut(in), space.p);
  for_states(in, q, [&](int warps) {
    const unsigned grid = blocks_for(q.items()), block = kLanes * warps;
    const int tile = kSteps<A> * warps;
    if (q.chunks > 1) {
      IRSTD_LAUNCH((ends_kernel<A, S, false>), grid, block, tile * kStep<3> * sizeof(A), stream, q, q.u, space.ends);
      launch_chunks(q, S * warps, space.ends, false, stream);
    }
    IRSTD_LAUNCH((scan_kernel<A, S>), grid, block, tile * (kStep<3> + warps * kLanes) * sizeof(A), stream, q, space.ends.h, dense_lines(in, space.y));
  });
  launch_merge(q, Parts<A>{space.y, kDirections, in.B * q.L * in.D}, Strided(out, in.dtype, in.D), stream);
}

template <class A, int S> void run_backward(const Inputs& in, const View& grad, const Gradients& to, A* workspace, cudaStream_t stream) {
  const BackwardSpace<A> space(in, workspace);
  const Cut by = backward_cut<A>(in);
  const int64_t image = in.B * in.D * in.H * in.W, parts = image > 0 ? in.B * by.chunks : 0, row = kDirections * in.D;
  Problem<A> q = problem<A>(in, by, space.p);
  const Strided dB(to.dB, in.dtype, in.N), dC(to.dC, in.dtype, in.N);
  Reverse<A> reverse{Strided(to.ddelta, in.dtype, in.D), dB, dC, 0, dense_lines(in, space.du), dense_lines(in, space.dp), dense_lines(in, space.ddelta_sum), space.dA,
                     space.dskip, space.dbias, false};
  if (space.maps) reverse.dB = map_parts(in, space.maps), reverse.dC = map_parts(in, space.maps + in.N), reverse.images = in.B;
  if (image > 0) {
    if (in.n > 0) launch_term(in, space.p, stream);
    const Strided grads(grad, in.dtype, in.D);
    for_states(in, q, [&](int warps) {
      const unsigned grid = blocks_for(q.items()), block = kLanes * warps;
      Ends<A> ends = space.ends;
      ends.tiles = tiles_of<A>(by, warps);
      IRSTD_LAUNCH((ends_kernel<A, S, true>), grid, block, kSteps<A> * warps * kStep<4> * sizeof(A), stream, q, grads, ends);
      if (q.chunks > 1) launch_chunks(q, S * warps, ends, true, stream);
      reverse.last = q.first_state + S * warps == in.N;
      IRSTD_LAUNCH((reverse_kernel<A, S>), grid, block, (reverse_numbers<A, S>(warps)) * sizeof(A), stream, q, grads, ends, reverse);
      if (reverse.dbias) reverse.dbias += parts * row;
    });
  }
  if ((space.maps || in.D == 0) && in.B * q.L > 0) {
    const unsigned grid = blocks_for(in.B * kDirections * tile::ceil_div(q.L, kMapPixels));
    IRSTD_LAUNCH((maps_kernel<A>), grid, kMapThreads, 0, stream, q, space.maps, dB, dC);
  }
  launch_sums(Sums<A, 4>{{{space.dA, (A*)to.dA, 1, parts, row * in.N},
                          {space.dskip, (A*)to.dskip, 1, parts, in.skip ? row : 0},
                          {space.dbias, (A*)to.dbias, 1, parts * launches(in), in.bias ? row : 0}}},
              stream);  // of four jobs: nvcc keeps an array of three in local memory
  const Parts<A> du{space.du, kDirections, image};
  if (in.n > 0) {
    const Image u(in.u, in.dtype);
    pixel_difference::launch_backward(field<A>(in), u, u, Parts<A>{space.dp, kDirections, image}, du, Image(to.du, in.dtype), (A*)to.dW, space.terms, stream);
  } else if (image > 0) {
    launch_merge(q, du, Strided(to.du, in.dtype, in.D), stream);
  }
}

// f(a number as computed in, states of a thread)
template <class F> void with_kernels(const Inputs& in, const F& f) {
  if (in.dtype == DType::f64) f(double(), std::integral_constant<int, 1>{});
  else if (states_of_thread(in) == 4) f(float(), std::integral_constant<int, 4>{});
  else f(float(), std::integral_constant<int, 1>{});
}

}  // namespace

int64_t forward_workspace(const Inputs& in) {
  return in.dtype == DType::f64 ? ForwardSpace<double>(in, nullptr).numbers : ForwardSpace<float>(in, nullptr).numbers;
}

int64_t backward_workspace(const Inputs& in) {
  return in.dtype == DType::f64 ? BackwardSpace<double>(in, nullptr).numbers : BackwardSpace<float>(in, nullptr).numbers;
}

cudaError_t forward(const Inputs& in, View out, void* workspace, cudaStream_t stream) {
  if (in.B * in.D * in.H * in.W == 0) return cudaSuccess;
  with_kernels(in, [&](auto number, auto states) { run_forward<decltype(number), states()>(in, out, (decltype(number)*)workspace, stream); });
  return cudaGetLastError();
}

cudaError_t backward(const Inputs& in, View grad, const Gradients& to, void* workspace, cudaStream_t stream) {
  with_kernels(in, [&](auto number, auto states) { run_backward<decltype(number), states()>(in, grad, to, (decltype(number)*)workspace, stream); });
  return cudaGetLastError();
}

}  // namespace irstd::pixel_difference_scan
