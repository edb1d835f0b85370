// pixel_difference_scan on CUDA: checks, workspace from torch's allocator, launch on torch's current stream.
#include "ops/pixel_difference_scan/cuda.h"

#include "common/device.h"
#include "common/tensor_view.h"
#include "ops/pixel_difference/cuda_checks.h"
#include "ops/pixel_difference_scan/checks.h"

namespace irstd::pixel_difference_scan {
namespace {

using Optional = std::optional<Tensor>;

Maps maps(const Tensor& t) { return {const_cast<void*>(t.const_data_ptr()), t.stride(0), t.stride(1), t.stride(2), t.stride(3), t.stride(4)}; }
Maps map_target(const Tensor& t) { return {t.mutable_data_ptr(), t.stride(0), t.stride(1), t.stride(2), t.stride(3), t.stride(4)}; }

// The small arguments dense in the dtype computed in; they live as long as this object.
struct Prepared {
  Tensor rate;
  Optional skip, bias, weight;
  Inputs in;
  Prepared(const Arguments& a, double gamma, bool softplus, const Sizes& s)
      : rate(dense(a.A, accum_dtype(a.u))), skip(dense_or_none(a.D_skip, a.u)), bias(dense_or_none(a.delta_bias, a.u)), weight(dense_or_none(a.W, a.u)),
        in{dtype_of(a.u), s.B, s.D, s.H, s.W, s.N, s.n, view(a.u), maps(a.delta), maps(a.B), maps(a.C), rate.const_data_ptr(), data(skip), data(bias), data(weight), gamma,
           softplus} {}

  static Optional dense_or_none(const Optional& t, const Tensor& u) { return t ? Optional(dense(*t, accum_dtype(u))) : std::nullopt; }
  static const void* data(const Optional& t) { return t ? t->const_data_ptr() : nullptr; }
};

Tensor forward_cuda(const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B, const Tensor& C, const Optional& D_skip, const Optional& delta_bias,
                    const Optional& W, double gamma, bool delta_softplus) {
  const Arguments arguments{u, delta, A, B, C, D_skip, delta_bias, W};
  const char* op = "pixel_difference_scan";
  const Sizes s = check(op, arguments);
  pixel_difference::check_counts(op, s.H, s.W, s.n);
  const OnDevice device(u);
  const Prepared a(arguments, gamma, delta_softplus, s);
  const Tensor out = torch::stable::empty_like(u), workspace = torch::stable::new_empty(a.rate, {forward_workspace(a.in)});
  STD_CUDA_CHECK(forward(a.in, target(out), workspace.mutable_data_ptr(), device.stream));
  return out;
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> backward_cuda(const Tensor& grad, const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B,
                                                                                         const Tensor& C, const Optional& D_skip, const Optional& delta_bias, const Optional& W,
                                                                                         double gamma, bool delta_softplus) {
  const char* op = "pixel_difference_scan_backward";
  const Arguments arguments{u, delta, A, B, C, D_skip, delta_bias, W};
  const Sizes s = check(op, arguments);
  pixel_difference::check_grad(op, grad, u);
  pixel_difference::check_counts(op, s.H, s.W, s.n);
  const OnDevice device(u);
  const Prepared a(arguments, gamma, delta_softplus, s);
  const Tensor du = torch::stable::empty_like(u), ddelta = torch::stable::empty_like(delta), dB = torch::stable::empty_like(B), dC = torch::stable::empty_like(C);
  auto like = [](const Optional& t) { return t ? torch::stable::empty_like(*t) : Optional(); };
  const Tensor dA = torch::stable::empty_like(a.rate), workspace = torch::stable::new_empty(a.rate, {backward_workspace(a.in)});
  const Optional dskip = like(a.skip), dbias = like(a.bias), dW = like(a.weight);
  auto data = [](const Optional& t) { return t ? t->mutable_data_ptr() : nullptr; };
  const Gradients to{target(du), map_target(ddelta), map_target(dB), map_target(dC), dA.mutable_data_ptr(), data(dskip), data(dbias), data(dW)};
  STD_CUDA_CHECK(backward(a.in, view(grad), to, workspace.mutable_data_ptr(), device.stream));
  auto as = [&](const Optional& t, const Optional& argument) { return t ? torch::stable::to(*t, argument->scalar_type()) : torch::stable::new_empty(a.rate, {int64_t(0)}); };
  return {du, ddelta, torch::stable::to(dA, A.scalar_type()), dB, dC, as(dskip, D_skip), as(dbias, delta_bias), as(dW, W)};
}

}  // namespace

IRSTD_CUDA_KERNELS(m) {
  m.impl("pixel_difference_scan", TORCH_BOX(&forward_cuda));
  m.impl("pixel_difference_scan_backward", TORCH_BOX(&backward_cuda));
}

}  // namespace irstd::pixel_difference_scan
