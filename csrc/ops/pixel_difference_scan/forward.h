// The recurrence forward. Per vector of channels, state and step: 9 operations for the decay (multiply, 3 for the reduction, 5 for the polynomial; the
// clamps and the exponent run beside them) and 3 fused multiply-adds; the states of a block stay in registers over a chunk.
#pragma once
#include "ops/pixel_difference/stencil.h"
#include "ops/pixel_difference_scan/walk.h"

namespace irstd::pixel_difference_scan {

// Steps [0, steps) of the states [first, first + Width). y [steps][lanes] gets their sum over j of C h (added where `more`), without it only h moves on.
template <int Width, bool P, bool Y, bool Near, class V> IRSTD_INLINE void advance(const Chunk<V>& c, int64_t steps, int64_t first, simd::lane_t<V>* y, bool more) {
  constexpr int lanes = simd::lanes<V>, parts = Width < 4 ? Width : 4;
  using A = simd::lane_t<V>;
  A* state = c.h + first * lanes;
  V h[Width];
#pragma GCC unroll 16
  for (int j = 0; j < Width; ++j) h[j] = simd::load<V>(state + j * lanes);
  for (int64_t t = 0; t < steps; ++t) {
    const V delta = simd::load<V>(c.delta + t * lanes), u = simd::load<V>(c.u + t * lanes), du = delta * u, p = P ? simd::load<V>(c.p + t * lanes) : V{}, time = Near ? delta : c.time_of(delta);
    const A *B = c.B + t * 2 * c.states.padded + first, *C = c.C + t * 2 * c.states.padded + first;
    V sum[parts] = {};
#pragma GCC unroll 16
    for (int j = 0; j < Width; ++j) {
      h[j] = c.template decay<Near>(time, first + j) * h[j] + (P ? V(du * B[j] + p) : V(du * B[j]));
      if constexpr (Y) sum[j % parts] += C[j] * h[j];
    }
    if constexpr (Y) {
      V all = sum[0];
      for (int i = 1; i < parts; ++i) all += sum[i];
      simd::store(y + t * lanes, more ? V(simd::load<V>(y + t * lanes) + all) : V(all + c.skip * u));
    }
  }
#pragma GCC unroll 16
  for (int j = 0; j < Width; ++j) simd::store(state + j * lanes, h[j]);
}

template <bool Y, class V> IRSTD_INLINE void advance_all(const Chunk<V>& c, int64_t steps, simd::lane_t<V>* y) {
  with_width<widest<sizeof(V)>>(c.states.width, [&]<int Width>() __attribute__((always_inline)) {
    c.with_near([&]<bool Near>() __attribute__((always_inline)) {
      for (int64_t first = 0; first < c.states.padded; first += Width) {
        if (c.call.weight) advance<Width, true, Y, Near>(c, steps, first, y, first > 0);
        else advance<Width, false, Y, Near>(c, steps, first, y, first > 0);
      }
    });
  });
}

// The neighbour term of a tile: [H, W, lanes] in `memory`.
template <class V> IRSTD_INLINE void neighbour_term(const Call<simd::lane_t<V>>& call, int64_t image, int64_t d, int channels, Map<simd::lane_t<V>> p) {
  using A = simd::lane_t<V>;
  Scratch<A> memory;
  Scratch<int64_t> places;
  const auto u = in_lanes<V>(call.u.at(image, 0).from(d), call.H, call.W, channels, memory);
  pixel_difference::with_stencil<V>(call.n, [&](const auto& stencil) __attribute__((always_inline)) { stencil.forward(p); }, call.H, call.W, call.n, u, call.weight + d, call.D,
                                    channels, call.gamma, memory, places);
}

// Up to a cache line of channels: the vectors of it take turns at every chunk, so that no line is fetched twice.
template <class V> constexpr int of_line = 64 / sizeof(V);
// f(number, first channel, channels) for the vectors of a line.
template <class V, class F> IRSTD_INLINE void for_vectors(int64_t d, int channels, const F& f) {
  constexpr int lanes = simd::lanes<V>;
  for (int i = 0; i * lanes < channels; ++i) f(i, d + i * lanes, std::min(lanes, channels - i * lanes));
}

// y of one image and one line of channels: the four directions, one after the other.
template <class V> IRSTD_INLINE void forward_line(const Call<simd::lane_t<V>>& call, const InOrder<simd::lane_t<V>>& in_order, const Maps<simd::lane_t<V>>& out, int64_t first,
                                                   int64_t of_group, int64_t d, int channels) {
  using A = simd::lane_t<V>;
  constexpr int lanes = simd::lanes<V>;
  const Map<A> to = out.at(first + of_group, 0);
  Scratch<A> memory;
  Scratch<Chunk<V>> chunk_memory;
  Chunk<V>* chunks = chunk_memory.take(of_line<V>);
  Map<A> y[of_line<V>];
  for_vectors<V>(d, channels, [&](int i, int64_t own, int count) __attribute__((always_inline)) {
    auto& chunk = *new (chunks + i) Chunk<V>(call, in_order, first, of_group, own, count, states_of(call.N, widest<sizeof(V)>), false, memory);
    if (call.weight) {
      const Map<A> p{memory.take(call.H * call.W * lanes), call.W * lanes, lanes};
      neighbour_term<V>(call, chunk.image, own, count, p);
      chunk.p_map = {p.p, p.h, p.w};
    }
    y[i] = for_lanes<V>(to.from(own), call.H, call.W, count, memory);
  });
  const FlushDenormals flushing;  // only now: the deviation of the neighbour term needs its smallest squares
  A* part = memory.take(kChunk * lanes);
  const Walk all{0, call.H, call.W};
  for (int k = 0; k < kDirections; ++k) {
    for_vectors<V>(d, channels, [&](int i, int64_t, int) __attribute__((always_inline)) { chunks[i].start(k); });
    for (int64_t number = 0; number < all.chunks(); ++number) {
      chunks[0].foresee(number + 1);
      for_vectors<V>(d, channels, [&](int i, int64_t, int) __attribute__((always_inline)) {
        auto& chunk = chunks[i];
        chunk.template read<false>(number);
        advance_all<true>(chunk, all.length(number), part);
        add_channels<V>(chunk.walk, number, part, y[i], k == 0);
      });
    }
  }
  for_vectors<V>(d, channels, [&](int i, int64_t own, int count) __attribute__((always_inline)) { to_image<V>(y[i], to.from(own), call.H, call.W, count); });
}

}  // namespace irstd::pixel_difference_scan
