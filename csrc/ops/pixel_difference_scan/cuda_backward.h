// Backward kernels of pixel_difference_scan; read by cuda.cu.
#pragma once
#include "ops/pixel_difference_scan/cuda_forward.h"

namespace irstd::pixel_difference_scan {

// Where the gradients of one launch go.
template <class A> struct Reverse {
  Strided ddelta, dB, dC;
  int64_t images;     // 0; where there are several channel tiles B, and dB and dC are [channel tiles B, K, N, H, W] of numbers
  Strided du, dp;     // [B, K, D, H, W] of numbers; dp.data may be null
  Strided sum;        // the same, for ddelta where there are several launches
  A *dA;              // dense: [B, chunks, 4 D, N]
  A *dskip, *dbias;   // dense: [B, chunks, 4 D]
  bool last;          // of the launches over the states
};

// Sums over the lanes of a warp of Count numbers each, by halves: a lane sends the half that it does not go on with. After the masks Mask .. > Stop it has
// the sums of Count / 2^steps numbers, from number first_of on, in v[0], v[1], ..; once it is down to one, the sums are made in both lanes.
template <int Mask, class A> __device__ __forceinline__ A half_of(A low, A high, int lane) {
  const bool upper = lane & Mask;
  const A send = upper ? low : high, keep = upper ? high : low;
  return keep + __shfl_xor_sync(0xffffffffu, send, Mask);
}
template <int Mask, int Count, int Stop, class A> __device__ __forceinline__ void fold(A* v, int lane) {
  if constexpr (Mask > Stop) {
    if constexpr (Count == 1) {
      v[0] += __shfl_xor_sync(0xffffffffu, v[0], Mask);
      fold<Mask / 2, 1, Stop>(v, lane);
    } else {
      IRSTD_UNROLL
      for (int j = 0; j < Count / 2; ++j) v[j] = half_of<Mask>(v[j], v[j + Count / 2], lane);
      fold<Mask / 2, Count / 2, Stop>(v, lane);
    }
  }
}
template <int Mask, int Count, int Stop> __device__ __forceinline__ int first_of(int lane) {
  if constexpr (Mask > Stop && Count > 1) return (lane & Mask ? Count / 2 : 0) + first_of<Mask / 2, Count / 2, Stop>(lane);
  else return 0;
}

// Numbers of shared memory: the tile, states at the start of M steps, sums over the states of a warp, sums over steps.
template <class A, int S> inline int reverse_numbers(int warps) {
  return kSteps<A> * warps * kStep<5> + warps * S * warps * kLanes + warps * 3 * kSteps<A> * kLanes + 2 * warps * kLanes;
}

// g_j(t) = C_j dy + exp(delta(t+1) A_j) g_j(t+1) of one direction and chunk, tile by tile from its last one, and with hp_j(t) = exp(delta A_j) h_j(t-1)
//   dC_j = sum_d dy h_j    dB_j = sum_d g_j delta u    dp = sum_j g_j    X = sum_j g_j B_j    Y = sum_j g_j A_j hp_j    dA_j = sum_t g_j delta hp_j
//   ddelta = (u X + Y) logistic(delta_raw + delta_bias), which delta_bias sums    du = delta X + D_skip dy    dD_skip = sum_t dy u
// States at the start of a tile come from ends_kernel; they are taken forward through the tile, then M steps at a time once more with all states and decays
// kept, then back. Per state and step 1 exponential, and another for the tile where it has more than one warp; 43 instructions with 16 states, 8 of them for
// the sums over channels. Reads u, p, dy, delta, B, C and the states of every tile, writes ddelta, du, dp and 2 N numbers a step for dB and dC.
template <class A, int S>
__global__ __launch_bounds__(kLanes * kMaxWarps, 3) void reverse_kernel(Problem<A> q, Strided grad, Ends<A> from, Reverse<A> to) {
  constexpr int kMaps = 5, M = kSteps<A>, kNext = 16 / (2 * S);  // the first mask left after the sums of one step
  constexpr int kLeft = M > 2 * kNext ? M / (2 * kNext) : 1, kSame = M < 2 * kNext ? 2 * kNext / M : 1;
  IRSTD_DYN_SHARED(A, shared);
  for (int64_t item = blockIdx.x; item < q.items(); item += gridDim.x) {
    const Task task(q, item);
    const int lane = task.lane, warp = task.warp, warps = task.warps, tile = M * warps, threads = warps * kLanes;
    A *const own = shared + lane, *const states = shared + kB<kMaps> + warp * S;
    A* const kept = shared + tile * kStep<kMaps>;      // [warps][S][threads]
    A* const sums = kept + warps * S * threads;        // [warps][3][M][32]
    A* const totals = sums + warps * 3 * M * kLanes;   // [2][threads], of dD_skip and ddelta_bias: registers are scarce
    auto chunk = [&] { return task.line() * q.chunks + task.chunk; };
    const bool first = q.first_state == 0;
    const Row<A, S> rate = rates<S>(q, task);
    A carry[S], dA[S];
    IRSTD_UNROLL
    for (int s = 0; s < S; ++s) carry[s] = from.g && task.live ? from.g[state_offset<S>(chunk(), task, q.D) + s * q.D] : A(0), dA[s] = 0;

    totals[threadIdx.x] = totals[threads + threadIdx.x] = 0;
    for (int of_chunk = (task.end - task.begin - 1) / tile; of_chunk >= 0; --of_chunk) {
      const int t0 = task.begin + of_chunk * tile;
      const int64_t of_tile = chunk() * from.tiles + of_chunk;
      __syncthreads();
      {
        Loads<A, kMaps, true> loads(q, task, grad, S * warps);
        loads.start(q, task, grad, t0);
        loads.finish(q, task, t0, shared);
      }
      A h[S];
      const A total = from.tile_total[of_tile * q.D + task.d];
      IRSTD_UNROLL
      for (int s = 0; s < S; ++s) {
        h[s] = task.live ? from.tile_h[state_offset<S>(of_tile, task, q.D) + s * q.D] : A(0);
        if (from.h && task.live) h[s] += decay(rate.v[s] * total) * from.h[state_offset<S>(chunk(), task, q.D) + s * q.D];
      }
      __syncthreads();
      IRSTD_UNROLL_1
      for (int part = 0; part < warps; ++part) {
        IRSTD_UNROLL
        for (int s = 0; s < S; ++s) kept[(part * S + s) * threads + threadIdx.x] = h[s];
        if (part == warps - 1) break;
        IRSTD_UNROLL
        for (int i = 0; i < M; ++i) {
          const int at = (part * M + i) * kStep<kMaps>;
          const A delta = own[at + kDelta], in = delta * own[at + kU], p = own[at + kP];
          const Row<A, S> B = Row<A, S>::at(states + at);
          IRSTD_UNROLL
          for (int s = 0; s < S; ++s) h[s] = decay(delta * rate.v[s]) * h[s] + (in * B.v[s] + p);
        }
      }

      IRSTD_UNROLL_1
      for (int part = warps - 1; part >= 0; --part) {
        A before[M][S], a[M][S], across[M];
        IRSTD_UNROLL
        for (int s = 0; s < S; ++s) h[s] = kept[(part * S + s) * threads + threadIdx.x];
        IRSTD_UNROLL
        for (int i = 0; i < M; ++i) {
          const int at = (part * M + i) * kStep<kMaps>;
          const A delta = own[at + kDelta], in = delta * own[at + kU], p = own[at + kP];
          const Row<A, S> B = Row<A, S>::at(states + at);
          IRSTD_UNROLL
          for (int s = 0; s < S; ++s) {
            before[i][s] = h[s], a[i][s] = decay(delta * rate.v[s]);
            h[s] = a[i][s] * h[s] + (in * B.v[s] + p);
          }
        }
        IRSTD_UNROLL
        for (int i = M - 1; i >= 0; --i) {  // h is the state after step i
          const int at = (part * M + i) * kStep<kMaps>;
          const A delta = own[at + kDelta], in = delta * own[at + kU], dy = own[at + kDy];
          const Row<A, S> B = Row<A, S>::at(states + at), C = Row<A, S>::at(states + at + kPitch);
          A products[2 * S], X = 0, Y = 0, Q = 0;  // dB, then dC
          IRSTD_UNROLL
          for (int s = 0; s < S; ++s) {
            const A g = C.v[s] * dy + carry[s], ghp = g * (a[i][s] * before[i][s]);
            products[s] = g * in, products[S + s] = dy * h[s];
            X += g * B.v[s], Y += ghp * rate.v[s], Q += g;
            dA[s] += ghp * delta;
            carry[s] = a[i][s] * g;
            h[s] = before[i][s];
          }
          fold<16, 2 * S, kNext>(products, lane);
          across[i] = products[0];
          if (i < M / 2) across[i] = half_of<kNext>(across[i], across[i + M / 2], lane);  // the first half-sum over steps, so that fewer wait
          A* const sum = sums + (warp * 3 * M + i) * kLanes + lane;
          sum[0] = X, sum[M * kLanes] = Y, sum[2 * M * kLanes] = Q;
        }
        fold<kNext / 2, M / 2, 0>(across, lane);
        if (lane % kSame == 0) {
          const int which = first_of<16, 2 * S, kNext>(lane), i0 = first_of<kNext, M, 0>(lane);  // of which product, from which step on
          const Strided& map = which < S ? to.dB : to.dC;
          char* const line = map.line(task.channel_tile * to.images + task.b, task.k, q.first_state + warp * S + which % S);
          IRSTD_UNROLL
          for (int i = 0; i < kLeft; ++i) {
            const int t = t0 + part * M + i0 + i;
            if (t < task.end) Element<A>::write(line + map.offset(spot_of(q, task.k, t)), map.type, across[i]);
          }
        }
        __syncthreads();
        IRSTD_UNROLL_1
        for (int i = task.step; i < M; i += threads / kQuads) {
          const int step = part * M + i, count = t0 + step < task.end ? task.count : 0;
          A* const four = shared + step * kStep<kMaps> + task.quad;
          const Spot pixel = spot_of(q, task.k, t0 + step);
          Row<A, 4> X{}, Y{}, Q{};
          IRSTD_UNROLL_1
          for (int w = 0; w < warps; ++w) {
            const A* const sum = sums + (w * 3 * M + i) * kLanes + task.quad;
            X += Row<A, 4>::at(sum), Y += Row<A, 4>::at(sum + M * kLanes), Q += Row<A, 4>::at(sum + 2 * M * kLanes);
          }
          const Row<A, 4> delta = Row<A, 4>::at(four + kDelta), u = Row<A, 4>::at(four + kU), dy = Row<A, 4>::at(four + kDy);
          Row<A, 4> ddelta = u * X, du = delta * X;
          IRSTD_UNROLL
          for (int j = 0; j < 4; ++j) ddelta.v[j] += Y.v[j] * A(1 / kLog2e);  // Y was made with A log2(e)
          ddelta = ddelta * Row<A, 4>::at(four + kSlope);
          (count > 0 ? ddelta : Row<A, 4>{}).put(four + kSlope);  // for the sum over steps
          const int64_t line = to.du.line(task.b, task.k, task.quad_d) - to.du.data + to.du.offset(pixel);  // of du, and what is laid out the same
          if (first) {
            du += task.four_of(q.skip, q.D) * dy;
          } else {
            to.sum.add_to(ddelta, to.sum.data + line, count);
            to.du.add_to(du, to.du.data + line, count);
            if (to.dp.data) to.dp.add_to(Q, to.dp.data + line, count);
          }
          if (to.last) to.ddelta.write(to.ddelta.line(task.b, task.k, task.quad_d) + to.ddelta.offset(pixel), count, ddelta);
          else to.sum.write(to.sum.data + line, count, ddelta);
          to.du.write(to.du.data + line, count, du);
          if (to.dp.data) to.dp.write(to.dp.data + line, count, Q);
        }
        __syncthreads();
      }
      A of_skip = 0, of_bias = 0;
      IRSTD_UNROLL
      for (int i = 0; i < M; ++i) {
        const int at = (warp * M + i) * kStep<kMaps>;
        of_skip += own[at + kDy] * own[at + kU], of_bias += own[at + kSlope];
      }
      totals[threadIdx.x] += of_skip, totals[threads + threadIdx.x] += of_bias;
    }

    __syncthreads();
    const int64_t row = (int64_t(task.b) * q.chunks + task.chunk) * kDirections * q.D + task.k * q.D + task.d;
    if (task.live) {
      IRSTD_UNROLL
      for (int s = 0; s < S; ++s) to.dA[row * q.N + q.first_state + warp * S + s] = dA[s];
      if (warp == 0) {
        A of_skip = 0, of_bias = 0;
        IRSTD_UNROLL_1
        for (int w = 0; w < warps; ++w) of_skip += totals[w * kLanes + lane], of_bias += totals[threads + w * kLanes + lane];
        if (first && to.dskip) to.dskip[row] = of_skip;
        if (to.dbias) to.dbias[row] = of_bias;
      }
    }
    __syncthreads();  // the next item writes over the totals
  }
}

constexpr int kMapThreads = 256, kMapPixels = 32;

// dB and dC [B, K, N, H, W] = sum over the channel tiles of `maps` [channel tiles, B, K, H, W, 2 N], by 32 pixels. Reads every number and writes every
// element once.
template <class A> __global__ __launch_bounds__(kMapThreads) void maps_kernel(Problem<A> q, const A* maps, Strided dB, Strided dC) {
  const int64_t lines = q.B * kDirections, pieces = tile::ceil_div(q.L, kMapPixels), per_pixel = 2 * q.N;
  for (int64_t item = blockIdx.x; item < lines * pieces; item += gridDim.x) {
    const int64_t line = item / pieces;
    const int first = int(item % pieces) * kMapPixels, pixels = q.L - first < kMapPixels ? q.L - first : kMapPixels;
    for (uint32_t x = threadIdx.x; x < pixels * per_pixel; x += kMapThreads) {
      A sum = 0;
      for (int64_t i = 0; i < q.channel_tiles(); ++i) sum += maps[((i * lines + line) * q.L + first) * per_pixel + x];
      const uint32_t place = x / uint32_t(per_pixel), j = x - place * uint32_t(per_pixel), row = q.by_width(first + place);
      const bool of_B = j < q.N;
      const Strided& to = of_B ? dB : dC;
      Element<A>::write(to.line(line / kDirections, int(line % kDirections), of_B ? j : j - q.N) + to.offset({row, first + place - row * q.by_width.by}), to.type, sum);
    }
  }
}

}  // namespace irstd::pixel_difference_scan
