// pixel_difference on CUDA: checks, workspace from torch's allocator, launch on torch's current stream.
#include "ops/pixel_difference/cuda.h"

#include "common/device.h"
#include "common/tensor_view.h"
#include "ops/pixel_difference/checks.h"
#include "ops/pixel_difference/cuda_checks.h"

namespace irstd::pixel_difference {
namespace {

Inputs inputs(const Tensor& u, const Tensor& weight, double gamma, const Sizes& s) {
  return {dtype_of(u), s.B, s.D, s.H, s.W, s.n, view(u), weight.const_data_ptr(), gamma};
}

Tensor forward_cuda(const Tensor& u, const Tensor& W, double gamma) {
  const char* op = "pixel_difference";
  const Sizes s = check(op, u, W);
  check_counts(op, s.H, s.W, s.n);
  const OnDevice device(u);
  const Tensor out = torch::stable::empty_like(u), weight = dense(W, accum_dtype(u));
  STD_CUDA_CHECK(forward(inputs(u, weight, gamma, s), target(out), device.stream));
  return out;
}

std::tuple<Tensor, Tensor> backward_cuda(const Tensor& grad, const Tensor& u, const Tensor& W, double gamma) {
  const char* op = "pixel_difference_backward";
  const Sizes s = check(op, u, W);
  check_grad(op, grad, u);
  check_counts(op, s.H, s.W, s.n);
  const OnDevice device(u);
  const Tensor du = torch::stable::empty_like(u), weight = dense(W, accum_dtype(u));
  const Inputs in = inputs(u, weight, gamma, s);
  const Tensor dW = torch::stable::new_empty(weight, {2, s.n, s.D}), workspace = torch::stable::new_empty(weight, {backward_workspace(in)});
  STD_CUDA_CHECK(backward(in, view(grad), target(du), dW.mutable_data_ptr(), workspace.mutable_data_ptr(), device.stream));
  return {du, torch::stable::to(dW, W.scalar_type())};
}

}  // namespace

IRSTD_CUDA_KERNELS(m) {
  m.impl("pixel_difference", TORCH_BOX(&forward_cuda));
  m.impl("pixel_difference_backward", TORCH_BOX(&backward_cuda));
}

}  // namespace irstd::pixel_difference
