// bilinear_attention on CUDA: checks, workspace from torch's allocator, launch on torch's current stream.
#include "ops/bilinear_attention/cuda.h"

#include "common/device.h"
#include "ops/bilinear_attention/checks.h"

namespace irstd::bilinear_attention {
namespace {

View view(const Tensor& t) { return {t.const_data_ptr(), t.stride(0), t.stride(1), t.stride(2), t.stride(3)}; }

// The small arguments dense in the dtype computed in; they live as long as this object.
struct Arguments {
  Tensor q, k, weight, gamma;
  Inputs in;
  Arguments(const Tensor& q_, const Tensor& k_, const Tensor& weight_, const Tensor& gamma_, const Tensor& value, const Sizes& s)
      : q(dense(q_, accum_dtype(value))), k(dense(k_, accum_dtype(value))), weight(dense(weight_, accum_dtype(value))), gamma(dense(gamma_, accum_dtype(value))),
        in{dtype_of(value), s.B, s.C, s.L, s.M, s.E, q.const_data_ptr(), k.const_data_ptr(), weight.const_data_ptr(), gamma.const_data_ptr(), view(value)} {}
};

Tensor forward_cuda(const Tensor& q, const Tensor& k, const Tensor& weight, const Tensor& value, const Tensor& gamma, const std::optional<Tensor>& residual,
                    const std::optional<Tensor>& bias) {
  const char* op = "bilinear_attention";
  const Sizes s = check(op, q, k, weight, value, gamma);
  const Tensor res = check_residual(op, residual, value, s);
  check_bias(op, bias, value, s);
  const OnDevice device(value);
  Tensor out = torch::stable::new_empty(value, {s.B, s.C, s.L, s.E});
  const Arguments a(q, k, weight, gamma, value, s);
  STD_CUDA_CHECK(forward(a.in, view(res), out.mutable_data_ptr(), device.stream));
  return out;
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> backward_cuda(const Tensor& grad, const Tensor& q, const Tensor& k, const Tensor& weight,
                                                                 const Tensor& value, const Tensor& gamma, bool add_grad) {
  const char* op = "bilinear_attention_backward";
  const Sizes s = check(op, q, k, weight, value, gamma);
  check_out_like(op, "grad", grad, value, s);
  if (add_grad && s.L != s.M) fail(op, ": add_grad needs L == M, got L=", s.L, ", M=", s.M);
  const OnDevice device(value);
  const Arguments a(q, k, weight, gamma, value, s);
  Tensor d_value = torch::stable::new_empty(value, {s.B, s.C, s.M, s.E});
  Tensor dq = torch::stable::new_empty(a.q, {s.B, s.L}), dk = torch::stable::new_empty(a.q, {s.B, s.M}), dw = torch::stable::new_empty(a.q, {s.C});
  Tensor dg = torch::stable::new_empty(a.q, {int64_t(1)}), workspace = torch::stable::new_empty(a.q, {backward_workspace(a.in)});
  STD_CUDA_CHECK(backward(a.in, view(grad), add_grad, workspace.mutable_data_ptr(), dq.mutable_data_ptr(), dk.mutable_data_ptr(), dw.mutable_data_ptr(),
                          d_value.mutable_data_ptr(), dg.mutable_data_ptr(), device.stream));
  auto as = [](const Tensor& t, const Tensor& like) { return torch::stable::to(t, like.scalar_type()); };
  const Tensor d_gamma = as(dg, gamma);
  return {as(dq, q), as(dk, k), as(dw, weight), d_value, gamma.dim() == 0 ? torch::stable::squeeze(d_gamma, 0) : d_gamma};
}

}  // namespace

IRSTD_CUDA_KERNELS(m) {
  m.impl("bilinear_attention", TORCH_BOX(&forward_cuda));
  m.impl("bilinear_attention_backward", TORCH_BOX(&backward_cuda));
}

}  // namespace irstd::bilinear_attention
