// What linear_cross_attention accepts, on every device. The fake kernels in irstd_ext/ops/linear_cross_attention.py follow the same rules in the same words.
#pragma once
#include "common/checks.h"

namespace irstd::linear_cross_attention {

struct Sizes { int64_t B, h, N, M, d, e; };

inline Sizes check(const char* op, const Tensor& q, const Tensor& k, const Tensor& v, double eps) {
  if (!(eps >= 0)) fail(op, ": eps must be >= 0, got ", eps);
  check_dim(op, "q", q, 4, "[B, h, N, d]");
  check_dim(op, "k", k, 4, "[B, h, M, d]");
  check_dim(op, "v", v, 4, "[B, h, M, e]");
  const Sizes s{q.size(0), q.size(1), q.size(2), k.size(2), q.size(3), v.size(3)};
  check_size(op, "k", k, 0, s.B, "B of q");
  check_size(op, "k", k, 1, s.h, "h of q");
  check_size(op, "k", k, 3, s.d, "d of q");
  check_size(op, "v", v, 0, s.B, "B of q");
  check_size(op, "v", v, 1, s.h, "h of q");
  check_size(op, "v", v, 2, s.M, "M of k");
  if (s.M == 0) fail(op, ": k must hold at least one token, got M=0");
  check_floating(op, "q", q);
  check_same_dtype(op, "k", k, "q", q);
  check_same_device(op, "k", k, "q", q);
  check_same_dtype(op, "v", v, "q", q);
  check_same_device(op, "v", v, "q", q);
  return s;
}

inline void check_grad(const char* op, const Tensor& grad, const Tensor& q, const Sizes& s) {
  check_dim(op, "grad", grad, 4, "[B, h, N, e]");
  check_size(op, "grad", grad, 0, s.B, "B of q");
  check_size(op, "grad", grad, 1, s.h, "h of q");
  check_size(op, "grad", grad, 2, s.N, "N of q");
  check_size(op, "grad", grad, 3, s.e, "e of v");
  check_same_dtype(op, "grad", grad, "q", q);
  check_same_device(op, "grad", grad, "q", q);
}

// Dense [B, h, n, f]; tokens innermost in memory where they are so in `like`.
inline Tensor empty_like_layout(const Tensor& like, int64_t n, int64_t f) {
  const int64_t B = like.size(0), h = like.size(1);
  if (like.stride(2) == 1 && like.stride(3) != 1 && like.size(3) > 1) return torch::stable::transpose(torch::stable::new_empty(like, {B, h, f, n}), 2, 3);
  return torch::stable::new_empty(like, {B, h, n, f});
}

}  // namespace irstd::linear_cross_attention
