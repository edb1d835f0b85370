// The gradients of one direction, image and vector of channels. A first pass forward keeps the states at the start of every chunk; then the chunks are
// taken from the last to the first, and within each, a few states at a time: run forward once more with states and decays kept (in L1), then backward.
// Per vector, state and step: two decays, and in the reverse about 10 operations and 6 for the sums across channels that dB and dC are.
#pragma once
#include "ops/pixel_difference_scan/forward.h"

namespace irstd::pixel_difference_scan {

// What a direction leaves behind; rows of states are padded, channels whole vectors.
template <class A> struct Gradients {
  Maps<const A> grad;
  Maps<A> ddelta;
  A *dB, *dC;                  // [steps in scan order][padded] of this image and vector of channels
  A *dA, *dskip, *dbias;       // [padded][lanes], [lanes], [lanes]
  Map<A> du, dp;               // whole vectors, added to from the second direction on
};

template <class V> struct Reverse {
  using A = simd::lane_t<V>;
  static constexpr int lanes = simd::lanes<V>;
  Chunk<V>& c;
  int64_t padded;
  A *kept;                     // [chunks][padded][lanes]: the states at the start of each chunk
  A *carry;                    // [padded][lanes]: decay times gradient of the state, from the step after
  A *grad, *ddelta, *du, *dp;  // [steps][lanes]
  A *decay, *states;           // [kChunk (+ 1)][4][lanes] of the states in work
  A *dB, *dC;                  // [steps][padded]
  V dskip{}, dbias{};

  Reverse(Chunk<V>& c, Scratch<A>& memory) : c(c), padded(c.states.padded) {
    const int64_t block = kChunk * lanes;
    kept = memory.take(c.walk.chunks() * padded * lanes), carry = memory.take(padded * lanes);
    grad = memory.take(12 * block + 4 * lanes + 2 * kChunk * padded);
    ddelta = grad + block, du = ddelta + block, dp = du + block, decay = dp + block, states = decay + 4 * block;
    dB = states + 4 * block + 4 * lanes, dC = dB + kChunk * padded;
  }

  // States [first, first + Few) of the chunk whose states at its start are `from`.
  template <int Few, bool P, bool Near> IRSTD_INLINE void few(int64_t steps, int64_t first, const A* from, A* dA) const {
    {
      V h[Few];
#pragma GCC unroll 4
      for (int j = 0; j < Few; ++j) simd::store(states + j * lanes, h[j] = simd::load<V>(from + (first + j) * lanes));
      for (int64_t t = 0; t < steps; ++t) {
        const V delta = simd::load<V>(c.delta + t * lanes), in = delta * simd::load<V>(c.u + t * lanes), p = P ? simd::load<V>(c.p + t * lanes) : V{}, time = Near ? delta : c.time_of(delta);
        const A* B = c.B + t * 2 * padded + first;
#pragma GCC unroll 4
        for (int j = 0; j < Few; ++j) {
          const V a = c.template decay<Near>(time, first + j);
          h[j] = a * h[j] + (P ? V(in * B[j] + p) : V(in * B[j]));
          simd::store(decay + (t * Few + j) * lanes, a);
          simd::store(states + ((t + 1) * Few + j) * lanes, h[j]);
        }
      }
    }
    V g[Few], dAs[Few] = {};
#pragma GCC unroll 4
    for (int j = 0; j < Few; ++j) g[j] = simd::load<V>(carry + (first + j) * lanes);
    for (int64_t t = steps - 1; t >= 0; --t) {
      const V delta = simd::load<V>(c.delta + t * lanes), u = simd::load<V>(c.u + t * lanes), in = delta * u, dy = simd::load<V>(grad + t * lanes);
      const A *B = c.B + t * 2 * padded + first, *C = c.C + t * 2 * padded + first;
      V gB{}, rated{}, sum{}, across[2 * Few];
#pragma GCC unroll 4
      for (int j = 0; j < Few; ++j) {
        const V a = simd::load<V>(decay + (t * Few + j) * lanes), now = simd::load<V>(states + ((t + 1) * Few + j) * lanes);
        const V gj = dy * C[j] + g[j];
        const V decayed = gj * (a * simd::load<V>(states + (t * Few + j) * lanes));  // g hp
        across[j] = gj * in, across[Few + j] = dy * now;
        gB += gj * B[j];
        rated += decayed * simd::load<V>(c.rate2 + (first + j) * lanes);
        dAs[j] += delta * decayed;
        sum += gj;
        g[j] = a * gj;
      }
      sum_across<Few>(across, dB + t * padded + first, dC + t * padded + first);
      const V dd = rated * A(1 / kLog2e) + gB * u, dx = gB * delta;
      const bool more = first > 0;
      simd::store(ddelta + t * lanes, more ? V(simd::load<V>(ddelta + t * lanes) + dd) : dd);
      simd::store(du + t * lanes, more ? V(simd::load<V>(du + t * lanes) + dx) : V(dx + c.skip * dy));
      if constexpr (P) simd::store(dp + t * lanes, more ? V(simd::load<V>(dp + t * lanes) + sum) : sum);
    }
#pragma GCC unroll 4
    for (int j = 0; j < Few; ++j) {
      simd::store(carry + (first + j) * lanes, g[j]);
      simd::store(dA + (first + j) * lanes, V(simd::load<V>(dA + (first + j) * lanes) + dAs[j]));
    }
  }

  // Sums over the channels: of the first Few vectors into b, of the others into c.
  template <int Few> IRSTD_INLINE static void sum_across(const V* v, A* b, A* c) {
    constexpr int at_once = 2 * Few < lanes ? 2 * Few : lanes;
    A sums[2 * Few < lanes ? lanes : 2 * Few];
#pragma GCC unroll 8
    for (int i = 0; i < 2 * Few; i += at_once) simd::store(sums + i, simd::sums_across<at_once>(v + i));
    std::memcpy(b, sums, Few * sizeof(A));
    std::memcpy(c, sums + Few, Few * sizeof(A));
  }

  IRSTD_INLINE void start(int k, const Gradients<A>& out) {
    c.start(k);
    std::fill_n(carry, padded * lanes, A(0));
    std::fill_n(out.dA, padded * lanes, A(0));
    dskip = dbias = V{};
  }

  // One chunk forward, from the first to the last of them.
  IRSTD_INLINE void ahead(int64_t chunk) {
    std::memcpy(kept + chunk * padded * lanes, c.h, padded * lanes * sizeof(A));
    c.template read<true>(chunk);
    if (chunk + 1 < c.walk.chunks()) advance_all<false>(c, c.walk.length(chunk), (A*)nullptr);
  }

  // And backward, from the last to the first.
  IRSTD_INLINE void back(int64_t chunk, const Gradients<A>& out) {
    const int64_t steps = c.walk.length(chunk);
    const A* from = kept + chunk * padded * lanes;
    c.use(chunk);
    read_channels<V>(c.walk, chunk, out.grad.at(c.image, 0).from(c.d), c.channels, grad);
    with_width<4>(std::min<int64_t>(4, c.states.width), [&]<int Few>() __attribute__((always_inline)) {
      c.with_near([&]<bool Near>() __attribute__((always_inline)) {
        for (int64_t first = 0; first < padded; first += Few) {
          if (c.call.weight) few<Few, true, Near>(steps, first, from, out.dA);
          else few<Few, false, Near>(steps, first, from, out.dA);
        }
      });
    });
    V skips{}, biases{};  // of this chunk: sums of sums lose fewer digits
    for (int64_t t = 0; t < steps; ++t) {
      const V raw = simd::load<V>(ddelta + t * lanes) * simd::load<V>(c.slope + t * lanes);
      simd::store(ddelta + t * lanes, raw);
      biases += raw;
      skips += simd::load<V>(grad + t * lanes) * simd::load<V>(c.u + t * lanes);
    }
    dbias += biases, dskip += skips;
    write_channels<V>(c.walk, chunk, ddelta, out.ddelta.at(c.image, c.walk.k).from(c.d), c.channels);
    add_channels<V>(c.walk, chunk, du, out.du, c.walk.k == 0);
    if (c.call.weight) add_channels<V>(c.walk, chunk, dp, out.dp, c.walk.k == 0);
    std::memcpy(out.dB + chunk * kChunk * padded, dB, steps * padded * sizeof(A));
    std::memcpy(out.dC + chunk * kChunk * padded, dC, steps * padded * sizeof(A));
  }

  IRSTD_INLINE void finish(const Gradients<A>& out) const {
    simd::store(out.dskip, dskip);
    simd::store(out.dbias, dbias);
  }
};

// One direction of one image and one line of channels. prepare(first channel, Gradients&, Chunk&) says for each vector of it where the gradients go.
template <class V, class F> IRSTD_INLINE void backward_line(const Call<simd::lane_t<V>>& call, const InOrder<simd::lane_t<V>>& in_order, int64_t first, int64_t of_group, int64_t d,
                                                             int channels, int k, const F& prepare) {
  using A = simd::lane_t<V>;
  const FlushDenormals flushing;
  Scratch<A> memory;
  Scratch<Chunk<V>> chunk_memory;
  Scratch<Reverse<V>> reverse_memory;
  Chunk<V>* chunks = chunk_memory.take(of_line<V>);
  Reverse<V>* reverses = reverse_memory.take(of_line<V>);
  Gradients<A> out[of_line<V>];
  for_vectors<V>(d, channels, [&](int i, int64_t own, int count) __attribute__((always_inline)) {
    new (chunks + i) Chunk<V>(call, in_order, first, of_group, own, count, states_of(call.N, widest<sizeof(V)>), true, memory);
    new (reverses + i) Reverse<V>(chunks[i], memory);
    prepare(own, out[i], chunks[i]);
    reverses[i].start(k, out[i]);
  });
  const int64_t all = chunks[0].walk.chunks();
  for (int64_t number = 0; number < all; ++number) {
    chunks[0].foresee(number + 1);
    for_vectors<V>(d, channels, [&](int i, int64_t, int) __attribute__((always_inline)) { reverses[i].ahead(number); });
  }
  for (int64_t number = all - 1; number >= 0; --number) {
    prefetch(chunks[0].walk, number - 1, out[0].grad.at(first + of_group, 0).from(d));
    for_vectors<V>(d, channels, [&](int i, int64_t, int) __attribute__((always_inline)) { reverses[i].back(number, out[i]); });
  }
  for_vectors<V>(d, channels, [&](int i, int64_t, int) __attribute__((always_inline)) { reverses[i].finish(out[i]); });
}

}  // namespace irstd::pixel_difference_scan
