// What pixel_difference accepts, on every device. The fake kernels in irstd_ext/ops/pixel_difference.py follow the same rules in the same words.
#pragma once
#include "common/checks.h"

namespace irstd::pixel_difference {

struct Sizes { int64_t B, D, H, W, n; };

inline void check_image(const char* op, const char* name, const Tensor& t) {
  check_dim(op, name, t, 4, "[B, D, H, W]");
}

// W [2, n, D] beside u [B, D, H, W]: shapes, then what the two must share. n of W.
inline int64_t check_weight_shape(const char* op, const Tensor& W, const Tensor& u) {
  check_dim(op, "W", W, 3, "[2, n, D]");
  check_size(op, "W", W, 0, 2, "axes");
  check_size(op, "W", W, 2, u.size(1), "D of u");
  if (W.size(1) < 1) fail(op, ": W must have n >= 1 windows, got n=0");
  return W.size(1);
}

inline void check_parameter(const char* op, const char* name, const Tensor& t, const Tensor& u) {
  check_parameter_dtype(op, name, t, "u", u);
  check_same_device(op, name, t, "u", u);
}

inline Sizes check(const char* op, const Tensor& u, const Tensor& W) {
  check_image(op, "u", u);
  const int64_t n = check_weight_shape(op, W, u);
  check_floating(op, "u", u);
  check_parameter(op, "W", W, u);
  return {u.size(0), u.size(1), u.size(2), u.size(3), n};
}

inline void check_grad(const char* op, const Tensor& grad, const Tensor& u) {
  check_image(op, "grad", grad);
  const char* of[] = {"B of u", "D of u", "H of u", "W of u"};
  for (int64_t axis = 0; axis < 4; ++axis) check_size(op, "grad", grad, axis, u.size(axis), of[axis]);
  check_same_dtype(op, "grad", grad, "u", u);
  check_same_device(op, "grad", grad, "u", u);
}

}  // namespace irstd::pixel_difference
