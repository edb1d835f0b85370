// The four passes of linear_cross_attention over blocks of tokens. phi is applied while a block is copied into a tile with the tokens innermost, so that
// what is done per token (denominators, the vectors of every product) needs no sum across lanes. Sums over tokens are kept per chunk of tokens.
#pragma once
#include "common/gemm.h"
#include "ops/linear_cross_attention/checks.h"
#include "ops/linear_cross_attention/math.h"
#include "ops/linear_cross_attention/tiles.h"

namespace irstd::linear_cross_attention {

// Tokens that are summed in one go: the unit of work and of rounding, whatever the number of threads.
constexpr int64_t kChunk = 256;
inline int64_t chunks(int64_t tokens) { return (tokens + kChunk - 1) / kChunk; }

// phi of a vector, and the next cache line of every block that will be needed soon.
template <int N> struct Phi {
  Lines soon[N];
  template <class V> IRSTD_INLINE V operator()(V x) {
#pragma GCC unroll 4
    for (int i = 0; i < N; ++i) soon[i].next();
    return phi(x, simd::exp(x));
  }
};
template <class... L> Phi(L...) -> Phi<sizeof...(L)>;

// S [d, ld] and z [d] of one head, or their gradients, in one piece of memory.
template <class A> struct States {
  A* p = nullptr;
  int64_t size = 0, z_at = 0;
  A* S(int64_t i) const { return p + i * size; }
  A* z(int64_t i) const { return S(i) + z_at; }
};

template <class T, class A> struct Kernels {
  Sizes s;
  A eps;
  Heads<const T> q, k, v, grad{};
  Heads<T> out{}, dq{}, dk{}, dv{};
  int64_t ld = 0;                            // e in whole vectors
  int64_t base = 0;                          // the heads in work start here; the states are numbered from it
  States<A> state{}, state_grad{};           // per head
  States<A> partial{}, partial_grad{};       // per chunk of keys, of queries

  // f(head from base on, chunk, first token, tokens, is first block of its chunk) for the blocks of the chunks [begin, end), then done(chunk).
  template <class Block, class Done> IRSTD_INLINE static void for_blocks(int64_t n, int64_t begin, int64_t end, Block f, Done done) {
    const int64_t per_head = chunks(n);
    for (int64_t chunk = begin; chunk < end; ++chunk) {
      const int64_t first = chunk % per_head * kChunk, last = std::min(n, first + kChunk);
      for (int64_t t = first; t < last; t += kBlock) f(chunk / per_head, chunk, t, std::min(kBlock, last - t), t == first);
      done(chunk);
    }
  }

  // Sums over tokens, [d, lanes]: each lane by itself until take().
  template <class V> struct LaneSums {
    static constexpr int n = simd::lanes<V>;
    A* p;
    int64_t d;
    IRSTD_INLINE void clear() const { std::fill_n(p, d * n, A(0)); }
    IRSTD_INLINE void add(int64_t f, V x) const { simd::store(p + f * n, V(simd::load<V>(p + f * n) + x)); }
    IRSTD_INLINE void take(A* sums) const {
      for (int64_t f = 0; f < d; ++f) sums[f] = simd::sum(simd::load<V>(p + f * n));
    }
  };

  // S = (S +) left right for left a tile [d, kBlock], right [tokens, e]. The block is summed by itself first: short sums keep more digits.
  struct Outer { A *tile, *sum; };
  Outer outer(Scratch<A>& memory) const { return {memory.take(kBlock * ld), memory.take(s.d * ld)}; }
  template <class V> IRSTD_INLINE void add_outer(const A* left, Grid<const T> right, int64_t tokens, Outer use, A* S, bool first) const {
    const Rows<const A> rows = rows_of<const T, const A>(right, s.e, use.tile, ld);
    if (rows.p == use.tile) pack<V>(right, tokens, s.e, use.tile, ld);
    gemm::product<V>({s.d, ld, tokens, left, kBlock, 1, rows.p, rows.ld, first ? S : use.sum, ld, false});
    if (!first)
      for (int64_t x = 0; x < s.d * ld; x += simd::lanes<V>) simd::store(S + x, V(simd::load<V>(S + x) + simd::load<V>(use.sum + x)));
  }

  // out = left^T S for left a tile [d, kBlock].
  template <class V> IRSTD_INLINE void inner(const A* left, const A* S, int64_t tokens, Plane<T> to, A* tile) const {
    if (to.feature == 1) {
      const Rows<A> rows = rows_of(to.by_token(), s.e, tile, ld);
      gemm::product<V>({tokens, ld, s.d, left, 1, kBlock, S, ld, rows.p, rows.ld, false});
      unpack<V>(rows, tokens, s.e, to.by_token());
    } else {
      const Rows<A> rows = rows_of(to.by_feature(), tokens, tile, kBlock);
      gemm::product<V>({s.e, kBlock, s.d, S, 1, ld, left, kBlock, rows.p, rows.ld, false});
      unpack<V>(rows, s.e, tokens, to.by_feature());
    }
  }
  int64_t result_size() const { return std::max(kBlock * ld, s.e * kBlock); }

  // The chunks' S and z.
  template <int Bytes> IRSTD_INLINE void states(int64_t begin, int64_t end) const {
    using V = simd::vec<A, Bytes>;
    constexpr int n = simd::lanes<V>;
    Scratch<A> memory;
    A* key = memory.take(s.d * kBlock);
    const Outer work = outer(memory);
    const LaneSums<V> z{memory.take(s.d * n), s.d};
    z.clear();
    for_blocks(s.M, begin, end, [&](int64_t head, int64_t chunk, int64_t t, int64_t tokens, bool first) __attribute__((always_inline)) {
      const Plane<const T> kt = k[base + head].from(t), vt = v[base + head].from(t);
      pack<V>(kt.by_feature(), s.d, tokens, key, kBlock, Phi{Lines(kt.from(kBlock), s.d), Lines(vt.from(kBlock), s.e)});
      for (int64_t f = 0; f < s.d; ++f) {
        V sum{};
#pragma GCC unroll 4
        for (int64_t j = 0; j < kBlock; j += n) sum += simd::load<V>(key + f * kBlock + j);
        z.add(f, sum);
      }
      add_outer<V>(key, vt.by_token(), tokens, work, partial.S(chunk), first);
    }, [&](int64_t chunk) __attribute__((always_inline)) {
      z.take(partial.z(chunk));
      z.clear();
    });
  }

  // 1 / D of a block. Where that would overflow or lose digits, phi and D are scaled by a power of two first.
  template <class V> struct Inverse {
    static constexpr int vectors = kBlock / simd::lanes<V>;
    V power[vectors], value[vectors];
  };
  template <class V> IRSTD_INLINE void invert(A* phi, const A* z, int64_t tokens, Inverse<V>& inverse) const {
    constexpr int n = simd::lanes<V>, vectors = Inverse<V>::vectors;
    constexpr A big = A(1ull << 50) * A(1ull << 50), small = A(1) / big;
    const V one = simd::splat<V>(1);
    V D[vectors], scaled{};
    for (int j = 0; j < vectors; ++j) D[j] = simd::splat<V>(eps);
    for (int64_t f = 0; f < s.d; ++f)
#pragma GCC unroll 4
      for (int j = 0; j < vectors; ++j) D[j] += z[f] * simd::load<V>(phi + f * kBlock + j * n);
    for (int64_t t = tokens; t < kBlock; ++t) D[t / n][t % n] = 1;
    for (int j = 0; j < vectors; ++j) {
      const V size = D[j] < 0 ? -D[j] : D[j];
      inverse.power[j] = size < small ? big + V{} : size > big ? small + V{} : one;
      inverse.value[j] = one / (D[j] * inverse.power[j]);
      scaled += inverse.power[j] - one;
    }
    if (simd::sum(scaled) != 0)
      for (int64_t f = 0; f < s.d; ++f)
        for (int j = 0; j < vectors; ++j) {
          A* x = phi + f * kBlock + j * n;
          simd::store(x, V(simd::load<V>(x) * inverse.power[j]));
        }
  }

  template <int Bytes> IRSTD_INLINE void attend(int64_t begin, int64_t end) const {
    using V = simd::vec<A, Bytes>;
    constexpr int n = simd::lanes<V>;
    Scratch<A> memory;
    A *query = memory.take(s.d * kBlock), *result = memory.take(result_size());
    for_blocks(s.N, begin, end, [&](int64_t head, int64_t, int64_t t, int64_t tokens, bool) __attribute__((always_inline)) {
      const Plane<const T> qt = q[base + head].from(t);
      const Plane<T> to = out[base + head].from(t);
      pack<V>(qt.by_feature(), s.d, tokens, query, kBlock, Phi{Lines(qt.from(kBlock), s.d), Lines(to, s.e)});
      Inverse<V> inverse;
      invert(query, state.z(head), tokens, inverse);
      for (int64_t f = 0; f < s.d; ++f)
#pragma GCC unroll 4
        for (int j = 0; j < inverse.vectors; ++j) {
          A* x = query + f * kBlock + j * n;
          simd::store(x, V(simd::load<V>(x) * inverse.value[j]));
        }
      inner<V>(query, state.S(head), tokens, to, result);
    }, [](int64_t) __attribute__((always_inline)) {});
  }

  // dq, and the chunks' dS and dz. With w_i = phi(q_i) / D_i and u_i = S G_i:  dq_i = phi' (u_i - z (w_i . u_i)) / D_i,  dz = -sum w_i (w_i . u_i).
  template <int Bytes> IRSTD_INLINE void query_gradients(int64_t begin, int64_t end) const {
    using V = simd::vec<A, Bytes>;
    constexpr int n = simd::lanes<V>;
    Scratch<A> memory;
    A *query = memory.take(s.d * kBlock), *g = memory.take(s.e * kBlock), *u = memory.take(s.d * kBlock);
    const Outer work = outer(memory);
    const LaneSums<V> dz{memory.take(s.d * n), s.d};
    dz.clear();
    for_blocks(s.N, begin, end, [&](int64_t head, int64_t chunk, int64_t t, int64_t tokens, bool first) __attribute__((always_inline)) {
      const A *S = state.S(head), *z = state.z(head);
      const Plane<const T> gt = grad[base + head].from(t), qt = q[base + head].from(t);
      const Plane<T> to = dq[base + head].from(t);
      pack<V>(gt.by_feature(), s.e, tokens, g, kBlock);
      gemm::product<V>({s.d, kBlock, s.e, S, ld, 1, g, kBlock, u, kBlock, false});
      pack<V>(qt.by_feature(), s.d, tokens, query, kBlock, Phi{Lines(qt.from(kBlock), s.d), Lines(gt.from(kBlock), s.e), Lines(to, s.d)});
      Inverse<V> inverse;
      invert(query, z, tokens, inverse);
      V dot[inverse.vectors]{};
      for (int64_t f = 0; f < s.d; ++f)
#pragma GCC unroll 4
        for (int j = 0; j < inverse.vectors; ++j) dot[j] += simd::load<V>(query + f * kBlock + j * n) * simd::load<V>(u + f * kBlock + j * n);
      for (int j = 0; j < inverse.vectors; ++j) dot[j] *= inverse.value[j];
      const Rows<A> rows = rows_of(to.by_feature(), tokens, u, kBlock);
      for (int64_t f = 0; f < s.d; ++f) {
        V sum{};
#pragma GCC unroll 4
        for (int j = 0; j < inverse.vectors; ++j) {
          A* x = query + f * kBlock + j * n;
          const V p = simd::load<V>(x), w = p * inverse.value[j];
          const V slope = p > inverse.power[j] ? inverse.power[j] : p;  // phi_slope, scaled as phi is
          simd::store(rows.p + f * rows.ld + j * n, V(slope * inverse.value[j] * (simd::load<V>(u + f * kBlock + j * n) - z[f] * dot[j])));
          simd::store(x, w);
          sum -= w * dot[j];
        }
        dz.add(f, sum);
      }
      unpack<V>(rows, s.d, tokens, to.by_feature());
      add_outer<V>(query, gt.by_token(), tokens, work, partial_grad.S(chunk), first);
    }, [&](int64_t chunk) __attribute__((always_inline)) {
      dz.take(partial_grad.z(chunk));
      dz.clear();
    });
  }

  template <int Bytes> IRSTD_INLINE void key_gradients(int64_t begin, int64_t end) const {
    using V = simd::vec<A, Bytes>;
    constexpr int n = simd::lanes<V>;
    Scratch<A> memory;
    A *key = memory.take(s.d * kBlock), *value = memory.take(s.e * kBlock), *dphi = memory.take(s.d * kBlock), *result = memory.take(result_size());
    for_blocks(s.M, begin, end, [&](int64_t head, int64_t, int64_t t, int64_t tokens, bool) __attribute__((always_inline)) {
      const A *dS = state_grad.S(head), *dz = state_grad.z(head);
      const Plane<const T> kt = k[base + head].from(t), vt = v[base + head].from(t);
      const Plane<T> to = dk[base + head].from(t), to_v = dv[base + head].from(t);
      pack<V>(vt.by_feature(), s.e, tokens, value, kBlock);
      gemm::product<V>({s.d, kBlock, s.e, dS, ld, 1, value, kBlock, dphi, kBlock, false});
      pack<V>(kt.by_feature(), s.d, tokens, key, kBlock,
              Phi{Lines(kt.from(kBlock), s.d), Lines(vt.from(kBlock), s.e), Lines(to, s.d), Lines(to_v, s.e)});
      const Rows<A> rows = rows_of(to.by_feature(), tokens, dphi, kBlock);
      for (int64_t f = 0; f < s.d; ++f)
#pragma GCC unroll 4
        for (int64_t j = 0; j < kBlock; j += n)
          simd::store(rows.p + f * rows.ld + j, V((simd::load<V>(dphi + f * kBlock + j) + dz[f]) * phi_slope(simd::load<V>(key + f * kBlock + j))));
      unpack<V>(rows, s.d, tokens, to.by_feature());
      inner<V>(key, dS, tokens, to_v, result);
    }, [](int64_t) __attribute__((always_inline)) {});
  }
};

}  // namespace irstd::linear_cross_attention
