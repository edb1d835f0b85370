// linear_cross_attention on CUDA: checks, workspace from torch's allocator, launch on torch's current stream.
#include "ops/linear_cross_attention/cuda.h"

#include "common/device.h"
#include "ops/linear_cross_attention/checks.h"

namespace irstd::linear_cross_attention {
namespace {

View view(const Tensor& t) { return {const_cast<void*>(t.const_data_ptr()), t.stride(0), t.stride(1), t.stride(2), t.stride(3)}; }
View target(const Tensor& t) { return {t.mutable_data_ptr(), t.stride(0), t.stride(1), t.stride(2), t.stride(3)}; }

Inputs inputs(const Tensor& q, const Tensor& k, const Tensor& v, double eps, const Sizes& s) {
  return {dtype_of(q), s.B, s.h, s.N, s.M, s.d, s.e, view(q), view(k), view(v), eps};
}

Tensor workspace(const Tensor& like, int64_t numbers) { return torch::stable::new_empty(like, {numbers}, accum_dtype(like)); }

Tensor forward_cuda(const Tensor& q, const Tensor& k, const Tensor& v, double eps) {
  const Sizes s = check("linear_cross_attention", q, k, v, eps);
  const OnDevice device(q);
  Tensor out = empty_like_layout(q, s.N, s.e);
  const Inputs in = inputs(q, k, v, eps, s);
  const Tensor space = workspace(q, forward_workspace(in));
  STD_CUDA_CHECK(forward(in, target(out), space.mutable_data_ptr(), device.stream));
  return out;
}

std::tuple<Tensor, Tensor, Tensor> backward_cuda(const Tensor& grad, const Tensor& q, const Tensor& k, const Tensor& v, double eps) {
  const char* op = "linear_cross_attention_backward";
  const Sizes s = check(op, q, k, v, eps);
  check_grad(op, grad, q, s);
  const OnDevice device(q);
  Tensor dq = empty_like_layout(q, s.N, s.d), dk = empty_like_layout(k, s.M, s.d), dv = empty_like_layout(v, s.M, s.e);
  const Inputs in = inputs(q, k, v, eps, s);
  const Tensor space = workspace(q, backward_workspace(in));
  STD_CUDA_CHECK(backward(in, view(grad), target(dq), target(dk), target(dv), space.mutable_data_ptr(), device.stream));
  return {dq, dk, dv};
}

}  // namespace

IRSTD_CUDA_KERNELS(m) {
  m.impl("linear_cross_attention", TORCH_BOX(&forward_cuda));
  m.impl("linear_cross_attention_backward", TORCH_BOX(&backward_cuda));
}

}  // namespace irstd::linear_cross_attention
