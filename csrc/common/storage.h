// Element types a tensor may be stored in, and their exact conversion to and from the type computed in.
#pragma once
#include <cstdint>
#include <cstring>
#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif
#include "common/hd.h"

namespace irstd {

enum class DType : int { f32 = 0, f64 = 1, f16 = 2, bf16 = 3 };

struct half { uint16_t bits; };
struct bfloat16 { uint16_t bits; };

template <class T> struct Accum { using type = float; };
template <> struct Accum<double> { using type = double; };
template <class T> using accum_t = typename Accum<T>::type;

template <class To, class From> IRSTD_HD To bit_copy(From x) {
  static_assert(sizeof(To) == sizeof(From), "same size");
  To y;
  memcpy(&y, &x, sizeof y);
  return y;
}

IRSTD_HD float load(float x) { return x; }
IRSTD_HD double load(double x) { return x; }
IRSTD_HD float load(bfloat16 x) { return bit_copy<float>(uint32_t(x.bits) << 16); }
IRSTD_HD float load(half x) {
#if defined(__CUDA_ARCH__)
  return __half2float(__ushort_as_half(x.bits));
#else
  const uint32_t sign = uint32_t(x.bits & 0x8000u) << 16, em = x.bits & 0x7fffu;
  if (em >= 0x7c00u) return bit_copy<float>(sign | 0x7f800000u | (em & 0x3ffu) << 13);            // Inf, NaN
  if (em < 0x400u) {                                                                              // zero, subnormal: em * 2^-24
    const float m = float(em) * 5.9604644775390625e-8f;
    return bit_copy<float>(sign | bit_copy<uint32_t>(m));
  }
  return bit_copy<float>(sign | ((em << 13) + 0x38000000u));
#endif
}

template <class T> struct Store;  // Store<T>::from(x): x rounded to nearest even
template <> struct Store<float> { IRSTD_HD static float from(float x) { return x; } };
template <> struct Store<double> { IRSTD_HD static double from(double x) { return x; } };
template <> struct Store<bfloat16> {
  IRSTD_HD static bfloat16 from(float x) {
    const uint32_t u = bit_copy<uint32_t>(x);
    if ((u & 0x7fffffffu) > 0x7f800000u) return {uint16_t(u >> 16 | 0x40u)};
    return {uint16_t((u + 0x7fffu + (u >> 16 & 1u)) >> 16)};
  }
};
template <> struct Store<half> {
  IRSTD_HD static half from(float x) {
#if defined(__CUDA_ARCH__)
    return {__half_as_ushort(__float2half_rn(x))};
#else
    const uint32_t u = bit_copy<uint32_t>(x), sign = u >> 16 & 0x8000u, a = u & 0x7fffffffu;
    if (a > 0x7f800000u) return {uint16_t(sign | 0x7e00u)};
    if (a >= 0x477ff000u) return {uint16_t(sign | 0x7c00u)};                                      // >= 65520 rounds to Inf
    if (a < 0x38800000u)                                                                          // subnormal half: let the FPU round at 2^-24
      return {uint16_t(sign | uint16_t(bit_copy<uint32_t>(bit_copy<float>(a) + 0.5f) - 0x3f000000u))};
    return {uint16_t(sign | ((a - 0x38000000u + 0xfffu + (a >> 13 & 1u)) >> 13))};
#endif
  }
};

}  // namespace irstd
