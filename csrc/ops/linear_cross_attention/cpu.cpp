// linear_cross_attention on the CPU. Tokens come in blocks of 64, phi applied while a block is copied into a tile in L1 with the tokens innermost, so
// that everything done per token (denominators, the products' sides that are read vector by vector) needs no horizontal sum. Sums over tokens are made
// per chunk of 256 tokens and then over the chunks, in order: the result does not depend on how chunks are spread over threads.
#include "common/dispatch.h"
#include "common/gemm.h"
#include "ops/linear_cross_attention/checks.h"
#include "ops/linear_cross_attention/math.h"
#include "ops/linear_cross_attention/tiles.h"

namespace irstd::linear_cross_attention {
namespace {

constexpr int64_t kChunk = 256;
constexpr int64_t kLine = 64;  // bytes: states start on, and have rows of, whole vectors

struct Phi {
  template <class V> IRSTD_INLINE V operator()(V x) const { return phi(x, simd::exp(x)); }
};

// 1 / D in two factors: one alone would overflow where D is subnormal. x / D = x * power * rest.
template <class V> struct Inverse { V power, rest; };
template <class V> IRSTD_INLINE Inverse<V> invert(V D) {
  using A = simd::lane_t<V>;
  constexpr A big = A(1ull << 62) * A(1ull << 38), small = A(1) / big;  // 2^100
  const V size = D < 0 ? -D : D, one = simd::splat<V>(1);
  const V power = size < small ? big + V{} : size > big ? small + V{} : one;
  return {power, one / (D * power)};
}

template <class T, class A> struct Attention {
  Sizes s;
  A eps;
  Heads<const T> q, k, v, grad{};
  Heads<T> out{}, dq{}, dk{}, dv{};
  int64_t ld = 0, state_size = 0;  // a state is S, d rows of ld, and then z; the same for their gradients
  A *partial = nullptr, *state = nullptr, *partial_grad = nullptr, *state_grad = nullptr;

  static int64_t chunks(int64_t tokens) { return (tokens + kChunk - 1) / kChunk; }

  // f(head, chunk, first token, tokens) for blocks of chunks [begin, end) ... see cpu.cpp
  struct Unit { int64_t head, first, last; };
  static Unit unit(int64_t index, int64_t n) {
    const int64_t c = chunks(n), first = index % c * kChunk;
    return {index / c, first, std::min(n, first + kChunk)};
  }

  // S (+)= left right^T over a block of tokens: left is a tile [d][tokens], right any plane [tokens, e].
  template <class V> IRSTD_INLINE void add_outer(const A* left, int64_t step_d, int64_t step_token, Plane<const T> right, int64_t tokens, A* tile, A* S, bool add) const {
    if constexpr (std::is_same_v<A, T>)
      if (right.feature == 1 && s.e % simd::lanes<V> == 0)
        return gemm::product<V>({s.d, ld, tokens, left, step_d, step_token, right.p, right.token, S, ld, add});
    pack<V>(right.p, right.token, right.feature, tokens, s.e, tile, ld);
    gemm::product<V>({s.d, ld, tokens, left, step_d, step_token, tile, ld, S, ld, add});
  }

  template <class V> IRSTD_INLINE void add_lanes(const A* lanes, A* z, A sign) const {
    for (int64_t f = 0; f < s.d; ++f) z[f] = sign * simd::sum(simd::load<V>(lanes + f * simd::lanes<V>));
  }

  // S and z of the chunks [begin, end) of all heads from `base` on.
  template <int Bytes> IRSTD_INLINE void states(int64_t base, int64_t begin, int64_t end) const {
    using V = simd::vec<A, Bytes>;
    constexpr int n = simd::lanes<V>;
    Scratch<A> memory;
    A *key = memory.take(s.d * kBlock), *value = memory.take(kBlock * ld), *lanes = memory.take(s.d * n);
    for (int64_t i = begin; i < end; ++i) {
      const Unit u = unit(i, s.M);
      A *S = partial + i * state_size, *z = S + s.d * ld;
      std::fill_n(lanes, s.d * n, A(0));
      for (int64_t t = u.first; t < u.last; t += kBlock) {
        const int64_t tokens = std::min(kBlock, u.last - t);
        const auto kt = k[base + u.head].from(t);
        prefetch(kt.from(kBlock), kBlock, s.d);
        prefetch(v[base + u.head].from(t + kBlock), kBlock, s.e);
        pack<V>(kt.p, kt.feature, kt.token, s.d, tokens, key, kBlock, Phi{});
        for (int64_t f = 0; f < s.d; ++f) {
          V sum = simd::load<V>(lanes + f * n);
          for (int64_t j = 0; j < tokens; j += n) sum += simd::load<V>(key + f * kBlock + j);
          simd::store(lanes + f * n, sum);
        }
        add_outer<V>(key, kBlock, 1, v[base + u.head].from(t), tokens, value, S, t > u.first);
      }
      add_lanes<V>(lanes, z, 1);
    }
  }

  // D of a block: one vector per `lanes` tokens; phi is a tile [d][kBlock].
  template <class V> IRSTD_INLINE void denominators(const A* phi, const A* z, int64_t tokens, Inverse<V>* inverse) const {
    constexpr int n = simd::lanes<V>, vectors = kBlock / n;
    V D[vectors];
    for (int j = 0; j < vectors; ++j) D[j] = simd::splat<V>(eps);
    for (int64_t f = 0; f < s.d; ++f)
#pragma GCC unroll 4
      for (int j = 0; j < vectors; ++j) D[j] += z[f] * simd::load<V>(phi + f * kBlock + j * n);
    for (int64_t t = tokens; t < round_up(tokens, n); ++t) D[t / n][t % n] = 1;
    for (int j = 0; j < vectors; ++j) inverse[j] = invert(D[j]);
  }

  template <int Bytes> IRSTD_INLINE void attend(int64_t base, int64_t begin, int64_t end) const {
    using V = simd::vec<A, Bytes>;
    constexpr int n = simd::lanes<V>, vectors = kBlock / n;
    Scratch<A> memory;
    A *query = memory.take(s.d * kBlock), *result = memory.take(std::max(kBlock * ld, s.e * kBlock));
    for (int64_t i = begin; i < end; ++i) {
      const Unit u = unit(i, s.N);
      const A *S = state + u.head * state_size, *z = S + s.d * ld;
      for (int64_t t = u.first; t < u.last; t += kBlock) {
        const int64_t tokens = std::min(kBlock, u.last - t);
        const auto qt = q[base + u.head].from(t);
        const auto ot = out[base + u.head].from(t);
        prefetch(qt.from(kBlock), kBlock, s.d);
        pack<V>(qt.p, qt.feature, qt.token, s.d, tokens, query, kBlock, Phi{});
        Inverse<V> inverse[vectors];
        denominators<V>(query, z, tokens, inverse);
        for (int64_t f = 0; f < s.d; ++f)
#pragma GCC unroll 4
          for (int j = 0; j < vectors; ++j) {
            A* x = query + f * kBlock + j * n;
            simd::store(x, V(simd::load<V>(x) * inverse[j].power * inverse[j].rest));
          }
        product_out<V>(query, S, tokens, ot, result);
      }
    }
  }

  // out = tile^T S for a tile [d][tokens].
  template <class V> IRSTD_INLINE void product_out(const A* tile, const A* S, int64_t tokens, Plane<T> to, A* result) const {
    constexpr int n = simd::lanes<V>;
    if (to.feature == 1) {
      if constexpr (std::is_same_v<A, T>)
        if (s.e % n == 0) return gemm::product<V>({tokens, s.e, s.d, tile, 1, kBlock, S, ld, to.p, to.token, false});
      gemm::product<V>({tokens, ld, s.d, tile, 1, kBlock, S, ld, result, ld, false});
      unpack<V>(result, ld, tokens, s.e, to.p, to.token, to.feature);
    } else {
      if constexpr (std::is_same_v<A, T>)
        if (tokens % n == 0) return gemm::product<V>({s.e, tokens, s.d, S, 1, ld, tile, kBlock, to.p, to.feature, false});
      gemm::product<V>({s.e, round_up(tokens, n), s.d, S, 1, ld, tile, kBlock, result, kBlock, false});
      unpack<V>(result, kBlock, s.e, tokens, to.p, to.feature, to.token);
    }
  }

  // dq, and the chunks' dS and dz.
  template <int Bytes> IRSTD_INLINE void query_gradients(int64_t base, int64_t begin, int64_t end) const {
    using V = simd::vec<A, Bytes>;
    constexpr int n = simd::lanes<V>, vectors = kBlock / n;
    Scratch<A> memory;
    A *query = memory.take(s.d * kBlock), *rows = memory.take(s.e * kBlock), *dphi = memory.take(s.d * kBlock), *value = memory.take(kBlock * ld), *lanes = memory.take(s.d * n);
    for (int64_t i = begin; i < end; ++i) {
      const Unit u = unit(i, s.N);
      const A *S = state + u.head * state_size, *z = S + s.d * ld;
      A *dS = partial_grad + i * state_size, *dz = dS + s.d * ld;
      std::fill_n(lanes, s.d * n, A(0));
      for (int64_t t = u.first; t < u.last; t += kBlock) {
        const int64_t tokens = std::min(kBlock, u.last - t);
        const auto qt = q[base + u.head].from(t);
        const auto gt = grad[base + u.head].from(t);
        const auto dt = dq[base + u.head].from(t);
        prefetch(qt.from(kBlock), kBlock, s.d);
        prefetch(gt.from(kBlock), kBlock, s.e);
        pack<V>(qt.p, qt.feature, qt.token, s.d, tokens, query, kBlock, Phi{});
        pack<V>(gt.p, gt.feature, gt.token, s.e, tokens, rows, kBlock);
        gemm::product<V>({s.d, round_up(tokens, n), s.e, S, ld, 1, rows, kBlock, dphi, kBlock, false});
        Inverse<V> inverse[vectors];
        denominators<V>(query, z, tokens, inverse);
        for (int64_t j0 = 0; j0 * n < tokens; ++j0) {
          const V power = inverse[j0].power, rest = inverse[j0].rest;
          V c{};
          for (int64_t f = 0; f < s.d; ++f) c += simd::load<V>(query + f * kBlock + j0 * n) * power * simd::load<V>(dphi + f * kBlock + j0 * n);
          c *= rest;
          for (int64_t f = 0; f < s.d; ++f) {
            A *x = query + f * kBlock + j0 * n, *y = dphi + f * kBlock + j0 * n;
            const V p = simd::load<V>(x), weight = p * power * rest;
            simd::store(y, V(phi_slope(p) * power * rest * (simd::load<V>(y) - z[f] * c)));
            simd::store(x, weight);
            simd::store(lanes + f * n, V(simd::load<V>(lanes + f * n) + weight * c));
          }
        }
        unpack<V>(dphi, kBlock, s.d, tokens, dt.p, dt.feature, dt.token);
        add_outer<V>(query, kBlock, 1, gt, tokens, value, dS, t > u.first);
      }
      add_lanes<V>(lanes, dz, -1);
    }
  }

  template <int Bytes> IRSTD_INLINE void key_gradients(int64_t base, int64_t begin, int64_t end) const {
    using V = simd::vec<A, Bytes>;
    constexpr int n = simd::lanes<V>;
    Scratch<A> memory;
    A *key = memory.take(s.d * kBlock), *value = memory.take(s.e * kBlock), *dphi = memory.take(s.d * kBlock), *result = memory.take(std::max(kBlock * ld, s.e * kBlock));
    for (int64_t i = begin; i < end; ++i) {
      const Unit u = unit(i, s.M);
      const A *dS = state_grad + u.head * state_size, *dz = dS + s.d * ld;
      for (int64_t t = u.first; t < u.last; t += kBlock) {
        const int64_t tokens = std::min(kBlock, u.last - t);
        const auto kt = k[base + u.head].from(t);
        const auto vt = v[base + u.head].from(t);
        const auto dt = dk[base + u.head].from(t);
        prefetch(kt.from(kBlock), kBlock, s.d);
        prefetch(vt.from(kBlock), kBlock, s.e);
        pack<V>(kt.p, kt.feature, kt.token, s.d, tokens, key, kBlock, Phi{});
        pack<V>(vt.p, vt.feature, vt.token, s.e, tokens, value, kBlock);
        gemm::product<V>({s.d, round_up(tokens, n), s.e, dS, ld, 1, value, kBlock, dphi, kBlock, false});
        for (int64_t f = 0; f < s.d; ++f)
          for (int64_t j = 0; j < tokens; j += n) {
            A* x = dphi + f * kBlock + j;
            simd::store(x, V((simd::load<V>(x) + dz[f]) * phi_slope(simd::load<V>(key + f * kBlock + j))));
          }
        unpack<V>(dphi, kBlock, s.d, tokens, dt.p, dt.feature, dt.token);
        product_out<V>(key, dS, tokens, dv[base + u.head].from(t), result);
      }
    }
  }

  // total = the sum of the chunks' states, in order.
  IRSTD_INLINE static void add_chunks(const A* part, int64_t count, int64_t size, A* total) {
    for (int64_t x = 0; x < size; x += kLine / sizeof(A)) {
      double sum[kLine / sizeof(A)] = {};
      for (int64_t c = 0; c < count; ++c)
        for (size_t l = 0; l < kLine / sizeof(A); ++l) sum[l] += part[c * size + x + l];
      for (size_t l = 0; l < kLine / sizeof(A); ++l) total[x + l] = A(sum[l]);
    }
  }

  template <class F> void spread(int64_t units, F f) const {
    const int64_t work = kChunk * std::max<int64_t>(1, s.d) * std::max<int64_t>(8, s.e);
    torch::stable::parallel_for(0, units, std::max<int64_t>(1, (1 << 17) / work), [&](int64_t begin, int64_t end) {
      simd::for_this_cpu([&]<int Bytes>() __attribute__((always_inline)) { f.template operator()<Bytes>(begin, end); });
    });
  }
  void combine(int64_t heads, const A* part, int64_t count, A* total) const {
    torch::stable::parallel_for(0, heads, std::max<int64_t>(1, (1 << 17) / std::max<int64_t>(1, state_size * count)), [&](int64_t begin, int64_t end) {
      simd::for_this_cpu([&]<int Bytes>() __attribute__((always_inline)) {
        for (int64_t i = begin; i < end; ++i) add_chunks(part + i * count * state_size, count, state_size, total + i * state_size);
      });
    });
  }

  void run(bool gradients) {
    const int64_t heads = s.B * s.h, ck = chunks(s.M), cq = chunks(s.N);
    const int64_t group = std::min(heads, std::max<int64_t>(1, 64 / std::max(ck, cq)));
    ld = round_up(s.e, simd::width() / sizeof(A));
    state_size = round_up(s.d * ld + s.d, kLine / sizeof(A));
    Scratch<A> memory;
    A *sums = memory.take(group * state_size), *parts = memory.take(group * ck * state_size), *sums_grad = memory.take(gradients ? group * state_size : 0), *parts_grad = memory.take(gradients ? group * cq * state_size : 0);
    state = sums, partial = parts, state_grad = sums_grad, partial_grad = parts_grad;
    for (int64_t base = 0; base < heads; base += group) {
      const int64_t count = std::min(group, heads - base);
      spread(count * ck, [&]<int Bytes>(int64_t begin, int64_t end) __attribute__((always_inline)) { states<Bytes>(base, begin, end); });
      combine(count, partial, ck, state);
      if (!gradients) {
        spread(count * cq, [&]<int Bytes>(int64_t begin, int64_t end) __attribute__((always_inline)) { attend<Bytes>(base, begin, end); });
        continue;
      }
      spread(count * cq, [&]<int Bytes>(int64_t begin, int64_t end) __attribute__((always_inline)) { query_gradients<Bytes>(base, begin, end); });
      combine(count, partial_grad, cq, state_grad);
      spread(count * ck, [&]<int Bytes>(int64_t begin, int64_t end) __attribute__((always_inline)) { key_gradients<Bytes>(base, begin, end); });
    }
  }
};

template <class T> Heads<const T> view(const Tensor& t) {
  return {(const T*)t.const_data_ptr(), t.size(1), t.stride(0), t.stride(1), t.stride(2), t.stride(3)};
}
template <class T> Heads<T> view_out(const Tensor& t) {
  return {(T*)t.mutable_data_ptr(), t.size(1), t.stride(0), t.stride(1), t.stride(2), t.stride(3)};
}

Tensor forward(const Tensor& q, const Tensor& k, const Tensor& v, double eps) {
  const Sizes s = check("linear_cross_attention", q, k, v);
  Tensor out = empty_like_layout(q, s.N, s.e);
  if (out.numel() == 0) return out;
  with_dtype(dtype_of(q), [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = accum_t<T>;
    Attention<T, A>{.s = s, .eps = A(eps), .q = view<T>(q), .k = view<T>(k), .v = view<T>(v), .out = view_out<T>(out)}.run(false);
  });
  return out;
}

std::tuple<Tensor, Tensor, Tensor> backward(const Tensor& grad, const Tensor& q, const Tensor& k, const Tensor& v, double eps) {
  const char* op = "linear_cross_attention_backward";
  const Sizes s = check(op, q, k, v);
  check_grad(op, grad, q, s);
  Tensor dq = empty_like_layout(q, s.N, s.d), dk = empty_like_layout(k, s.M, s.d), dv = empty_like_layout(v, s.M, s.e);
  if (s.B * s.h == 0) return {dq, dk, dv};
  with_dtype(dtype_of(q), [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = accum_t<T>;
    Attention<T, A>{.s = s, .eps = A(eps), .q = view<T>(q), .k = view<T>(k), .v = view<T>(v), .grad = view<T>(grad), .dq = view_out<T>(dq),
                    .dk = view_out<T>(dk), .dv = view_out<T>(dv)}.run(true);
  });
  return {dq, dk, dv};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(irstd_ext, m) {
  m.def("linear_cross_attention(Tensor q, Tensor k, Tensor v, float eps=1e-6) -> Tensor");
  m.def("linear_cross_attention_backward(Tensor grad, Tensor q, Tensor k, Tensor v, float eps) -> (Tensor, Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(irstd_ext, CPU, m) {
  m.impl("linear_cross_attention", TORCH_BOX(&forward));
  m.impl("linear_cross_attention_backward", TORCH_BOX(&backward));
}

}  // namespace irstd::linear_cross_attention
