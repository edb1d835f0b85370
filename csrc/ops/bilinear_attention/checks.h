// What bilinear_attention accepts, on every device. The fake kernels in irstd_ext/ops/bilinear_attention.py follow the same rules in the same words.
#pragma once
#include "common/checks.h"

namespace irstd::bilinear_attention {

struct Sizes { int64_t B, C, L, M, E; };

inline Sizes check(const char* op, const Tensor& q, const Tensor& k, const Tensor& weight, const Tensor& value, const Tensor& gamma) {
  check_dim(op, "q", q, 2, "[B, L]");
  check_dim(op, "k", k, 2, "[B, M]");
  check_dim(op, "weight", weight, 1, "[C]");
  check_dim(op, "value", value, 4, "[B, C, M, E]");
  if (gamma.dim() > 1 || gamma.numel() != 1) fail(op, ": gamma must hold one number, got shape ", shape_of(gamma));
  const Sizes s{value.size(0), value.size(1), q.size(1), value.size(2), value.size(3)};
  check_size(op, "q", q, 0, s.B, "B of value");
  check_size(op, "k", k, 0, s.B, "B of value");
  check_size(op, "k", k, 1, s.M, "M of value");
  check_size(op, "weight", weight, 0, s.C, "C of value");
  if (s.M == 0) fail(op, ": value must have M >= 1 rows to attend to, got M=0");
  check_floating(op, "value", value);
  const std::pair<const char*, const Tensor*> small[] = {{"q", &q}, {"k", &k}, {"weight", &weight}, {"gamma", &gamma}};
  for (const auto& [name, t] : small) {
    check_same_device(op, name, *t, "value", value);
    check_parameter_dtype(op, name, *t, "value", value);
  }
  return s;
}

inline void check_out_like(const char* op, const char* name, const Tensor& t, const Tensor& value, const Sizes& s) {
  check_dim(op, name, t, 4, "[B, C, L, E]");
  check_size(op, name, t, 0, s.B, "B of value");
  check_size(op, name, t, 1, s.C, "C of value");
  check_size(op, name, t, 2, s.L, "L of q");
  check_size(op, name, t, 3, s.E, "E of value");
  check_same_dtype(op, name, t, "value", value);
  check_same_device(op, name, t, "value", value);
}

// residual, or value where it is None.
inline Tensor check_residual(const char* op, const std::optional<Tensor>& residual, const Tensor& value, const Sizes& s) {
  if (!residual) {
    if (s.L != s.M) fail(op, ": residual is required unless L == M, got L=", s.L, ", M=", s.M);
    return value;
  }
  check_out_like(op, "residual", *residual, value, s);
  return *residual;
}

inline void check_bias(const char* op, const std::optional<Tensor>& bias, const Tensor& value, const Sizes& s) {
  if (!bias) return;
  check_dim(op, "bias", *bias, 1, "[C]");
  check_size(op, "bias", *bias, 0, s.C, "C of value");
  check_same_device(op, "bias", *bias, "value", value);
  check_parameter_dtype(op, "bias", *bias, "value", value);
}

}  // namespace irstd::bilinear_attention
