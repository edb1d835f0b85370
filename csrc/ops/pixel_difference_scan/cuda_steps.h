// What the scan kernels of pixel_difference_scan share: which steps and channels a block works on, and how their inputs reach shared memory.
// A block is 32 channels (lanes) of one image and direction times up to four warps, each with S states of every channel in registers. Its steps are those
// of one chunk, in image order throughout: a direction only decides which pixel a step visits.
#pragma once
#include "ops/pixel_difference_scan/cuda_strided.h"
#include "ops/pixel_difference_scan/math.h"

namespace irstd::pixel_difference_scan {

constexpr int kLanes = 32, kMaxWarps = 4, kQuads = kLanes / 4;
template <class A> constexpr int kSteps = sizeof(A) == 8 ? 4 : 8;  // of a tile, for each warp
constexpr int kPitch = 16;  // numbers of B, and of C, that a step has in shared memory: the most states of a block

// One launch over the states [first_state, first_state + S warps).
template <class A> struct Problem {
  int64_t B, D, N;
  int L, chunk, chunks;         // steps of a direction, of a chunk (the last one may be shorter); chunks of a direction
  Divide by_width, by_height;
  int first_state;
  Strided u, delta, Bs, Cs, p;  // p: the neighbour term, of numbers; data is null where there is none
  const A *rate, *skip, *bias;  // A [4 D, N], [4 D] or null
  bool softplus;

  __host__ __device__ int64_t channel_tiles() const { return tile::ceil_div(D, kLanes); }
  __host__ __device__ int64_t items() const { return B * chunks * kDirections * channel_tiles(); }
};

// What a block works on. Blocks that follow each other take the channels of the same steps, then the directions, of which 2 and 3 take their chunks from
// the last on: so 0 and 2, and 1 and 3, read the same pixels at about the same time.
struct Task {
  int b, d, channel_tile, k, chunk, begin, end, lane, warp, warps;
  bool live;  // whether there is a channel d
  // For what is loaded and stored, a thread is four channels of one step, of every 4 warps steps; `count` of the channels exist.
  int step, quad, quad_d, count;

