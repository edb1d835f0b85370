// Blocks of tokens as small dense tiles of the type computed in, from and to tensors of any layout and storage type.
#pragma once
#include <type_traits>

#include "common/panel.h"
#include "common/scratch.h"

namespace irstd::linear_cross_attention {

// Tokens at a time, a multiple of every vector's lanes: four tiles of 32 features stay in L1.
constexpr int64_t kBlock = 64;

// rows x cols numbers anywhere in memory.
template <class T> struct Grid { T* p; int64_t row, col; };

// One head of a [B, h, n, f] tensor, from some token on, read with the features or with the tokens as rows.
template <class T> struct Plane {
  T* p;
  int64_t token, feature;  // strides
  Plane from(int64_t t) const { return {p + t * token, token, feature}; }
  Grid<T> by_feature() const { return {p, feature, token}; }
  Grid<T> by_token() const { return {p, token, feature}; }
};

template <class T> struct Heads {
  T* p;
  int64_t h, stride_b, stride_h, token, feature;
  Plane<T> operator[](int64_t head) const { return {p + head / h * stride_b + head % h * stride_h, token, feature}; }
};

// Walks over the cache lines of a block of tokens and asks for one at a time, between other work: a block is pieces of many rows, which the hardware does
// not foresee. Nothing for planes that are dense along neither side.
struct Lines {
  const char* p = nullptr;
  int64_t row = 0, per_row = 0, line = 0, left = 0;
  bool write = false;
  template <class T> IRSTD_INLINE Lines(Plane<T> block, int64_t features) : p((const char*)block.p), write(!std::is_const_v<T>) {
    if (block.feature == 1) row = block.token * sizeof(T), per_row = (features * sizeof(T) + 63) / 64, left = kBlock * per_row;
    else if (block.token == 1) row = block.feature * sizeof(T), per_row = kBlock * sizeof(T) / 64, left = features * per_row;
  }
  IRSTD_INLINE void next() {
    if (left == 0) return;
    if (write) __builtin_prefetch(p + line * 64, 1);
    else __builtin_prefetch(p + line * 64, 0);
    if (--left, ++line == per_row) line = 0, p += row;
  }
};

struct Same { template <class V> IRSTD_INLINE V operator()(V x) const { return x; } };

// tile[r * ld + c] = src(r, c), zero from column `cols` to ld. Compiled once per type and width, like Scatter.
template <class T, class A> struct Gather {
  Grid<const T> src;
  int64_t rows, cols;
  A* tile;
  int64_t ld;
  template <int Bytes> IRSTD_INLINE void operator()() const {
    fill<simd::vec<A, Bytes>>();
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = cols; c < ld; ++c) tile[r * ld + c] = 0;
  }

 private:
  template <class V> IRSTD_INLINE void fill() const {
    if constexpr (std::is_same_v<A, T>)
      if (src.row == 1 && src.col != 1) return simd::transpose<V>(src.p, src.col, cols, rows, tile, ld);
    if (src.col <= src.row) {
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < cols; ++c) tile[r * ld + c] = load(src.p[r * src.row + c * src.col]);
    } else {
      for (int64_t c = 0; c < cols; ++c)
        for (int64_t r = 0; r < rows; ++r) tile[r * ld + c] = load(src.p[r * src.row + c * src.col]);
    }
  }
};

// dst(r, c) = tile[r * ld + c], where dst is dense along one of the two.
template <class T, class A> struct Scatter {
  const A* tile;
  int64_t ld, rows, cols;
  Grid<T> dst;
  template <int Bytes> IRSTD_INLINE void operator()() const {
    if constexpr (std::is_same_v<A, T>)
      if (dst.col != 1) return simd::transpose<simd::vec<A, Bytes>>(tile, ld, rows, cols, dst.p, dst.col);
    if (dst.col == 1) {
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < cols; ++c) dst.p[r * dst.row + c] = Store<T>::from(tile[r * ld + c]);
    } else {
      for (int64_t c = 0; c < cols; ++c)
        for (int64_t r = 0; r < rows; ++r) dst.p[r * dst.row + c * dst.col] = Store<T>::from(tile[r * ld + c]);
    }
  }
};

template <class A> struct Rows { A* p; int64_t ld; };

// Rows of whole vectors for a grid: its own if it has such, else those of `tile`.
template <class T, class A> IRSTD_INLINE Rows<A> rows_of(Grid<T> grid, int64_t cols, A* tile, int64_t ld) {
  if constexpr (std::is_same_v<A, T>)
    if (grid.col == 1 && cols == ld) return {grid.p, grid.row};
  return {tile, ld};
}

// tile[r * ld + c] = f(src(r, c)), zero from column `cols` to ld, which is whole vectors.
template <class V, class T, class F = Same, class A = simd::lane_t<V>>
IRSTD_INLINE void pack(Grid<const T> src, int64_t rows, int64_t cols, std::type_identity_t<A>* tile, int64_t ld, F f = {}) {
  const Rows<const A> from = rows_of<const T, const A>(src, cols, tile, ld);
  if (from.p == tile) simd::call<sizeof(V)>(Gather<T, A>{src, rows, cols, tile, ld});
  if (std::is_same_v<F, Same> && from.p == tile) return;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < ld; c += simd::lanes<V>) simd::store(tile + r * ld + c, V(f(simd::load<V>(from.p + r * from.ld + c))));
    for (int64_t c = cols; c < ld; ++c) tile[r * ld + c] = 0;
  }
}

// The way back; nothing to do where rows_of has given rows of dst.
template <class V, class T, class A> IRSTD_INLINE void unpack(Rows<A> tile, int64_t rows, int64_t cols, Grid<T> dst) {
  if constexpr (std::is_same_v<A, T>)
    if (tile.p == dst.p) return;
  simd::call<sizeof(V)>(Scatter<T, A>{tile.p, tile.ld, rows, cols, dst});
}

}  // namespace irstd::linear_cross_attention
