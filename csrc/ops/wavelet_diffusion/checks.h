// What wavelet_diffusion accepts, on every device. The fake kernels in irstd_ext/ops/wavelet_diffusion.py follow the same rules in the same words.
#pragma once
#include "common/checks.h"

namespace irstd::wavelet_diffusion {

struct Sizes { int64_t B, C, H, W; };

inline Sizes check(const char* op, const Tensor& u, const Tensor& k, int64_t steps) {
  check_dim(op, "u", u, 4, "[B, C, H, W]");
  check_dim(op, "k", k, 1, "[C]");
  check_size(op, "k", k, 0, u.size(1), "C of u");
  if (steps < 0) fail(op, ": steps must be >= 0, got ", steps);
  check_floating(op, "u", u);
  check_parameter_dtype(op, "k", k, "u", u);
  check_same_device(op, "k", k, "u", u);
  return {u.size(0), u.size(1), u.size(2), u.size(3)};
}

inline void check_grad(const char* op, const Tensor& grad, const Tensor& u) {
  check_dim(op, "grad", grad, 4, "[B, C, H, W]");
  const char* of[] = {"B of u", "C of u", "H of u", "W of u"};
  for (int64_t axis = 0; axis < 4; ++axis) check_size(op, "grad", grad, axis, u.size(axis), of[axis]);
  check_same_dtype(op, "grad", grad, "u", u);
  check_same_device(op, "grad", grad, "u", u);
}

}  // namespace irstd::wavelet_diffusion
