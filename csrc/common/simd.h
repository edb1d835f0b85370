// Vectors of 64, 32 or 16 bytes through compiler extensions, and the choice between them at run time.
// Everything here is always_inline: a body runs with the instruction set of the for_this_cpu branch that it is inlined into.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#define IRSTD_INLINE inline __attribute__((always_inline))

namespace irstd::simd {

template <class T, int Bytes> struct VecOf { typedef T type __attribute__((vector_size(Bytes))); };
template <class T, int Bytes> using vec = typename VecOf<T, Bytes>::type;
template <class V> using lane_t = std::remove_cvref_t<decltype(V{}[0])>;
template <class V> inline constexpr int lanes = sizeof(V) / sizeof(lane_t<V>);

template <class V> IRSTD_INLINE V load(const lane_t<V>* p) { V v; std::memcpy(&v, p, sizeof v); return v; }
template <class V> IRSTD_INLINE void store(lane_t<V>* p, V v) { std::memcpy(p, &v, sizeof v); }
// Written as a product: g++ 12 turns a plain x - V{} into one insertion per lane.
template <class V> IRSTD_INLINE V splat(lane_t<V> x) { return x * (V{} + 1); }
template <class V> IRSTD_INLINE lane_t<V> sum(V v) {  // pairwise
  if constexpr (sizeof(V) > 16) {
    using Half = vec<lane_t<V>, int(sizeof(V) / 2)>;
    Half half[2];
    std::memcpy(half, &v, sizeof v);
    return simd::sum(Half(half[0] + half[1]));
  } else if constexpr (lanes<V> == 4) {
    return (v[0] + v[2]) + (v[1] + v[3]);
  } else {
    return v[0] + v[1];
  }
}

// e^x = exp_mantissa * 2^n, n the integer nearest x log2(e), left in the low mantissa bits of `shifted`. Coefficients of Cephes' expf: within 0.9 ulp.
template <class V> IRSTD_INLINE V exp_mantissa(V x, V& shifted) {
  shifted = x * 1.44269504088896341f + 12582912.f;
  const V n = shifted - 12582912.f;
  const V r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  V p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  return (p * r + 1.f) * r + 1.f;
}

// e^x for x <= 64; below -104 zero, subnormal results kept. NaN stays NaN (and overflows in the integers, harmlessly).
template <class V> IRSTD_INLINE V exp(V x) {
  if constexpr (sizeof(lane_t<V>) == 8) {
    for (int i = 0; i < lanes<V>; ++i) x[i] = std::exp(x[i]);
    return x;
  } else {
    using U = vec<uint32_t, int(sizeof(V))>;
    const V low = splat<V>(-104.f);
    V shifted;
    const V p = exp_mantissa(V(x < low ? low : x), shifted);
    return p * (V)(((U)shifted << 23) + (151u << 23)) * 0x1p-24f;  // 2^(n + 24) and 2^-24, so that 2^-149 can be reached
  }
}

// e^x for x <= 0, results below 2^-126 flushed to zero: enough where the largest term of a sum is 1.
template <class V> IRSTD_INLINE V exp_flush(V x) {
  if constexpr (sizeof(lane_t<V>) == 8) {
    return simd::exp(x);
  } else {
    using U = vec<uint32_t, int(sizeof(V))>;
    V shifted;
    const V p = exp_mantissa(x, shifted);
    return x < -87.3f ? V{} : p * (V)(((U)shifted << 23) + 0x3F800000u);
  }
}

// The two halves of a and b interleaved: a0 b0 a1 b1 ...
template <class V> IRSTD_INLINE void interleave(V a, V b, V& low, V& high) {
  constexpr int N = lanes<V>;
#ifdef __clang__
  for (int i = 0; i < N / 2; ++i) {
    low[2 * i] = a[i], low[2 * i + 1] = b[i];
    high[2 * i] = a[N / 2 + i], high[2 * i + 1] = b[N / 2 + i];
  }
#else
  using I = vec<std::conditional_t<sizeof(lane_t<V>) == 4, int32_t, int64_t>, int(sizeof(V))>;
  I lo{}, hi{};
  for (int i = 0; i < N / 2; ++i) {
    lo[2 * i] = i, lo[2 * i + 1] = N + i;
    hi[2 * i] = N / 2 + i, hi[2 * i + 1] = N + N / 2 + i;
  }
  low = __builtin_shuffle(a, b, lo);
  high = __builtin_shuffle(a, b, hi);
#endif
}

// dst[c * ldd + r] = src[r * lds + c] for a square tile of lanes x lanes: log2(lanes) perfect shuffles.
template <class V> IRSTD_INLINE void transpose_tile(const lane_t<V>* src, int64_t lds, lane_t<V>* dst, int64_t ldd) {
  constexpr int N = lanes<V>;
  V a[N], b[N];
#pragma GCC unroll 16
  for (int r = 0; r < N; ++r) a[r] = simd::load<V>(src + r * lds);
#pragma GCC unroll 4
  for (int step = 1; step < N; step *= 2) {
#pragma GCC unroll 8
    for (int r = 0; r < N / 2; ++r) interleave(a[r], a[r + N / 2], b[2 * r], b[2 * r + 1]);
#pragma GCC unroll 16
    for (int r = 0; r < N; ++r) a[r] = b[r];
  }
#pragma GCC unroll 16
  for (int r = 0; r < N; ++r) store<V>(dst + r * ldd, a[r]);
}

// dst[c * ldd + r] = src[r * lds + c], any size.
template <class V> IRSTD_INLINE void transpose(const lane_t<V>* src, int64_t lds, int64_t rows, int64_t cols, lane_t<V>* dst, int64_t ldd) {
  constexpr int N = lanes<V>;
  const int64_t full_rows = rows / N * N, full_cols = cols / N * N;
  for (int64_t r = 0; r < full_rows; r += N)
    for (int64_t c = 0; c < full_cols; c += N) transpose_tile<V>(src + r * lds + c, lds, dst + c * ldd + r, ldd);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = r < full_rows ? full_cols : 0; c < cols; ++c) dst[c * ldd + r] = src[r * lds + c];
}

