// Images in any storage type and layout, inside of CUDA kernels.
#pragma once
#include "common/storage.h"
#include "common/view.h"

namespace irstd {

// One element as it is stored, of a tensor that is computed in A: loads that follow each other are under way together, and are converted later. The type
// is a number in the kernels, since a kernel for each would be all the same but for this: a third of the code and of the time to compile it.
template <class A> struct Element;
template <> struct Element<float> {
  uint32_t bits;
  __device__ __forceinline__ static Element read(const char* p, DType type) {
    return {type == DType::f32 ? bit_copy<uint32_t>(*reinterpret_cast<const float*>(p)) : uint32_t(*reinterpret_cast<const uint16_t*>(p))};
  }
  __device__ __forceinline__ float value(DType type) const {
    return type == DType::f32 ? bit_copy<float>(bits) : type == DType::bf16 ? load(bfloat16{uint16_t(bits)}) : load(half{uint16_t(bits)});
  }
  __device__ __forceinline__ static void write(char* p, DType type, float x) {
    if (type == DType::f32) *reinterpret_cast<float*>(p) = x;
    else *reinterpret_cast<uint16_t*>(p) = type == DType::bf16 ? Store<bfloat16>::from(x).bits : Store<half>::from(x).bits;
  }
};
template <> struct Element<double> {
  double x;
  __device__ __forceinline__ static Element read(const char* p, DType) { return {*reinterpret_cast<const double*>(p)}; }
  __device__ __forceinline__ double value(DType) const { return x; }
  __device__ __forceinline__ static void write(char* p, DType, double x) { *reinterpret_cast<double*>(p) = x; }
};

inline int64_t bytes_of(DType type) { return type == DType::f64 ? 8 : type == DType::f32 ? 4 : 2; }

// A strided [B, D, H, W], strides in bytes.
struct Image {
  char* data;
  DType type;
  int64_t b, d, h, w;
  Image(const View& v, DType type) : data((char*)v.data), type(type), b(v.b * bytes_of(type)), d(v.d * bytes_of(type)), h(v.h * bytes_of(type)), w(v.w * bytes_of(type)) {}
  __device__ __forceinline__ char* plane(int64_t image, int64_t channel) const { return data + image * b + channel * d; }
};

}  // namespace irstd
