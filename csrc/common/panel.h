// Planes and rows of tensors in any storage type and layout, seen as whole vectors of the type computed in.
#pragma once
#include <cstdint>
#include <type_traits>
#include <vector>

#include "common/simd.h"
#include "common/storage.h"

namespace irstd {

IRSTD_INLINE int64_t round_up(int64_t n, int64_t m) { return (n + m - 1) / m * m; }

// A [rows, cols] plane with rows of whole vectors: in place where it already is one, else packed and padded with zeros.
template <class A> struct Panel {
  std::vector<A> buffer;
  const A* data = nullptr;
  int64_t ld = 0;

  template <class V, class T> IRSTD_INLINE void take(const T* p, int64_t rows, int64_t cols, int64_t stride_row, int64_t stride_col) {
    constexpr int n = simd::lanes<V>;
    if constexpr (std::is_same_v<A, T>)
      if (stride_col == 1 && cols % n == 0) {
        data = p, ld = stride_row;
        return;
      }
    ld = round_up(cols, n);
    if (int64_t(buffer.size()) < rows * ld) buffer.resize(rows * ld);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < cols; ++c) buffer[r * ld + c] = load(p[r * stride_row + c * stride_col]);
      for (int64_t c = cols; c < ld; ++c) buffer[r * ld + c] = 0;
    }
    data = buffer.data();
  }
};

// The cache lines of a dense plane, asked for one by one ahead of its use. Planes are often one page each, where the hardware's own streams end.
struct Ahead {
  const char* p = nullptr;
  int64_t lines = 0;
  template <class T> IRSTD_INLINE static Ahead of(const T* p, int64_t rows, int64_t cols, int64_t stride_row, int64_t smallest = 0) {
    const int64_t bytes = rows * cols * int64_t(sizeof(T));
    return stride_row == cols && bytes >= smallest && bytes <= 32768 ? Ahead{(const char*)p, bytes / 64} : Ahead{};
  }
  IRSTD_INLINE void next() {
    if (lines == 0) return;
    __builtin_prefetch(p);
    p += 64, --lines;
  }
};

// out[c] = f(in[c], c) for a row, a vector at a time; f sees zeros past the end. out is dense.
template <class V, class T, class F> IRSTD_INLINE void map_row(int64_t cols, const T* in, int64_t stride, T* out, F&& f) {
  using A = simd::lane_t<V>;
  constexpr int n = simd::lanes<V>;
  int64_t c = 0;
  if constexpr (std::is_same_v<A, T>)
    if (stride == 1)
      for (; c + n <= cols; c += n) simd::store(out + c, V(f(simd::load<V>(in + c), c)));
  for (; c < cols; c += n) {
    const int64_t m = cols - c < n ? cols - c : n;
    V x{};
    for (int64_t l = 0; l < m; ++l) x[l] = load(in[(c + l) * stride]);
    const V y = f(x, c);
    for (int64_t l = 0; l < m; ++l) out[c + l] = Store<T>::from(y[l]);
  }
}

}  // namespace irstd