// IRSTD_SIMD_BYTES, 16 or 32: the widest vectors that are compiled, which is how tests reach the kernels of other machines. IRSTD_SIMD_LEAST: the narrowest, for a
// quicker build that runs on machines with such vectors only.
#ifndef IRSTD_SIMD_BYTES
#define IRSTD_SIMD_BYTES 64
#endif
#ifndef IRSTD_SIMD_LEAST
#define IRSTD_SIMD_LEAST 16
#endif
#if defined(__x86_64__)
template <class F> __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))) void run_512(const F& f) { f.template operator()<64>(); }
template <class F> __attribute__((target("avx2,fma"))) void run_256(const F& f) { f.template operator()<32>(); }
#endif

// Bytes of the widest vector this CPU has.
inline int width() {
#if defined(__x86_64__)
  static const int bytes = IRSTD_SIMD_BYTES >= 64 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") ? 64
      : IRSTD_SIMD_BYTES >= 32 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? 32 : 16;
  return bytes;
#else
  return 16;
#endif
}

// f.operator()<Bytes>() compiled for, and called on, the widest vectors this CPU has. The operator must be always_inline.
template <class F> void for_this_cpu(const F& f) {
#if defined(__x86_64__)
  if constexpr (IRSTD_SIMD_BYTES >= 64)
    if (IRSTD_SIMD_LEAST == 64 || width() == 64) return run_512(f);
  if constexpr (IRSTD_SIMD_BYTES >= 32 && IRSTD_SIMD_LEAST <= 32)
    if (IRSTD_SIMD_LEAST == 32 || width() == 32) return run_256(f);
#endif
  if constexpr (IRSTD_SIMD_LEAST <= 16) f.template operator()<16>();
}

// From code that runs with vectors of Bytes: f.operator()<Bytes>() as a function of its own, not inlined.
template <class F> __attribute__((noinline)) void run_128(const F& f) { f.template operator()<16>(); }
template <int Bytes, class F> IRSTD_INLINE void call(const F& f) {
#if defined(__x86_64__)
  if constexpr (Bytes == 64) return run_512(f);
  else if constexpr (Bytes == 32) return run_256(f);
#endif
  run_128(f);
}

}  // namespace irstd::simd
