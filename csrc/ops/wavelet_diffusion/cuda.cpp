// wavelet_diffusion on CUDA: checks, workspace from torch's allocator, launch on torch's current stream.
#include "ops/wavelet_diffusion/cuda.h"

#include "common/device.h"
#include "common/tensor_view.h"
#include "ops/wavelet_diffusion/checks.h"

namespace irstd::wavelet_diffusion {
namespace {

Inputs inputs(const Tensor& u, const Tensor& contrast, int64_t steps, bool all_high, const Sizes& s) {
  return {dtype_of(u), s.B, s.C, s.H, s.W, steps, all_high, view(u), contrast.const_data_ptr()};
}

Tensor forward_cuda(const Tensor& u, const Tensor& k, int64_t steps, bool all_high) {
  const Sizes s = check("wavelet_diffusion", u, k, steps);
  const OnDevice device(u);
  const Tensor out = torch::stable::empty_like(u), contrast = dense(k, accum_dtype(u));
  const Inputs in = inputs(u, contrast, steps, all_high, s);
  const Tensor workspace = torch::stable::new_empty(contrast, {forward_workspace(in)});
  STD_CUDA_CHECK(forward(in, target(out), workspace.mutable_data_ptr(), device.stream));
  return out;
}

std::tuple<Tensor, Tensor> backward_cuda(const Tensor& grad, const Tensor& u, const Tensor& k, int64_t steps, bool all_high) {
  const char* op = "wavelet_diffusion_backward";
  const Sizes s = check(op, u, k, steps);
  check_grad(op, grad, u);
  const OnDevice device(u);
  const Tensor du = torch::stable::empty_like(u), contrast = dense(k, accum_dtype(u));
  const Inputs in = inputs(u, contrast, steps, all_high, s);
  const Tensor dk = torch::stable::new_empty(contrast, {s.C}), workspace = torch::stable::new_empty(contrast, {backward_workspace(in)});
  STD_CUDA_CHECK(backward(in, view(grad), target(du), dk.mutable_data_ptr(), workspace.mutable_data_ptr(), device.stream));
  return {du, torch::stable::to(dk, k.scalar_type())};
}

}  // namespace

IRSTD_CUDA_KERNELS(m) {
  m.impl("wavelet_diffusion", TORCH_BOX(&forward_cuda));
  m.impl("wavelet_diffusion_backward", TORCH_BOX(&backward_cuda));
}

}  // namespace irstd::wavelet_diffusion
