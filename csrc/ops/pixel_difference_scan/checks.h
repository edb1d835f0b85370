// What pixel_difference_scan accepts, on every device. The fake kernels in irstd_ext/ops/pixel_difference_scan.py follow the same rules in the same words.
#pragma once
#include "ops/pixel_difference/checks.h"
#include "ops/pixel_difference_scan/math.h"

namespace irstd::pixel_difference_scan {

// n = 0 without W.
struct Sizes { int64_t B, D, H, W, N, n; };

// The tensors of a call, in the order of the schema.
struct Arguments {
  const Tensor &u, &delta, &A, &B, &C;
  const std::optional<Tensor> &D_skip, &delta_bias, &W;
};

inline void check_maps(const char* op, const char* name, const Tensor& t, const Tensor& u, int64_t rows, const char* rows_are) {
  check_size(op, name, t, 0, u.size(0), "B of u");
  check_size(op, name, t, 1, kDirections, "directions");
  check_size(op, name, t, 2, rows, rows_are);
  check_size(op, name, t, 3, u.size(2), "H of u");
  check_size(op, name, t, 4, u.size(3), "W of u");
}

inline void check_row(const char* op, const char* name, const Tensor& t, const Tensor& u) {
  check_dim(op, name, t, 1, "[K*D]");
  check_size(op, name, t, 0, kDirections * u.size(1), "4 D of u");
}

inline Sizes check(const char* op, const Arguments& a) {
  pixel_difference::check_image(op, "u", a.u);
  check_dim(op, "delta", a.delta, 5, "[B, K, D, H, W]");
  check_dim(op, "A", a.A, 2, "[K*D, N]");
  check_dim(op, "B", a.B, 5, "[B, K, N, H, W]");
  check_dim(op, "C", a.C, 5, "[B, K, N, H, W]");
  check_maps(op, "delta", a.delta, a.u, a.u.size(1), "D of u");
  check_size(op, "A", a.A, 0, kDirections * a.u.size(1), "4 D of u");
  const int64_t N = a.A.size(1);
  if (N < 1) fail(op, ": A must have N >= 1 states, got N=0");
  check_maps(op, "B", a.B, a.u, N, "N of A");
  check_maps(op, "C", a.C, a.u, N, "N of A");
  if (a.D_skip) check_row(op, "D_skip", *a.D_skip, a.u);
  if (a.delta_bias) check_row(op, "delta_bias", *a.delta_bias, a.u);
  const int64_t n = a.W ? pixel_difference::check_weight_shape(op, *a.W, a.u) : 0;
  check_floating(op, "u", a.u);
  const std::pair<const char*, const Tensor*> maps[] = {{"delta", &a.delta}, {"B", &a.B}, {"C", &a.C}};
  for (const auto& [name, t] : maps) {
    check_same_dtype(op, name, *t, "u", a.u);
    check_same_device(op, name, *t, "u", a.u);
  }
  pixel_difference::check_parameter(op, "A", a.A, a.u);
  if (a.D_skip) pixel_difference::check_parameter(op, "D_skip", *a.D_skip, a.u);
  if (a.delta_bias) pixel_difference::check_parameter(op, "delta_bias", *a.delta_bias, a.u);
  if (a.W) pixel_difference::check_parameter(op, "W", *a.W, a.u);
  return {a.u.size(0), a.u.size(1), a.u.size(2), a.u.size(3), N, n};
}

}  // namespace irstd::pixel_difference_scan
