// What the scan reads, copied in scan order a chunk of steps at a time: the recurrence then runs over dense memory whatever the direction and the strides,
// and no image is transposed. B and C are copied once for all channels, u and delta for each vector of channels.
#pragma once
#include <bit>
#include <limits>

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

// Asks for the memory of a chunk that is read later, a cache line at every step: at the strides of an image the processor does not foresee it.
template <class A> IRSTD_INLINE void prefetch(const Walk& walk, int64_t chunk, Map<const A> map) {
  if (chunk < 0 || chunk >= walk.chunks()) return;
  const int64_t stride = walk.stride(map);
  walk.pieces(chunk, [&](int64_t, Pixel at, int64_t steps) __attribute__((always_inline)) {
    const A* p = map.at(at.row, at.column);
    for (int64_t i = 0; i < steps; ++i, p += stride) __builtin_prefetch(p);
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

// The state loop runs over whole blocks of `width` states that stay in registers, padded with states whose A, B and C are 0: they add up the neighbour term
// and nothing reads them.
struct States {
  int64_t width, padded;
};
template <int Bytes> constexpr int widest = Bytes == 64 ? 16 : Bytes == 32 ? 8 : 4;
inline States states_of(int64_t N, int most) {
  const int64_t width = N == 1 ? 1 : N <= 4 ? 4 : N <= 8 && most >= 8 ? 8 : most;
  return {width, (N + width - 1) / width * width};
}

// B and C of a group of images in scan order, copied once for all of its channels: [image][direction][step][B, C][padded], zeros beyond N.
template <class A> struct InOrder {
  int64_t steps, padded;
  Scratch<A> memory;
  A* p;
  InOrder(int64_t images, int64_t steps, int64_t padded) : steps(steps), padded(padded), p(memory.take(images * kDirections * steps * 2 * padded)) {}
  const A* of(int64_t image, int k) const { return p + (image * kDirections + k) * steps * 2 * padded; }

  void fill(const Call<A>& call, int64_t first, int64_t images) {
    const int64_t chunks = Walk{0, call.H, call.W}.chunks(), rows = images * kDirections * chunks;
    torch::stable::parallel_for(0, rows, 64, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t chunk = i % chunks, image = i / chunks / kDirections;
        const Walk walk{int(i / chunks % kDirections), call.H, call.W};
        A* out = p + ((i / chunks) * steps + chunk * kChunk) * 2 * padded;
        copy(walk, chunk, call.B.at(first + image, walk.k), call.B.inner, call.N, out);
        copy(walk, chunk, call.C.at(first + image, walk.k), call.C.inner, call.N, out + padded);
      }
    });
  }
  void copy(const Walk& walk, int64_t chunk, Map<const A> map, int64_t inner, int64_t N, A* out) const {
    const int64_t stride = walk.stride(map);
    walk.pieces(chunk, [&](int64_t t, Pixel at, int64_t count) {
      const A* from = map.at(at.row, at.column);
      A* row = out + t * 2 * padded;
      for (int64_t i = 0; i < count; ++i, from += stride, row += 2 * padded) {
        if (inner == 1 && N == 16) std::memcpy(row, from, 16 * sizeof(A));
        else for (int64_t j = 0; j < N; ++j) row[j] = from[j * inner];
        for (int64_t j = N; j < padded; ++j) row[j] = A(0);
      }
    });
  }
};

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

// The largest magnitude seen, NaN counting as the largest of all: as integers, floating-point numbers without their sign are in order.
template <class V> struct Largest {
  using Int = std::conditional_t<sizeof(simd::lane_t<V>) == 4, int32_t, int64_t>;
  using I = simd::vec<Int, int(sizeof(V))>;
  I bits{};
  IRSTD_INLINE void see(V v) {
    const I x = (I)v & std::numeric_limits<Int>::max();
    bits = bits > x ? bits : x;
  }
  IRSTD_INLINE simd::lane_t<V> found() const {
    Int most = bits[0];
    for (int l = 1; l < simd::lanes<V>; ++l) most = std::max<Int>(most, bits[l]);
    return std::bit_cast<simd::lane_t<V>>(most);
  }
};

// One direction of an image and a vector of channels: what it reads, in scan order, and the constants. The chunks hold one place each, or all the same one.
template <class V> struct Chunk {
  using A = simd::lane_t<V>;
  static constexpr int lanes = simd::lanes<V>;
  const Call<A>& call;
  const InOrder<A>& in_order;
  const int64_t image, of_group, d;                // of_group: the image's number in in_order
  const int channels;
  const States states;
  Walk walk;
  int64_t places;
  Map<const A> p_map{};                            // the neighbour term, where there is one
  A *all_u, *all_delta, *all_slope, *all_p, *most; // [places][kChunk][lanes]; slope: of the softplus; most: the longest step of each chunk
  A *rate2, *h;                                    // [padded][lanes]: A log2(e); the states
  V skip{}, bias{};
  A steepest = 0;                                  // largest |rate2|
  // The chunk in work.
  A *u, *delta, *slope, *p;
  const A *B, *C;                                  // at steps of 2 padded
  bool near = false;                               // whether delta rate2 stays within exp2_reach

  Chunk(const Call<A>& call, const InOrder<A>& in_order, int64_t first, int64_t of_group, int64_t d, int channels, States states, bool keep, Scratch<A>& memory)
      : call(call), in_order(in_order), image(first + of_group), of_group(of_group), d(d), channels(channels), states(states), walk{0, call.H, call.W}, places(keep ? walk.chunks() : 1) {
    const int64_t plane = places * kChunk * lanes;
    all_u = memory.take((call.weight ? 4 : 3) * plane + 2 * states.padded * lanes + places);
    all_delta = all_u + plane, all_slope = all_delta + plane, rate2 = all_slope + plane, h = rate2 + states.padded * lanes, all_p = h + states.padded * lanes;
    most = all_p + (call.weight ? plane : 0);
  }

  IRSTD_INLINE void start(int k) {
    walk.k = k;
    const int64_t row = k * call.D + d;
    for (int64_t j = 0; j < states.padded; ++j)
      for (int l = 0; l < lanes; ++l) rate2[j * lanes + l] = j < call.N && l < channels ? bounded(call.rate[(row + l) * call.N + j] * A(kLog2e), kSteepest) : A(0);
    Largest<V> largest;
    for (int64_t j = 0; j < states.padded; ++j) largest.see(simd::load<V>(rate2 + j * lanes));
    steepest = largest.found();
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
  // exp(delta A), for a time from time_of(). Near: where all of the chunk is.
  template <bool Near> IRSTD_INLINE V decay(V time, int64_t state) const {
    const V x = time * simd::load<V>(rate2 + state * lanes);
    return Near ? simd::exp2_near(x) : simd::exp2(x);
  }
  // f.operator()<Near>(): the quick form only for the vectors that are worth their code.
  template <class F> IRSTD_INLINE void with_near(const F& f) const {
    if constexpr (sizeof(A) == 4 && sizeof(V) > 16)
      if (near) return f.template operator()<true>();
    f.template operator()<false>();
  }

  // Turns to a chunk that has been read.
  IRSTD_INLINE void use(int64_t chunk) {
    const int64_t place = places == 1 ? 0 : chunk, at = place * kChunk * lanes;
    u = all_u + at, delta = all_delta + at, slope = all_slope + at, p = all_p + at;
    B = in_order.of(of_group, walk.k) + chunk * kChunk * 2 * states.padded, C = B + states.padded;
    near = most[place] * steepest <= simd::exp2_reach<V>;
  }

  // Asks for a chunk that will be read, of as many channels as follow in a cache line.
  IRSTD_INLINE void foresee(int64_t chunk) const {
    prefetch(walk, chunk, call.u.at(image, 0).from(d));
    prefetch(walk, chunk, call.delta.at(image, walk.k).from(d));
  }

  template <bool Slope> IRSTD_INLINE void read(int64_t chunk) {
    const auto deltas = call.delta.at(image, walk.k).from(d);
    use(chunk);
    read_channels<V>(walk, chunk, call.u.at(image, 0).from(d), channels, u);
    if (call.weight) read_channels<V>(walk, chunk, p_map, lanes, p);
    Largest<V> longest;
    const int64_t stride = walk.stride(deltas);
    walk.pieces(chunk, [&](int64_t t, Pixel at, int64_t count) __attribute__((always_inline)) {
      const A* from = deltas.at(at.row, at.column);
      for (int64_t i = 0; i < count; ++i, ++t) {
        const V raw = load_channels<V>(from + i * stride, channels) + bias;
        if constexpr (Slope) simd::store(slope + t * lanes, call.softplus ? simd::logistic(raw) : V{} + 1);
        const V step = call.softplus ? simd::softplus(raw) : raw;
        simd::store(delta + t * lanes, step);
        longest.see(step);
      }
    });
    most[places == 1 ? 0 : chunk] = longest.found();
    use(chunk);
  }
};

}  // namespace irstd::pixel_difference_scan
