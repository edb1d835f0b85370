// wavelet_diffusion on CUDA. Several steps are one sweep over the image, which is read and written once; more steps than fit into the registers are several
// sweeps, as even as can be. Backward takes the sweeps from the last to the first, each from the image that it began with.
#include "ops/wavelet_diffusion/cuda.h"

#include <algorithm>

#include "common/sums.h"
#include "ops/wavelet_diffusion/cuda_backward.h"

namespace irstd::wavelet_diffusion {

namespace {

template <class F> auto with_accumulator(DType type, F f) { return type == DType::f64 ? f(double()) : f(float()); }

bool empty(const Inputs& in) { return in.B == 0 || in.C == 0 || in.H == 0 || in.W == 0; }
bool copies(const Inputs& in) { return in.steps == 0 || in.H < 2 || in.W < 2; }
int64_t numbers(const Inputs& in) { return in.B * in.C * in.H * in.W; }

template <class A> int most_backward(bool all_high) {
  return with_bands(all_high, [](auto high) { return kBackwardSteps<A, high()>; });
}

struct Sweeps {
  int64_t steps, count;
  Sweeps(const Inputs& in, int most) : steps(empty(in) || copies(in) ? 0 : in.steps), count(tile::ceil_div(steps, most)) {}
  int of(int64_t sweep) const { return int(steps / count + (sweep < steps % count)); }
};

// A dense image in the workspace, in the order of u.
template <class A> Image dense_image(const Inputs& in, A* data) {
  const DType type = sizeof(A) == 8 ? DType::f64 : DType::f32;
  if (field<A>(in, 0).along_channels) return Image(View{data, in.H * in.W * in.C, 1, in.W * in.C, in.C}, type);
  return Image(View{data, in.C * in.H * in.W, in.H * in.W, in.W, 1}, type);
}

template <class A> int64_t tiles(const Inputs& in, int steps) { return field<A>(in, backward_halo(steps)).tiles(); }

template <class A> void backward_sweeps(const Inputs& in, const Image& grad, const Image& du, A* dk, A* workspace, cudaStream_t stream) {
  const Sweeps sweeps(in, most_backward<A>(in.all_high));
  const int64_t last = sweeps.count - 1;
  A* part = workspace + (last > 0 ? sweeps.count : 0) * numbers(in);
  int64_t rows = 0;
  auto begun = [&](int64_t sweep) { return sweep == 0 ? Image(in.u, in.dtype) : dense_image(in, workspace + sweep * numbers(in)); };  // with this image
  auto left = [&](int64_t sweep) {  // the gradient that a sweep leaves: in turn where nothing was, and what the last sweep began with
    return sweep == 0 ? du : dense_image(in, workspace + ((last - sweep) % 2 ? last : 0) * numbers(in));
  };
  for (int64_t s = 0; s < last; ++s) {
    launch_forward<A>(in, sweeps.of(s), begun(s), begun(s + 1), stream);
  }
  for (int64_t s = last; s >= 0; --s) {
    launch_backward<A>(in, sweeps.of(s), begun(s), s == last ? grad : left(s + 1), left(s), part + rows * in.C, stream);
    rows += tiles<A>(in, sweeps.of(s));
  }
  launch_sums(Sums<A, 1>{{{part, dk, 1, rows, in.C}}}, stream);
}

}  // namespace

// One image between two sweeps, two for more.
int64_t forward_workspace(const Inputs& in) {
  return with_accumulator(in.dtype, [&](auto a) { return std::clamp(Sweeps(in, kForwardSteps<decltype(a)>).count - 1, int64_t(0), int64_t(2)) * numbers(in); });
}

// Beyond one sweep an image for each; and the parts of dk.
int64_t backward_workspace(const Inputs& in) {
  return with_accumulator(in.dtype, [&](auto a) {
    using A = decltype(a);
    const Sweeps sweeps(in, most_backward<A>(in.all_high));
    int64_t rows = 0;
    for (int64_t s = 0; s < sweeps.count; ++s) rows += tiles<A>(in, sweeps.of(s));
    return (sweeps.count > 1 ? sweeps.count : 0) * numbers(in) + rows * in.C;
  });
}

cudaError_t forward(const Inputs& in, View out, void* workspace, cudaStream_t stream) {
  if (empty(in)) return cudaSuccess;
  with_accumulator(in.dtype, [&](auto a) {
    using A = decltype(a);
    const Sweeps sweeps(in, kForwardSteps<A>);
    auto between = [&](int64_t sweep) { return dense_image(in, (A*)workspace + sweep % 2 * numbers(in)); };
    const Image u(in.u, in.dtype), to(out, in.dtype);
    if (sweeps.count == 0) launch_forward<A>(in, 0, u, to, stream);
    for (int64_t s = 0; s < sweeps.count; ++s)
      launch_forward<A>(in, sweeps.of(s), s == 0 ? u : between(s - 1), s + 1 == sweeps.count ? to : between(s), stream);
  });
  return cudaGetLastError();
}

cudaError_t backward(const Inputs& in, View grad, View du, void* dk, void* workspace, cudaStream_t stream) {
  with_accumulator(in.dtype, [&](auto a) {
    using A = decltype(a);
    const Image from(grad, in.dtype), to(du, in.dtype);
    if (!empty(in) && copies(in)) launch_forward<A>(in, 0, from, to, stream);
    backward_sweeps<A>(in, from, to, (A*)dk, (A*)workspace, stream);
  });
  return cudaGetLastError();
}

}  // namespace irstd::wavelet_diffusion
