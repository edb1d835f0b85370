// Blocks of tokens as small dense tiles of the type computed in, from and to tensors of any layout and storage type.
#pragma once
#include <algorithm>
#include <memory>
#include <new>
#include <type_traits>

#include "common/panel.h"
#include "common/simd.h"
#include "common/storage.h"

namespace irstd::linear_cross_attention {

// Tokens at a time: four tiles of 64 x 32 floats stay in L1. A multiple of every vector's lanes.
constexpr int64_t kBlock = 64;

// One head of a [B, h, n, f] tensor, from some token on.
template <class T> struct Plane {
  T* p;
  int64_t token, feature;  // strides
  Plane from(int64_t t) const { return {p + t * token, token, feature}; }
};

template <class T> struct Heads {
  T* p;
  int64_t h, stride_b, stride_h, token, feature;
  Plane<T> operator[](int64_t head) const { return {p + head / h * stride_b + head % h * stride_h, token, feature}; }
};

// Scratch memory, every part of it from a cache line on.
template <class A> class Scratch {
  struct Free { void operator()(A* p) const { ::operator delete(p, std::align_val_t(64)); } };
  std::vector<std::unique_ptr<A, Free>> parts;

 public:
  A* take(int64_t n) {
    parts.emplace_back(static_cast<A*>(::operator new(sizeof(A) * n, std::align_val_t(64))));
    return parts.back().get();
  }
};

// Asks for a block of tokens ahead of its use: blocks are pieces of many rows, which the hardware does not foresee.
template <class T> IRSTD_INLINE void prefetch(Plane<T> block, int64_t tokens, int64_t features) {
  constexpr int64_t line = 64 / sizeof(T);
  if (block.feature == 1) {
    for (int64_t t = 0; t < tokens; ++t)
      for (int64_t f = 0; f < features; f += line) __builtin_prefetch(block.p + t * block.token + f, 0, PFL);
  } else if (block.token == 1) {
    for (int64_t f = 0; f < features; ++f)
      for (int64_t t = 0; t < tokens; t += line) __builtin_prefetch(block.p + f * block.feature + t, 0, PFL);
  }
}

struct Same { template <class V> IRSTD_INLINE V operator()(V x) const { return x; } };

// dst[o * ld + i] = f(src[o * outer + i * inner]), zero from `cols` to the next whole vector.
template <class V, class T, class F = Same, class A = simd::lane_t<V>>
IRSTD_INLINE void pack(const T* src, int64_t outer, int64_t inner, int64_t rows, int64_t cols, A* dst, int64_t ld, F f = {}) {
  constexpr int n = simd::lanes<V>;
  const int64_t full = cols / n * n;
  bool in_place = false;
  if constexpr (std::is_same_v<A, T>) {
    if (inner == 1) {
      for (int64_t o = 0; o < rows; ++o) {
        const T* from = src + o * outer;
        for (int64_t i = 0; i < full; i += n) {
          simd::store(dst + o * ld + i, V(f(simd::load<V>(from + i))));
        }
        if (full < cols) {
          V x{};
          for (int64_t i = full; i < cols; ++i) x[i - full] = from[i];
          x = f(x);
          for (int64_t i = cols; i < full + n; ++i) x[i - full] = 0;
          simd::store(dst + o * ld + full, x);
        }
      }
      return;
    }
    if (outer == 1) simd::transpose<V>(src, inner, cols, rows, dst, ld), in_place = true;
  }
  if (!in_place && inner > outer) {
    for (int64_t i = 0; i < cols; ++i)
      for (int64_t o = 0; o < rows; ++o) dst[o * ld + i] = load(src[o * outer + i * inner]);
  } else if (!in_place) {
    for (int64_t o = 0; o < rows; ++o)
      for (int64_t i = 0; i < cols; ++i) dst[o * ld + i] = load(src[o * outer + i * inner]);
  }
  for (int64_t o = 0; o < rows; ++o) {
    A* row = dst + o * ld;
    for (int64_t i = cols; i < round_up(cols, n); ++i) row[i] = 0;
    if constexpr (!std::is_same_v<F, Same>) {
      for (int64_t i = 0; i < cols; i += n) simd::store(row + i, V(f(simd::load<V>(row + i))));
      for (int64_t i = cols; i < round_up(cols, n); ++i) row[i] = 0;
    }
  }
}

// dst[o * outer + i * inner] = src[o * ld + i], where dst is dense along one of the two.
template <class V, class T, class A = simd::lane_t<V>>
IRSTD_INLINE void unpack(const A* src, int64_t ld, int64_t rows, int64_t cols, T* dst, int64_t outer, int64_t inner) {
  if constexpr (std::is_same_v<A, T>)
    if (inner != 1) return simd::transpose<V>(src, ld, rows, cols, dst, inner);
  if (inner == 1) {
    for (int64_t o = 0; o < rows; ++o)
      for (int64_t i = 0; i < cols; ++i) dst[o * outer + i] = Store<T>::from(src[o * ld + i]);
  } else {
    for (int64_t i = 0; i < cols; ++i)
      for (int64_t o = 0; o < rows; ++o) dst[o * outer + i * inner] = Store<T>::from(src[o * ld + i]);
  }
}

}  // namespace irstd::linear_cross_attention
