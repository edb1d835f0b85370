// What the scan reads for one image and one vector of channels, copied in scan order a chunk of steps at a time: the recurrence then runs over dense
// memory whatever the direction and the strides, and nothing is transposed as a whole.
#pragma once
#include "common/simd_math.h"
#include "common/tile_lanes.h"
#include "ops/pixel_difference_scan/math.h"

namespace irstd::pixel_difference_scan {

constexpr int64_t kChunk = 32;  // steps: the backward pass keeps the states at the start of each

// One direction over an H x W image.
struct Walk {
  int k;
  int64_t H, W;
  int64_t steps() const { return H * W; }
  int64_t chunks() const { return (steps() + kChunk - 1) / kChunk; }
  int64_t length(int64_t chunk) const { return std::min(kChunk, steps() - chunk * kChunk); }

  // f(first step within the chunk, pixel it visits, steps that follow each other on one line).
  template <class F> IRSTD_INLINE void pieces(int64_t chunk, const F& f) const {
    const int64_t line = by_columns(k) ? H : W, first = chunk * kChunk, last = first + length(chunk);
    for (int64_t t = first, count; t < last; t += count) {
      count = std::min(last - t, line - t % line);
      f(t - first, pixel_at(k, t, H, W), count);
    }
  }
  // From one step on a line to the next, in elements.
  template <class T> int64_t stride(const Map<T>& map) const { return (by_columns(k) ? map.h : map.w) * (backwards(k) ? -1 : 1); }
};

// [steps][lanes] <- a vector of channels at every step.
template <class V> IRSTD_INLINE void read_channels(const Walk& walk, int64_t chunk, Map<const simd::lane_t<V>> map, int channels, simd::lane_t<V>* out) {
  const int64_t stride = walk.stride(map);
  walk.pieces(chunk, [&](int64_t t, Pixel at, int64_t count) __attribute__((always_inline)) {
    const auto* p = map.at(at.row, at.column);
    for (int64_t i = 0; i < count; ++i) simd::store(out + (t + i) * simd::lanes<V>, load_channels<V>(p + i * stride, channels));
  });
}

template <class V> IRSTD_INLINE void write_channels(const Walk& walk, int64_t chunk, const simd::lane_t<V>* in, Map<simd::lane_t<V>> map, int channels) {
  const int64_t stride = walk.stride(map);
  walk.pieces(chunk, [&](int64_t t, Pixel at, int64_t count) __attribute__((always_inline)) {
    auto* p = map.at(at.row, at.column);
    for (int64_t i = 0; i < count; ++i) store_channels(p + i * stride, simd::load<V>(in + (t + i) * simd::lanes<V>), channels);
  });
}

// map += in, or = in. Whole vectors only.
template <class V> IRSTD_INLINE void add_channels(const Walk& walk, int64_t chunk, const simd::lane_t<V>* in, Map<simd::lane_t<V>> map, bool first) {
  const int64_t stride = walk.stride(map);
  walk.pieces(chunk, [&](int64_t t, Pixel at, int64_t count) __attribute__((always_inline)) {
    auto* p = map.at(at.row, at.column);
    for (int64_t i = 0; i < count; ++i, p += stride) {
      const V v = simd::load<V>(in + (t + i) * simd::lanes<V>);
      simd::store(p, first ? v : V(simd::load<V>(p) + v));
    }
  });
}

// [steps][width] <- the first `count` states at every step (the innermost axis of B and C, stride `inner`), zeros beyond.
template <class A> IRSTD_INLINE void read_states(const Walk& walk, int64_t chunk, Map<const A> map, int64_t inner, int64_t count, int64_t width, A* out) {
  const int64_t stride = walk.stride(map);
  walk.pieces(chunk, [&](int64_t t, Pixel at, int64_t steps) __attribute__((always_inline)) {
    const A* p = map.at(at.row, at.column);
    for (int64_t i = 0; i < steps; ++i, p += stride) {
      A* row = out + (t + i) * width;
      if (inner == 1 && count == width) std::memcpy(row, p, width * sizeof(A));
      else for (int64_t j = 0; j < width; ++j) row[j] = j < count ? p[j * inner] : A(0);
    }
  });
}

// A call's tensors, addressed by image and direction; channels (states for B and C) innermost.
template <class T> struct Maps {
  T* p;
  int64_t b, k, inner, h, w;
  Map<T> at(int64_t image, int direction) const { return {p + image * b + direction * k, h, w}; }
};

template <class A> struct Call {
  int64_t D, H, W, N, n;
  bool softplus;
  A gamma;
  Maps<const A> u, delta, B, C;
  const A *rate, *skip, *bias, *weight;  // A [4 D, N], D_skip, delta_bias [4 D] or null, W [2, n, D] or null
};

// The state loop runs over whole blocks of `width` states that stay in registers, padded with states whose B and C are 0.
struct States {
  int64_t width, padded;
};
template <int Bytes> constexpr int widest = Bytes == 64 ? 16 : Bytes == 32 ? 8 : 4;
inline States states_of(int64_t N, int most) {
  const int64_t width = N == 1 ? 1 : N <= 4 ? 4 : N <= 8 && most >= 8 ? 8 : most;
  return {width, (N + width - 1) / width * width};
}

// f.operator()<Width>() for the run-time width.
template <int Most, class F> IRSTD_INLINE void with_width(int64_t width, const F& f) {
  if (width == 1) return f.template operator()<1>();
  if (Most == 4 || width == 4) return f.template operator()<4>();
  if constexpr (Most == 16)
    if (width == 16) return f.template operator()<16>();
  if constexpr (Most >= 8) f.template operator()<8>();
}

// Denormal states, decayed to nothing, would cost a hundred times their worth on some processors: flushed while a kernel runs.
struct FlushDenormals {
#if defined(__x86_64__)
  unsigned before = __builtin_ia32_stmxcsr();
  FlushDenormals() { __builtin_ia32_ldmxcsr(before | 0x8040); }
  ~FlushDenormals() { __builtin_ia32_ldmxcsr(before); }
#endif
};

// One chunk of one direction in scan order, and the constants of that direction.
template <class V> struct Chunk {
  using A = simd::lane_t<V>;
  static constexpr int lanes = simd::lanes<V>;
  const Call<A>& call;
  Walk walk;
  int64_t image, d;
  int channels;
  States states;
  Map<const A> p_map{};                 // the neighbour term, where there is one
  A *u, *delta, *slope, *p;             // [steps][lanes]; slope: of the softplus
  A *B, *C;                             // [steps][padded]
  A *rate2, *h;                         // [padded][lanes]: A log2(e); the states
  V skip{}, bias{};

  Chunk(const Call<A>& call, int64_t image, int64_t d, int channels, States states, Scratch<A>& memory)
      : call(call), walk{0, call.H, call.W}, image(image), d(d), channels(channels), states(states) {
    A* all = memory.take(kChunk * (4 * lanes + 2 * states.padded) + 2 * states.padded * lanes);
    auto take = [&](int64_t n) { A* at = all; all += n; return at; };
    u = take(kChunk * lanes), delta = take(kChunk * lanes), slope = take(kChunk * lanes), p = take(kChunk * lanes);
    rate2 = take(states.padded * lanes), h = take(states.padded * lanes);
    B = take(kChunk * states.padded), C = take(kChunk * states.padded);
  }

  IRSTD_INLINE void start(int k) {
    walk.k = k;
    const int64_t row = k * call.D + d;
    for (int64_t j = 0; j < states.padded; ++j)
      for (int l = 0; l < lanes; ++l) rate2[j * lanes + l] = j < call.N && l < channels ? bounded(call.rate[(row + l) * call.N + j] * A(kLog2e), kSteepest) : A(0);
    skip = call.skip ? load_channels<V>(call.skip + row, channels) : V{};
    bias = call.bias ? load_channels<V>(call.bias + row, channels) : V{};
    std::fill_n(h, states.padded * lanes, A(0));
  }

  // exp2 has a limit: rates and steps beyond these, infinite ones too, count as these, whose decay is 0 beside any step above 1e-6, or rate above 1e-5.
  static constexpr A kSteepest = sizeof(A) == 4 ? A(1e8) : A(1e20), kLongest = sizeof(A) == 4 ? A(1e7) : A(1e19);
  template <class X> IRSTD_INLINE static X bounded(X x, A most) {
    x = x > most ? X{} + most : x;
    return x < -most ? X{} - most : x;
  }
  IRSTD_INLINE static V time_of(V delta) { return bounded(delta, kLongest); }

  template <bool Slope> IRSTD_INLINE void read(int64_t chunk, bool with_C) {
    read_channels<V>(walk, chunk, call.u.at(image, 0).from(d), channels, u);
    read_channels<V>(walk, chunk, call.delta.at(image, walk.k).from(d), channels, delta);
    const int64_t steps = walk.length(chunk);
    for (int64_t t = 0; t < steps; ++t) {
      const V raw = simd::load<V>(delta + t * lanes) + bias;
      if constexpr (Slope) simd::store(slope + t * lanes, call.softplus ? simd::logistic(raw) : V{} + 1);
      simd::store(delta + t * lanes, call.softplus ? simd::softplus(raw) : raw);
    }
    if (call.weight) read_channels<V>(walk, chunk, p_map, lanes, p);
    read_states(walk, chunk, call.B.at(image, walk.k), call.B.inner, call.N, states.padded, B);
    if (with_C) read_states(walk, chunk, call.C.at(image, walk.k), call.C.inner, call.N, states.padded, C);
  }
};

}  // namespace irstd::pixel_difference_scan
