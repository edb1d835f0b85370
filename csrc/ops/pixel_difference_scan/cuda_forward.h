// Forward kernels of pixel_difference_scan; read by cuda.cu. S is the number of states a thread keeps.
#pragma once
#include "ops/pixel_difference_scan/cuda_steps.h"

namespace irstd::pixel_difference_scan {

using pixel_difference::Parts;

template <class A> constexpr int kBlocks = sizeof(A) == 8 ? 3 : 4;  // on a multiprocessor, that leave a thread enough registers

// What ends_kernel leaves behind of every chunk, and for the backward pass of every tile, all from a zero state at the start of the chunk.
template <class A> struct Ends {
  A* h;               // [B, K, chunks, states, D]: the state after the chunk
  A* g;               // the same: the gradient that the chunk gives to the state before it
  A* total;           // [B, K, chunks, D]: sum of delta over the chunk
  A *tile_h;          // [B, K, chunks, tiles, states, D]: the state at the start of a tile
  A *tile_total;      // [B, K, chunks, tiles, D]: sum of delta from the start of the chunk to the start of the tile
  int64_t tiles;      // of a chunk
};

// Every chunk from a zero state: where the chain is cut, what crosses the cut is found from this by chunks_kernel. With Backward also the states at the
// start of every tile, and the gradient that leaves the chunk at its start, sum_t exp(A (delta_begin + .. + delta_t)) C(t) dy(t).
// Per state and step 1 exponential and 3 operations, 6 with Backward (9 and 13 instructions with 16 states); reads u, p, delta, B (and C, dy).
template <class A, int S, bool Backward>
__global__ __launch_bounds__(kLanes * kMaxWarps, Backward ? 3 : kBlocks<A>) void ends_kernel(Problem<A> q, Strided grad, Ends<A> to) {
  constexpr int kMaps = Backward ? 4 : 3;
  IRSTD_DYN_SHARED(A, shared);
  for (int64_t item = blockIdx.x; item < q.items(); item += gridDim.x) {
    const Task task(q, item);
    if (!Backward && task.chunk == q.chunks - 1) continue;  // nothing comes after it
    const int tile = kSteps<A> * task.warps;
    const A *const own = shared + task.lane, *const states = shared + kB<kMaps> + task.warp * S;
    const Row<A, S> rate = rates<S>(q, task);
    A h[S], g[S], passed[S], total = 0;
    IRSTD_UNROLL
    for (int s = 0; s < S; ++s) h[s] = g[s] = 0, passed[s] = 1;
    const int64_t chunk = task.line() * q.chunks + task.chunk;
    Loads<A, kMaps, Backward> loads(q, task, grad, S * task.warps);
    for (int t0 = task.begin - tile; t0 < task.end; t0 += tile) {  // the first round only loads
      const int next = t0 + tile;
      if (next < task.end) loads.start(q, task, grad, next);
      if (t0 >= task.begin) {
        if (Backward && task.live) {
          const int64_t of_tile = chunk * to.tiles + (t0 - task.begin) / tile;
          IRSTD_UNROLL
          for (int s = 0; s < S; ++s) to.tile_h[state_offset<S>(of_tile, task, q.D) + s * q.D] = h[s];
          if (task.warp == 0) to.tile_total[of_tile * q.D + task.d] = total;
        }
        IRSTD_UNROLL_1
        for (int four = 0; four < tile; four += 4) {
          IRSTD_UNROLL
          for (int step = four; step < four + 4; ++step) {
            const int at = step * kStep<kMaps>;
            const A delta = own[at + kDelta], in = delta * own[at + kU], p = own[at + kP], dy = Backward ? own[at + kDy] : A(0);
            const Row<A, S> B = Row<A, S>::at(states + at), C = Backward ? Row<A, S>::at(states + at + kPitch) : B;
            total += delta;
            IRSTD_UNROLL
            for (int s = 0; s < S; ++s) {
              const A a = decay(delta * rate.v[s]);
              h[s] = a * h[s] + (in * B.v[s] + p);
              if (Backward) passed[s] *= a, g[s] += passed[s] * (C.v[s] * dy);
            }
          }
        }
      }
      __syncthreads();
      if (next < task.end) loads.finish(q, task, next, shared);
      __syncthreads();
    }
    if (!task.live || !to.h) continue;
    IRSTD_UNROLL
    for (int s = 0; s < S; ++s) {
      const int64_t at = state_offset<S>(chunk, task, q.D) + s * q.D;
      to.h[at] = h[s];
      if (Backward) to.g[at] = g[s];
    }
    if (task.warp == 0) to.total[chunk * q.D + task.d] = total;
  }
}

constexpr int kChainThreads = 128, kAhead = 8;  // chunks whose numbers are on their way at once

// From what every chunk gives to what every chunk gets, in place: carry(next) = exp(A total) carry + own, from the first chunk on for h (blockIdx.y = 0) and
// from the last one back for g. A thread a chain; exp(A total) replaces the product of the decays of a chunk. Reads and writes a state a chunk and chain.
template <class A> __global__ __launch_bounds__(kChainThreads, 4) void chunks_kernel(Problem<A> q, int states, Ends<A> ends) {
  const int64_t chains = q.B * kDirections * states * q.D;
  A* const values = blockIdx.y == 0 ? ends.h : ends.g;
  for (int64_t chain = blockIdx.x * int64_t(kChainThreads) + threadIdx.x; chain < chains; chain += gridDim.x * int64_t(kChainThreads)) {
    const int64_t d = chain % q.D, j = chain / q.D % states, line = chain / (q.D * states);
    const A rate = rate2_of(q.rate[(line % kDirections * q.D + d) * q.N + q.first_state + j]);
    A carry = 0;
    for (int c0 = 0; c0 < q.chunks; c0 += kAhead) {
      A own[kAhead], total[kAhead];
      auto chunk = [&](int i) { return line * q.chunks + (blockIdx.y == 0 ? c0 + i : q.chunks - 1 - c0 - i); };
      IRSTD_UNROLL
      for (int i = 0; i < kAhead; ++i) {
        own[i] = total[i] = 0;
        if (c0 + i < q.chunks) own[i] = values[(chunk(i) * states + j) * q.D + d], total[i] = ends.total[chunk(i) * q.D + d];
      }
      IRSTD_UNROLL
      for (int i = 0; i < kAhead; ++i) {
        if (c0 + i < q.chunks) values[(chunk(i) * states + j) * q.D + d] = carry;
        carry = decay(rate * total[i]) * carry + own[i];
      }
    }
  }
}

// h_j(t) = exp(delta A_j) h_j(t-1) + delta B_j u + p,  y_k(t) = sum_j C_j h_j + D_skip u (Eq. 5, 8) of one direction and chunk, from `starts` [B, K, chunks,
// states, D] or from 0. y: [B, K, D, H, W] of numbers; added to unless these are the first states.
// Per state and step 1 exponential and 4 operations (12 instructions with 16 states); reads u, p, delta, B, C once a direction, writes y_k.
template <class A, int S>
__global__ __launch_bounds__(kLanes * kMaxWarps, kBlocks<A>) void scan_kernel(Problem<A> q, const A* starts, Strided y) {
  constexpr int kMaps = 3;
  IRSTD_DYN_SHARED(A, shared);
  for (int64_t item = blockIdx.x; item < q.items(); item += gridDim.x) {
    const Task task(q, item);
    const int tile = kSteps<A> * task.warps;
    const A *const own = shared + task.lane, *const states = shared + kB<kMaps> + task.warp * S;
    A* const parts = shared + tile * kStep<kMaps>;  // [warps][tile][32]: sums over the states of a warp
    const Row<A, 4> skip = task.four_of(q.first_state == 0 ? q.skip : nullptr, q.D);
    char* const ys = y.line(task.b, task.k, task.quad_d);
    const Row<A, S> rate = rates<S>(q, task);
    A h[S];
    IRSTD_UNROLL
    for (int s = 0; s < S; ++s) h[s] = starts ? starts[state_offset<S>(task.line() * q.chunks + task.chunk, task, q.D) + s * q.D] : A(0);
    Loads<A, kMaps, true> loads(q, task, q.u, S * task.warps);
    for (int t0 = task.begin - tile; t0 < task.end; t0 += tile) {  // the first round only loads
      const int next = t0 + tile;
      if (next < task.end) loads.start(q, task, q.u, next);
      if (t0 >= task.begin) {
        IRSTD_UNROLL_1
        for (int four = 0; four < tile; four += 4) {
          IRSTD_UNROLL
          for (int step = four; step < four + 4; ++step) {
            const int at = step * kStep<kMaps>;
            const A delta = own[at + kDelta], in = delta * own[at + kU], p = own[at + kP];
            const Row<A, S> B = Row<A, S>::at(states + at), C = Row<A, S>::at(states + at + kPitch);
            A sum = 0;
            IRSTD_UNROLL
            for (int s = 0; s < S; ++s) {
              h[s] = decay(delta * rate.v[s]) * h[s] + (in * B.v[s] + p);
              sum += C.v[s] * h[s];
            }
            parts[(task.warp * tile + step) * kLanes + task.lane] = sum;
          }
        }
      }
      __syncthreads();
      if (t0 >= task.begin) {
        IRSTD_UNROLL
        for (int i = 0; i < kSteps<A> / 4; ++i) {  // the steps and channels that this thread has loaded, and loads again below
          const int step = i * 4 * task.warps + task.step, at = step * kLanes + task.quad, count = t0 + step < task.end ? task.count : 0;
          char* const out = ys + y.offset(spot_of(q, task.k, t0 + step));
          Row<A, 4> sum = skip * Row<A, 4>::at(shared + step * kStep<kMaps> + kU + task.quad);
          IRSTD_UNROLL_1
          for (int w = 0; w < task.warps; ++w) sum += Row<A, 4>::at(parts + w * tile * kLanes + at);
          if (q.first_state > 0) y.add_to(sum, out, count);
          y.write(out, count, sum);
        }
      }
      if (next < task.end) loads.finish(q, task, next, shared);
      __syncthreads();
    }
  }
}

constexpr int kMergeThreads = 256, kMergePixels = 32;  // as many pixels as lanes

// out = sum of the parts, by 32 pixels x 32 channels; through shared memory where pixels lie closer together than channels. Reads every part and writes out
// once: for y 4 numbers and an element a pixel and channel.
template <class A> __global__ __launch_bounds__(kMergeThreads, 4) void merge_kernel(Problem<A> q, Parts<A> parts, Strided out) {
  constexpr int kRows = kMergeThreads / kLanes;
  IRSTD_DYN_SHARED(A, shared);  // [pixels][32 + 1]
  const int lane = threadIdx.x % kLanes, row = threadIdx.x / kLanes, pixel_tiles = int(tile::ceil_div(q.L, kMergePixels));
  const bool straight = out.c <= out.w;
  const int64_t channel_tiles = q.channel_tiles();
  for (int64_t item = blockIdx.x; item < q.B * pixel_tiles * channel_tiles; item += gridDim.x) {
    const int64_t d0 = item % channel_tiles * kLanes, rest = item / channel_tiles, b = rest / pixel_tiles;
    const int pixel0 = int(rest % pixel_tiles) * kMergePixels;
    auto store = [&](int pixel, int64_t d, A value) {
      const uint32_t image_row = q.by_width(pixel);
      Element<A>::write(out.line(b, 0, d) + out.offset({image_row, pixel - image_row * q.by_width.by}), out.type, value);
    };
    IRSTD_UNROLL_4
    for (int i = row; i < kMergePixels; i += kRows) {
      if (pixel0 + i >= q.L || d0 + lane >= q.D) continue;
      const A sum = parts.at((b * q.L + pixel0 + i) * q.D + d0 + lane);
      if (straight) store(pixel0 + i, d0 + lane, sum);
      else shared[i * (kLanes + 1) + lane] = sum;
    }
    if (straight) continue;
    __syncthreads();
    IRSTD_UNROLL_1
    for (int i = row; i < kLanes; i += kRows)
      if (pixel0 + lane < q.L && d0 + i < q.D) store(pixel0 + lane, d0 + i, shared[lane * (kLanes + 1) + i]);
    __syncthreads();
  }
}

}  // namespace irstd::pixel_difference_scan