  template <class A> __device__ __forceinline__ Task(const Problem<A>& p, int64_t item) {
    const int64_t tiles = p.channel_tiles(), rest = item / tiles, pass = rest / kDirections;
    channel_tile = int(item % tiles);
    k = int(rest % kDirections);
    b = int(pass / p.chunks);
    chunk = int(pass % p.chunks);
    if (backwards(k)) chunk = p.chunks - 1 - chunk;
    begin = chunk * p.chunk, end = p.L - begin < p.chunk ? p.L : begin + p.chunk;
    lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes, warps = blockDim.x / kLanes;
    d = channel_tile * kLanes + lane;
    live = d < p.D;
    if (!live) d = 0;
    step = threadIdx.x / kQuads, quad = threadIdx.x % kQuads * 4;
    quad_d = channel_tile * kLanes + quad;
    count = p.D - quad_d < 4 ? int(p.D) - quad_d : 4;
  }
  __device__ __forceinline__ int64_t line() const { return int64_t(b) * kDirections + k; }  // of [B, K, ...]
  // Four numbers of a [4 D] argument, 0 where it or the channel is absent.
  template <class A> __device__ __forceinline__ Row<A, 4> four_of(const A* argument, int64_t D) const {
    Row<A, 4> found;
    IRSTD_UNROLL
    for (int j = 0; j < 4; ++j) found.v[j] = argument && j < count ? argument[k * D + quad_d + j] : A(0);
    return found;
  }
};

// What direction k visits at step t: pixel_at of math.h without its divisions.
template <class A> __device__ __forceinline__ Spot spot_of(const Problem<A>& p, int k, int t) {
  const uint32_t along = backwards(k) ? p.L - 1 - t : t;
  const Divide& by = by_columns(k) ? p.by_height : p.by_width;
  const uint32_t line = by(along), place = along - line * by.by;
  return by_columns(k) ? Spot{place, line} : Spot{line, place};
}

// exp2 by the unit that has it: 2^-22.5 relative error, results below 2^-126 are 0.
__device__ __forceinline__ float decay(float x) {
#if defined(__CUDA_ARCH__)
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return exp2f(x);
#endif
}
__device__ __forceinline__ double decay(double x) { return exp2(x); }

__device__ __forceinline__ float reciprocal(float x) {
#if defined(__CUDA_ARCH__)
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return 1 / x;
#endif
}

// softplus(x) = max(x, 0) + log1p(e) with e = exp(-|x|), and its slope, the logistic function of x. log1p(e) = 2 atanh(s) with s = e / (2 + e) <= 1/3, by a
// polynomial in s^2: 2.5e-7 relative error for any x.
template <class A> struct Softplus { A value, slope; };
__device__ __forceinline__ Softplus<float> softplus(float x) {
  const float e = expf(-fabsf(x)), s = e * reciprocal(2 + e), z = s * s, r = reciprocal(1 + e);
  const float log1p_e = s * (2 + z * (0.66666639f + z * (0.40007561f + z * (0.28236619f + z * 0.26851490f))));
  return {fmaxf(x, 0.f) + log1p_e, x >= 0 ? r : e * r};
}
__device__ __forceinline__ Softplus<double> softplus(double x) {
  const double e = exp(-fabs(x));
  return {fmax(x, 0.) + log1p(e), (x >= 0 ? 1 : e) / (1 + e)};
}

// A tile of steps in shared memory: of every step the first Maps of these for 32 channels, then B and C of the states. Where something lies within a step
// is known to the compiler.
constexpr int kDelta = 0, kU = kLanes, kP = 2 * kLanes, kDy = 3 * kLanes, kSlope = 4 * kLanes;
template <int Maps> constexpr int kB = Maps * kLanes;
template <int Maps> constexpr int kStep = kB<Maps> + 2 * kPitch;  // numbers of a step; C comes kPitch after B

// A thread's part of a tile: loaded into registers, later stored to shared memory, so that a tile can be on its way while another is worked on. Where there
// is no step or channel all is 0, delta too: such a step leaves every state as it is and adds nothing.
template <class A, int Maps, bool WithC> struct Loads {
  static constexpr int kTurns = kSteps<A> / 4;
  const char *deltas, *us, *ps, *grads, *maps;  // of the thread's channels, or states: half of the threads load B, half C
  int state_count;
  Row<A, 4> bias;
  Four<A> delta[kTurns], u[kTurns], p[kTurns], dy[kTurns], states[kTurns];

  __device__ __forceinline__ Loads(const Problem<A>& q, const Task& task, const Strided& grad, int block_states)
      : deltas(q.delta.line(task.b, task.k, task.quad_d)), us(q.u.line(task.b, 0, task.quad_d)), ps(q.p.line(task.b, 0, task.quad_d)),
        grads(grad.line(task.b, 0, task.quad_d)), bias(task.four_of(q.bias, q.D)) {
    const int first = state_index(task) % 4 * 4, left = block_states - first;
    maps = (second_half(task) ? q.Cs : q.Bs).line(task.b, task.k, q.first_state + first);
    state_count = second_half(task) && !WithC ? 0 : left < 4 ? left : 4;
  }

  __device__ __forceinline__ void start(const Problem<A>& q, const Task& task, const Strided& grad, int t0) {
    IRSTD_UNROLL
    for (int i = 0; i < kTurns; ++i) {
      const int t = t0 + i * 4 * task.warps + task.step, count = t < task.end ? task.count : 0;
      const Spot at = spot_of(q, task.k, t);
      q.delta.read(delta[i], deltas + q.delta.offset(at), count);
      q.u.read(u[i], us + q.u.offset(at), count);
      q.p.read(p[i], ps + q.p.offset(at), q.p.data ? count : 0);
      if (Maps > 3) grad.read(dy[i], grads + grad.offset(at), count);
    }
    const Strided& map = second_half(task) ? q.Cs : q.Bs;
    IRSTD_UNROLL
    for (int i = 0; i < kTurns; ++i) {
      const int t = t0 + i * 4 * task.warps + state_index(task) / 4;
      map.read(states[i], maps + map.offset(spot_of(q, task.k, t)), t < task.end ? state_count : 0);
    }
  }

  __device__ __forceinline__ void finish(const Problem<A>& q, const Task& task, int t0, A* shared) const {
    IRSTD_UNROLL
    for (int i = 0; i < kTurns; ++i) {
      const int step = i * 4 * task.warps + task.step, count = t0 + step < task.end ? task.count : 0;
      A *const to = shared + step * kStep<Maps> + task.quad, *const maps_to = shared + (i * 4 * task.warps + state_index(task) / 4) * kStep<Maps> + kB<Maps>;
      Row<A, 4> value = delta[i].numbers(q.delta.type), slope;
      value += bias;
      IRSTD_UNROLL
      for (int j = 0; j < 4; ++j) {
        Softplus<A> found{value.v[j], 1};
        if (q.softplus) found = softplus(value.v[j]);
        value.v[j] = j < count ? found.value : A(0), slope.v[j] = found.slope;
      }
      value.put(to + kDelta);
      u[i].numbers(q.u.type).put(to + kU);
      p[i].numbers(q.p.type).put(to + kP);
      if (Maps > 3) dy[i].numbers(q.u.type).put(to + kDy);
      if (Maps > 4) slope.put(to + kSlope);
      states[i].numbers(q.Bs.type).put(maps_to + (second_half(task) ? kPitch : 0) + state_index(task) % 4 * 4);
    }
  }

 private:
  static_assert(kPitch == 16, "four fours of states a step: as many threads for B as for C");
  __device__ __forceinline__ static bool second_half(const Task& task) { return int(threadIdx.x) >= 16 * task.warps; }
  __device__ __forceinline__ static int state_index(const Task& task) { return threadIdx.x - (second_half(task) ? 16 * task.warps : 0); }
};

// A log2(e). Rates beyond this, infinite ones too, count as this: 0 times one is 0, and a step of delta 0 leaves every state as it is. NaN stays.
template <class A> constexpr A kSteepest = sizeof(A) == 4 ? A(1e8) : A(1e20);
template <class A> __device__ __forceinline__ A rate2_of(A rate) {
  rate *= A(kLog2e);
  return rate > kSteepest<A> ? kSteepest<A> : rate < -kSteepest<A> ? -kSteepest<A> : rate;
}

// Those of this thread's states.
template <int S, class A> __device__ __forceinline__ Row<A, S> rates(const Problem<A>& q, const Task& task) {
  Row<A, S> rate;
  IRSTD_UNROLL
  for (int s = 0; s < S; ++s) rate.v[s] = rate2_of(q.rate[(task.k * q.D + task.d) * q.N + q.first_state + task.warp * S + s]);
  return rate;
}

// [line, S warps states, D]: where the state of this thread's first state lies; the next one is D further.
template <int S> __device__ __forceinline__ int64_t state_offset(int64_t line, const Task& task, int64_t D) {
  return ((line * task.warps + task.warp) * S) * D + task.d;
}

}  // namespace irstd::pixel_difference_scan
