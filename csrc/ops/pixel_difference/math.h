// Neighbour term of IRMamba (AAAI 2025, Eq. 6-10, in this project's reading) at one pixel of one channel, windows i = 1..n:
//   Dl_e^(i) = sum_{k<i} [u(k e) - u((k+1) e)] / (2k+1)      for the four unit vectors e; coordinates outside the image clamp to its border
//   G = sum_i W[0,i] (Dl_{+x}^(i) + Dl_{-x}^(i)) + W[1,i] (Dl_{+y}^(i) + Dl_{-y}^(i))
//   Theta = population deviation of u over the (2n+1) x (2n+1) window,      m = the mean of the four Dl_e^(n)
//   f = gamma + (all four Dl_e^(n) > Theta > 0 ? tanh(m / Theta - 1) : 0),      p = f G
// Backward, with dp: dG = f dp; where all four exceed Theta also df = G dp, dm = (1 - (f - gamma)^2) df / Theta, dTheta = -m / Theta dm.
// The comparison carries no gradient. Theta > 0 matters only where squares of tiny differences underflow: else all differences are 0 with it.
#pragma once
#include <cstdint>

#include "common/hd.h"

namespace irstd::pixel_difference {

// Weight of the k-th difference along an arm.
template <class A> IRSTD_HD A share(int64_t k) { return A(1) / A(2 * k + 1); }

// A coordinate, replicated beyond the border of [0, size).
IRSTD_HD int64_t clamped(int64_t x, int64_t size) { return x < 0 ? 0 : x >= size ? size - 1 : x; }

// What the gate does in case 1 beyond gamma, from tanh(m / Theta - 1): its derivatives by m and by Theta, for an incoming df.
template <class V> struct GateSlope { V m, theta; };
template <class V> IRSTD_HD GateSlope<V> gate_slope(V tanh_of, V m, V theta, V df) {
  const V dm = (1 - tanh_of * tanh_of) * df / theta;
  return {dm, -(m / theta) * dm};
}

}  // namespace irstd::pixel_difference
