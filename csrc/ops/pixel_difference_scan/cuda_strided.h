// Tensors of pixel_difference_scan as its kernels see them: any strides, four channels at a time in one access where they lie side by side.
#pragma once
#include "ops/pixel_difference/cuda_window.h"
#include "ops/pixel_difference_scan/cuda.h"

namespace irstd::pixel_difference_scan {

// x / by for 0 <= x < 2^31 by a multiplication, exact: factor = ceil(2^(31+shift) / by) with by <= 2^shift.
struct Divide {
  uint32_t by, factor;
  int shift = 0;
  explicit Divide(int64_t n) : by(uint32_t(n)), factor(0) {
    while (int64_t(1) << shift < n) ++shift;
    if (n > 0) factor = uint32_t(((uint64_t(1) << (31 + shift)) + n - 1) / n);
  }
  __device__ __forceinline__ uint32_t operator()(uint32_t x) const { return uint32_t(uint64_t(2 * x) * factor >> 32) >> shift; }
};

// A place in an image, below 2^31 pixels.
struct Spot { uint32_t row, column; };

// S numbers that lie side by side.
template <class A, int S> struct alignas(S == 1 ? sizeof(A) : 16) Row {
  A v[S];
  __device__ __forceinline__ static Row at(const A* p) { return *reinterpret_cast<const Row*>(p); }
  __device__ __forceinline__ void put(A* p) const { *reinterpret_cast<Row*>(p) = *this; }
  __device__ __forceinline__ void operator+=(const Row& other) {
    IRSTD_UNROLL
    for (int s = 0; s < S; ++s) v[s] += other.v[s];
  }
  __device__ __forceinline__ Row operator*(const Row& other) const {
    Row product;
    IRSTD_UNROLL
    for (int s = 0; s < S; ++s) product.v[s] = v[s] * other.v[s];
    return product;
  }
};
// Four elements that lie side by side along channels or states, as they are stored.
template <class A> struct Four {
  Element<A> e[4];
  __device__ __forceinline__ Row<A, 4> numbers(DType type) const { return {e[0].value(type), e[1].value(type), e[2].value(type), e[3].value(type)}; }
};

// A [B, K or 1, C, H, W] tensor, strides in bytes; with `quads` any four from a multiple of four on are one aligned piece of memory.
struct Strided {
  char* data;
  DType type;
  bool quads;
  int64_t b, k, c, h, w;

  Strided(const Maps& m, DType type, int64_t channels)
      : data((char*)m.data), type(type), b(m.b * bytes_of(type)), k(m.k * bytes_of(type)), c(m.c * bytes_of(type)), h(m.h * bytes_of(type)), w(m.w * bytes_of(type)) {
    const int64_t piece = 4 * bytes_of(type);
    quads = type != DType::f64 && m.c == 1 && channels % 4 == 0 && (int64_t(data) | b | k | h | w) % piece == 0;
  }
  Strided(const View& v, DType type, int64_t channels) : Strided(Maps{v.data, v.b, 0, v.d, v.h, v.w}, type, channels) {}

  __device__ __forceinline__ char* line(int64_t image, int direction, int64_t channel) const { return data + image * b + direction * k + channel * c; }
  __device__ __forceinline__ int64_t offset(Spot p) const { return p.row * h + p.column * w; }

  // found = the first `count` of four from p on, zeros beyond.
  template <class A> __device__ __forceinline__ void read(Four<A>& found, const char* p, int count) const {
    found = {};
    if constexpr (sizeof(A) == 4) {
      if (quads) {
        if (count <= 0) return;
        if (type == DType::f32) {
          const Row<float, 4> all = *reinterpret_cast<const Row<float, 4>*>(p);
          IRSTD_UNROLL
          for (int j = 0; j < 4; ++j) found.e[j].bits = bit_copy<uint32_t>(all.v[j]);
        } else {
          const Halves all = *reinterpret_cast<const Halves*>(p);
          IRSTD_UNROLL
          for (int j = 0; j < 4; ++j) found.e[j].bits = all.v[j];
        }
        return;
      }
    }
    IRSTD_UNROLL
    for (int j = 0; j < 4; ++j)
      if (j < count) found.e[j] = Element<A>::read(p + j * c, type);
  }
  template <class A> __device__ __forceinline__ void add_to(Row<A, 4>& sum, const char* p, int count) const {
    Four<A> found;
    read(found, p, count);
    sum += found.numbers(type);
  }
  template <class A> __device__ __forceinline__ void write(char* p, int count, const Row<A, 4>& from) const {
    if constexpr (sizeof(A) == 4) {
      if (quads) {
        if (count <= 0) return;
        if (type == DType::f32) {
          *reinterpret_cast<Row<float, 4>*>(p) = from;
        } else {
          Halves all;
          IRSTD_UNROLL
          for (int j = 0; j < 4; ++j) all.v[j] = type == DType::bf16 ? Store<bfloat16>::from(from.v[j]).bits : Store<half>::from(from.v[j]).bits;
          *reinterpret_cast<Halves*>(p) = all;
        }
        return;
      }
    }
    IRSTD_UNROLL
    for (int j = 0; j < 4; ++j)
      if (j < count) Element<A>::write(p + j * c, type, from.v[j]);
  }

 private:
  struct alignas(8) Halves { uint16_t v[4]; };
};

}  // namespace irstd::pixel_difference_scan
