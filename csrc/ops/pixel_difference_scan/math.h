// Selective scan along four directions of an image (IRMamba, AAAI 2025, Eq. 5 and 8, in this project's reading), direction k, channel d, state j:
//   h_j(t) = exp(delta_t A_j) h_j(t-1) + delta_t B_j(t) u(t) + p(t),     h_j(-1) = 0,     delta = softplus(delta_raw + delta_bias)
//   y_k(t) = sum_j C_j(t) h_j(t) + D_skip_k u(t),                        y = sum_k y_k at the pixel that step t visits
// p is the neighbour term of ../pixel_difference/math.h. Backward, g_j(t) = C_j(t) dy(t) + exp(delta_{t+1} A_j) g_j(t+1), hp_j(t) = exp(delta_t A_j) h_j(t-1):
//   dC_j = sum_d dy h_j     dB_j = sum_d g_j delta u     dp = sum_j g_j     ddelta = sum_j g_j (A_j hp_j + B_j u)
//   dA_j = sum_{b,t} g_j delta hp_j     du = sum_j g_j delta B_j + D_skip dy     dD_skip = sum_{b,t} dy u     ddelta_raw = ddelta logistic(delta_raw + delta_bias)
#pragma once
#include <cstdint>

#include "common/hd.h"

namespace irstd::pixel_difference_scan {

constexpr int kDirections = 4;
constexpr double kLog2e = 1.44269504088896340736;

// Lines of an image that a direction walks one after the other: rows (directions 0 and 2) or columns (1 and 3); 2 and 3 walk all of it backwards.
IRSTD_HD bool by_columns(int k) { return k & 1; }
IRSTD_HD bool backwards(int k) { return k & 2; }

struct Pixel { int64_t row, column; };

// The pixel that direction k visits at step t.
IRSTD_HD Pixel pixel_at(int k, int64_t t, int64_t H, int64_t W) {
  if (backwards(k)) t = H * W - 1 - t;
  return by_columns(k) ? Pixel{t % H, t / H} : Pixel{t / W, t % W};
}

}  // namespace irstd::pixel_difference_scan
