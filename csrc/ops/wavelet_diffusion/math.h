// Perona-Malik diffusion by undecimated Haar bands (IRSAM, ECCV 2024, Eq. 1-4, in this project's sound reading), one unit step, u <- u - W^T g W u.
// Of every cell of 2 x 2 pixels (a b / c d) inside the image, e = d - a, f = b - c, g = 1 / (1 + (e^2 + f^2) / (8 k^2)):
//   a += g e / 8     d -= g e / 8     b -= g f / 8     c += g f / 8
// and with all_high, X = (a + d) - (b + c):     b, c += g X / 16     a, d -= g X / 16     (all corners go to their mean by g / 4)
// Backward, y the gradient of the step's result, E = y_d - y_a, F = y_b - y_c, Y = (y_a + y_d) - (y_b + y_c): the same stencil on y with this g, less the part that
// comes from g, with S = (e E + f F [+ X Y / 2]) / k and t = 2 (g / 8) S:
//   flow of e: g E / 8 - t (g / 8) e / k     of f: g F / 8 - t (g / 8) f / k     of X: g Y / 16     dk = -sum t (g / 8) (e^2 + f^2) / k^2
// e and f are divided by k before they are squared, and 1 - g is never formed by a subtraction: every digit in float32 for contrasts e / k up to 1e19, beyond which g is 0.
#pragma once
#include <limits>

#include "common/hd.h"

namespace irstd::wavelet_diffusion {

template <class A> constexpr A kLargest = std::numeric_limits<A>::max();

// 1 / k; where that is too large for a number, the largest one, so that equal pixels stay equal. k = 0 stays an error that is seen: infinity.
template <class A> IRSTD_HD A inverse(A k) {
  const A x = 1 / k;
  return x > kLargest<A> && k != 0 ? kLargest<A> : x;
}

// What a cell moves: e to a and from d, f to c and from b, x to b and c and from a and d.
template <class V> struct Flow { V e, f, x; };

// V: a number or a vector of them.
template <bool AllHigh, class V> IRSTD_HD Flow<V> flow(V a, V b, V c, V d, V per_k) {
  const V e = d - a, f = b - c, p = e * per_k, q = f * per_k, share = 1 / (p * p + (q * q + 8));
  if constexpr (AllHigh) return {share * e, share * f, share * (((a + d) - (b + c)) / 2)};
  else return {share * e, share * f, V{}};
}

template <bool AllHigh, class V> IRSTD_HD Flow<V> flow_backward(V a, V b, V c, V d, V ya, V yb, V yc, V yd, V per_k, V& dk) {
  const V p = (d - a) * per_k, q = (b - c) * per_k, E = yd - ya, F = yb - yc;
  const V share = 1 / (p * p + (q * q + 8)), from_p = share * p, from_q = share * q;
  V t = from_p * E + from_q * F, x{};  // with share, without which the products might be too large
  if constexpr (AllHigh) {
    const V Y = (ya + yd) - (yb + yc);
    t += share * ((a + d) - (b + c)) * per_k * (Y / 2);
    x = share * (Y / 2);
  }
  t = 2 * t;
  dk = -t * (p * from_p + q * from_q);
  return {share * E - t * from_p, share * F - t * from_q, x};
}

}  // namespace irstd::wavelet_diffusion
