// Backward kernel of wavelet_diffusion; read by cuda.cu.
#pragma once
#include "ops/wavelet_diffusion/cuda_forward.h"

namespace irstd::wavelet_diffusion {

// Steps of a sweep at most, and rows that are read together: what fits into 128 registers.
template <class A, bool AllHigh> constexpr int kBackwardSteps = sizeof(A) == 8 || AllHigh ? 2 : 3;
template <int T> constexpr int kBackwardBatch = T > 2 ? 2 : 4;

// The gradient of one step: the step's input u and the gradient of its result come row by row, and that of its input goes out a row later.
// Again: what is to the right of the row before is asked for again, which saves registers.
template <class A, int M, bool Again> struct Back {
  A own[M] = {}, right[M] = {}, y[M] = {}, y_right[M] = {}, sum[M] = {};
  // As Step::advance; `counted`: the cells whose part in dk this tile is to add.
  template <bool AllHigh>
  __device__ __forceinline__ void advance(const A (&u)[M], A (&row)[M], bool cells, const bool (&cell)[M], bool rows_counted, const bool (&counted)[M], A per_k,
                                          A& dk) {
    A next[M], y_next[M], out[M];
    Moved<A, M> moved;
    if constexpr (Again) from_right(own, right);
    from_right(u, next), from_right(row, y_next);
    IRSTD_UNROLL
    for (int j = 0; j < M; ++j) {
      A part;
      const Flow<A> of = flow_backward<AllHigh>(own[j], right[j], u[j], next[j], y[j], y_right[j], row[j], y_next[j], per_k, part);
      moved.template set<AllHigh>(j, cells && cell[j], of);
      if (cells && cell[j] && rows_counted && counted[j]) dk += part;
    }
    moved.add(y, sum, out);
    keep(own, u), keep(right, next), keep(y, row), keep(y_right, y_next), keep(row, out);
  }
};

// T steps of a sweep backward. The T - 1 steps before the last one are done again, each a row ahead of the next; since the gradient meets them in the reverse
// order, the inputs of the earlier steps wait, an input for 2 rows per step that is between. Reads u and grad and writes du once: 3 elements a pixel, and
// 2T - 1 pixels around a tile from the cache. A cell: 13 (T - 1) + 29 T operations (21 and 39 with AllHigh), 2T - 1 divisions among them, and 3 (T - 1) + 4T
// shuffles, T more for T = 3. part: [tiles, C], the sums of dk; a cell belongs to the tile of its upper left pixel. Shared memory: 2 kBackwardBatch rows and
// what waits, 17 to 23 KB.
template <class A, int T, bool AllHigh> __global__ __launch_bounds__(kThreads, 2) void backward_kernel(Field<A> f, Image u, Image grad, Image du, A* part) {
  constexpr int M = kChunks<A>, kDelay = 2 * T - 1, kBatch = kBackwardBatch<T>;
  IRSTD_DYN_SHARED(A, rows);  // [2][kBatch][kWarps][kPitch], then [T (T - 1)][M][kThreads]
  A* y_rows = rows + kBatch * kRow<A>;
  A* waiting = y_rows + kBatch * kRow<A> + threadIdx.x;
  const int warp = threadIdx.x / kLanes, lane = threadIdx.x % kLanes;
  for (int64_t item = blockIdx.x; item < f.items(); item += gridDim.x) {
    const Tile at(f, item);
    const A per_k = at.computes ? inverse(f.k[at.c]) : A(0);
    bool cell[M], counted[M];
    IRSTD_UNROLL
    for (int j = 0; j < M; ++j) {
      const int column = lane + j * kLanes;
      cell[j] = column + 1 < at.width, counted[j] = column >= at.begin && column < at.end;
    }
    Step<A, M> step[T > 1 ? T - 1 : 1];
    Back<A, M, (T > 2)> back[T];
    A dk = 0;
    Batch<A, kBatch> batch(at, u, 0), y_batch(at, grad, 1 - T);
    Target<A, kBatch> target(at, du, -kDelay);
    batch.read(at, u, 0), y_batch.read(at, grad, 1 - T);
    IRSTD_UNROLL_1
    for (int start = 0; start < at.last + kDelay; start += kBatch) {
      batch.put(at, rows, u.type), y_batch.put(at, y_rows, grad.type);
      if (f.along_channels) __syncthreads();
      batch.read(at, u, start + kBatch), y_batch.read(at, grad, start + kBatch + 1 - T);
      if (at.computes) {
        IRSTD_UNROLL_1
        for (int i = 0; i < kBatch; ++i) {
          A input[T][M], y[M];  // the rows that the steps backward take
          IRSTD_UNROLL
          for (int j = 0; j < M; ++j) input[T - 1][j] = slot(rows, i, warp, lane + j * kLanes), y[j] = slot(y_rows, i, warp, lane + j * kLanes);
          int row = start + i;
          A* line = waiting;
          IRSTD_UNROLL
          for (int s = 0; s < T - 1; ++s, --row) {
            const int wait = 2 * (T - 1 - s);
            IRSTD_UNROLL
            for (int j = 0; j < M; ++j) {
              A& place = line[((start + i) % wait * M + j) * kThreads];
              input[s][j] = place, place = input[T - 1][j];  // at first what lies there is of no row, and of no cell
            }
            line += wait * M * kThreads;
            step[s].template advance<AllHigh>(input[T - 1], row >= 1 && row < at.height, cell, per_k);
          }
          IRSTD_UNROLL
          for (int s = T - 1; s >= 0; --s, --row)
            back[s].template advance<AllHigh>(input[s], y, row >= 1 && row < at.height, cell, row > at.first && row <= at.last, counted, per_k, dk);
          IRSTD_UNROLL
          for (int j = 0; j < M; ++j) slot(y_rows, i, warp, lane + j * kLanes) = y[j];
        }
      }
      if (f.along_channels) __syncthreads();
      target.write(at, y_rows, du, start - kDelay);
    }
    dk = tile::sum_lanes<1, kLanes>(dk);
    if (at.computes && lane == 0) part[item / tile::ceil_div(f.C, kWarps) * f.C + at.c] = dk;
  }
}

constexpr int backward_halo(int steps) { return 2 * steps - 1; }
template <class A, int T> constexpr size_t kBackwardShared = (2 * kBackwardBatch<T> * kRow<A> + T * (T - 1) * kChunks<A> * kThreads) * sizeof(A);

template <class A> void launch_backward(const Inputs& in, int steps, const Image& u, const Image& grad, const Image& du, A* part, cudaStream_t stream) {
  const Field<A> f = field<A>(in, backward_halo(steps));
  with_bands(in.all_high, [&](auto high) {
    with_steps<kBackwardSteps<A, high()>>(steps, [&](auto T) {
      IRSTD_LAUNCH((backward_kernel<A, T(), high()>), blocks_for(f.items()), kThreads, (kBackwardShared<A, T()>), stream, f, u, grad, du, part);
    });
  });
}

}  // namespace irstd::wavelet_diffusion
