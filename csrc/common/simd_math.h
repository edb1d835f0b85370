// Functions of vectors beyond simd.h, and sums across lanes.
#pragma once
#include "common/simd.h"

namespace irstd::simd {

// p of 2^x = 2^n p, n the integer nearest x and x = n + r: float: minimax of the relative error, 9e-8; double: the series. Exactly 1 at r = 0.
template <class V> IRSTD_INLINE V exp2_mantissa(V r) {
  V p;
  if constexpr (sizeof(lane_t<V>) == 4) {
    p = r * 1.3264727266e-3f + 9.6715127685e-3f;
    p = p * r + 5.5507337443e-2f;
    p = p * r + 2.4022242083e-1f;
    p = p * r + 6.9314697760e-1f;
  } else {
    r *= 0.693147180559945309417;
    p = r / 6227020800. + 1 / 479001600.;
    constexpr double c[] = {1 / 39916800., 1 / 3628800., 1 / 362880., 1 / 40320., 1 / 5040., 1 / 720., 1 / 120., 1 / 24., 1 / 6., 0.5, 1.};
    for (double k : c) p = p * r + k;
  }
  return p * r + 1;
}

// 2^x within 2 epsilons, exactly 1 at 0, for |x| <= 1e15 (1e39 in double). Results below 2^-126 (2^-1022 in double) are 0, from 2^127.5 (2^1023.5) on infinite;
// NaN stays NaN. Far out x - n is no longer below 1, but p is still finite, which is what the limit is for.
template <class V> IRSTD_INLINE V exp2(V x) {
  constexpr bool single = sizeof(lane_t<V>) == 4;
  using Int = std::conditional_t<single, int32_t, int64_t>;
  using I = vec<Int, int(sizeof(V))>;
  constexpr lane_t<V> magic = single ? lane_t<V>(12582912 + 127) : lane_t<V>(6755399441055744 + 1023);  // low bits of x + magic: n and the exponent's bias
  constexpr Int zero = single ? Int(0x4B400000) : Int(0x4338000000000000);
  constexpr int mantissa = single ? 23 : 52, most = single ? 255 : 2047;
  const V shifted = x + magic;
  I bits = (I)shifted;
  bits = bits < zero ? I{} + zero : bits;
  bits = bits > zero + most ? I{} + (zero + most) : bits;
  return exp2_mantissa(V(x - (shifted - magic))) * (V)(bits << mantissa);
}

// The same for |x| <= exp2_reach, in five operations less: n is added to the exponent of p.
template <class V> inline constexpr lane_t<V> exp2_reach = sizeof(lane_t<V>) == 4 ? 125 : 1021;
template <class V> IRSTD_INLINE V exp2_near(V x) {
  constexpr bool single = sizeof(lane_t<V>) == 4;
  using I = vec<std::conditional_t<single, int32_t, int64_t>, int(sizeof(V))>;
  constexpr lane_t<V> magic = single ? lane_t<V>(12582912) : lane_t<V>(6755399441055744);
  const V shifted = x + magic;
  return (V)((I)exp2_mantissa(V(x - (shifted - magic))) + ((I)shifted << (single ? 23 : 52)));
}

// log(1 + z) for 0 <= z <= 1, with every digit for small z too. float: z times a minimax polynomial of the relative error, 3e-8 and what rounding adds, with no
// division; double: 2 atanh(s), s = z / (2 + z) <= 1/3.
template <class V> IRSTD_INLINE V log1p_unit(V z) {
  if constexpr (sizeof(lane_t<V>) == 4) {
    constexpr float c[] = {-2.9505238765e-2f, 7.8225951859e-2f, -1.3663245793e-1f, 1.9106006760e-1f, -2.4842982214e-1f, 3.3319096808e-1f, -4.9999493140e-1f, 9.9999996988e-1f};
    V p = V{} + 5.2326942614e-3f;
#pragma GCC unroll 8
    for (float k : c) p = p * z + k;
    return p * z;
  } else {
    const V s = z / (z + 2), q = s * s;
    constexpr int terms = 17;
    V p = V{} + 1. / (2 * terms - 1);
#pragma GCC unroll 17
    for (int k = terms - 2; k >= 0; --k) p = p * q + 1. / (2 * k + 1);
    return 2 * s * p;
  }
}

template <class V> IRSTD_INLINE V abs(V x) { return x < 0 ? -x : x; }

// softplus(x) = max(x, 0) + log1p(e^-|x|), and its derivative, the logistic function of x: no digits are lost for x far below 0.
template <class V> IRSTD_INLINE V softplus(V x) { return (x > 0 ? x : V{}) + log1p_unit(simd::exp(V(-simd::abs(x)))); }
template <class V> IRSTD_INLINE V logistic(V x) {
  const V z = simd::exp(V(-simd::abs(x))), inverse = 1 / (1 + z);
  return x < 0 ? z * inverse : inverse;
}

template <int S, class V> struct LaneMasks {
  using I = vec<std::conditional_t<sizeof(lane_t<V>) == 4, int32_t, int64_t>, int(sizeof(V))>;
  // Lane i of the two vectors: a[i] or b[i] by bit S of i, and the partner i ^ S of the same vector.
  static IRSTD_INLINE I own() { I m{}; for (int i = 0; i < lanes<V>; ++i) m[i] = i & S ? lanes<V> + i : i; return m; }
  static IRSTD_INLINE I partner() { I m{}; for (int i = 0; i < lanes<V>; ++i) m[i] = i & S ? lanes<V> + (i ^ S) : i ^ S; return m; }
};

// One vector whose lanes with bit S unset hold pair sums of a, the others of b.
template <int S, class V> IRSTD_INLINE V fold(V a, V b) {
#ifdef __clang__
  V r;
  for (int i = 0; i < lanes<V>; ++i) r[i] = i & S ? b[i] + b[i ^ S] : a[i] + a[i ^ S];
  return r;
#else
  using M = LaneMasks<S, V>;
  return __builtin_shuffle(a, b, M::own()) + __builtin_shuffle(a, b, M::partner());
#endif
}

// The sums across lanes of M vectors (a power of two, at most the lanes), in the first M lanes: log2(M) rounds that halve the vectors, then their own halves.
template <int M, int S = 1, class V> IRSTD_INLINE V sums_across(const V* v) {
  if constexpr (S < M) {
    V half[M / (2 * S)];
#pragma GCC unroll 8
    for (int i = 0; i < M / (2 * S); ++i) half[i] = fold<S>(v[2 * i], v[2 * i + 1]);
    return sums_across<M, 2 * S>(half);
  } else if constexpr (S < lanes<V>) {
    const V folded = fold<S>(v[0], v[0]);
    return sums_across<M, 2 * S>(&folded);
  } else {
    return v[0];
  }
}

}  // namespace irstd::simd
