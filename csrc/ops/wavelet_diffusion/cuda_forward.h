// Forward kernel of wavelet_diffusion; read by cuda.cu.
#pragma once
#include <type_traits>

#include "ops/wavelet_diffusion/cuda_tile.h"

namespace irstd::wavelet_diffusion {

template <class A> constexpr int kForwardSteps = sizeof(A) == 8 ? 3 : 4;  // of a sweep at most
constexpr int kForwardBatch = 4;                                          // rows that are read together

// T steps of a sweep; T = 0 copies. Reads u and writes `to` once: 2 elements a pixel, whatever T, and the halo of T pixels around a tile from the cache.
// A cell and step: 15 operations (24 with AllHigh), one of them a division, and 3 shuffles. Shared memory: kForwardBatch rows, 8.5 KB in float, 9 KB in double.
template <class A, int T, bool AllHigh> __global__ __launch_bounds__(kThreads, T > 2 || sizeof(A) == 8 ? 2 : 3) void forward_kernel(Field<A> f, Image u, Image to) {
  constexpr int M = kChunks<A>;
  IRSTD_DYN_SHARED(A, rows);  // [kForwardBatch][kWarps][kPitch]
  const int warp = threadIdx.x / kLanes, lane = threadIdx.x % kLanes;
  for (int64_t item = blockIdx.x; item < f.items(); item += gridDim.x) {
    const Tile at(f, item);
    const A per_k = at.computes ? inverse(f.k[at.c]) : A(0);
    bool cell[M];
    IRSTD_UNROLL
    for (int j = 0; j < M; ++j) cell[j] = lane + j * kLanes + 1 < at.width;
    Step<A, M> step[T > 0 ? T : 1];
    Batch<A, kForwardBatch> batch(at, u, 0);
    Target<A, kForwardBatch> target(at, to, -T);
    batch.read(at, u, 0);
    IRSTD_UNROLL_1
    for (int start = 0; start < at.last + T; start += kForwardBatch) {
      batch.put(at, rows, u.type);
      if (f.along_channels) __syncthreads();
      batch.read(at, u, start + kForwardBatch);
      if (T > 0 && at.computes) {
        IRSTD_UNROLL_1
        for (int i = 0; i < kForwardBatch; ++i) {
          A row[M];
          IRSTD_UNROLL
          for (int j = 0; j < M; ++j) row[j] = slot(rows, i, warp, lane + j * kLanes);
          IRSTD_UNROLL
          for (int s = 0; s < T; ++s) step[s].template advance<AllHigh>(row, start + i - s >= 1 && start + i - s < at.height, cell, per_k);
          IRSTD_UNROLL
          for (int j = 0; j < M; ++j) slot(rows, i, warp, lane + j * kLanes) = row[j];
        }
      }
      if (f.along_channels) __syncthreads();
      target.write(at, rows, to, start - T);  // a thread reads here what it alone writes again
    }
  }
}

// f(steps), known to the compiler and at most Most.
template <int Most, class F> void with_steps(int steps, F f) {
  if constexpr (Most > 1) {
    if (steps < Most) return with_steps<Most - 1>(steps, f);
  }
  f(std::integral_constant<int, Most>{});
}

template <class F> auto with_bands(bool all_high, F f) { return all_high ? f(std::true_type{}) : f(std::false_type{}); }

template <class A> void launch_forward(const Inputs& in, int steps, const Image& u, const Image& to, cudaStream_t stream) {
  const Field<A> f = field<A>(in, steps);
  const unsigned grid = blocks_for(f.items());
  const size_t shared = kForwardBatch * kRow<A> * sizeof(A);
  if (steps == 0) {
    IRSTD_LAUNCH((forward_kernel<A, 0, false>), grid, kThreads, shared, stream, f, u, to);
  } else {
    with_bands(in.all_high, [&](auto high) {
      with_steps<kForwardSteps<A>>(steps, [&](auto T) { IRSTD_LAUNCH((forward_kernel<A, T(), high()>), grid, kThreads, shared, stream, f, u, to); });
    });
  }
}

}  // namespace irstd::wavelet_diffusion
