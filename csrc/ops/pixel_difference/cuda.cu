// pixel_difference on CUDA. Threads are channels (or columns, where these lie closer together) times columns, and walk down a few rows with the window of
// a pixel in registers: memory bound, one image read and one written. n = 2 is known to the compiler; any other n reads around every pixel.
#include "ops/pixel_difference/cuda.h"

#include "ops/pixel_difference/cuda_backward.h"

namespace irstd::pixel_difference {

namespace {

template <class F> auto with_accumulator(DType type, F f) { return type == DType::f64 ? f(double()) : f(float()); }

}  // namespace

int64_t backward_workspace(const Inputs& in) {
  return with_accumulator(in.dtype, [&](auto a) { return backward_numbers(field<decltype(a)>(in)); });
}

cudaError_t forward(const Inputs& in, View out, cudaStream_t stream) {
  if (in.B * in.D * in.H * in.W == 0) return cudaSuccess;
  with_accumulator(in.dtype, [&](auto a) { launch_forward(field<decltype(a)>(in), Image(in.u, in.dtype), Image(out, in.dtype), stream); });
  return cudaGetLastError();
}

cudaError_t backward(const Inputs& in, View grad, View du, void* dW, void* workspace, cudaStream_t stream) {
  with_accumulator(in.dtype, [&](auto a) {
    using A = decltype(a);
    launch_backward(field<A>(in), Image(in.u, in.dtype), Image(grad, in.dtype), Parts<A>{}, Parts<A>{}, Image(du, in.dtype), (A*)dW, (A*)workspace, stream);
  });
  return cudaGetLastError();
}

}  // namespace irstd::pixel_difference
