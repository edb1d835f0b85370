// pixel_difference on the CPU: a task is a vector of channels of one image.
#include "common/dispatch.h"
#include "ops/pixel_difference/checks.h"
#include "ops/pixel_difference/stencil.h"

namespace irstd::pixel_difference {
namespace {

template <class T> Map<T> image(const Tensor& t, int64_t b) {
  T* p = std::is_const_v<T> ? (T*)t.const_data_ptr() : (T*)t.mutable_data_ptr();
  return {p + b * t.stride(0), t.stride(2), t.stride(3)};
}

int64_t work(const Sizes& s) { return s.H * s.W * (2 * s.n + 1) * (2 * s.n + 1); }

Tensor forward(const Tensor& u, const Tensor& W, double gamma) {
  const Sizes s = check("pixel_difference", u, W);
  Result p(u);
  if (u.numel() == 0) return p.out;
  const Tensor inner = ready(u), weight = dense(W, accum_dtype(u));
  with_accum(dtype_of(u), [&](auto tag) {
    using A = typename decltype(tag)::type;
    for_tiles<A>(s.B, s.D, work(s), [&]<class V>(int64_t b, int64_t d, int channels) __attribute__((always_inline)) {
      Scratch<A> memory;
      Scratch<int64_t> places;
      const auto from = in_lanes<V>(image<const A>(inner, b).from(d), s.H, s.W, channels, memory);
      const auto to = image<A>(p.work, b).from(d);
      const auto out = for_lanes<V>(to, s.H, s.W, channels, memory);
      with_stencil<V>(s.n, [&](const auto& stencil) __attribute__((always_inline)) { stencil.forward(out); },
                      s.H, s.W, s.n, from, (const A*)weight.const_data_ptr() + d, s.D, channels, A(gamma), memory, places);
      to_image<V>(out, to, s.H, s.W, channels);
    });
  });
  return p.finish();
}

std::tuple<Tensor, Tensor> backward(const Tensor& grad, const Tensor& u, const Tensor& W, double gamma) {
  const char* op = "pixel_difference_backward";
  const Sizes s = check(op, u, W);
  check_grad(op, grad, u);
  Result du(u);
  if (u.numel() == 0) return {du.out, torch::stable::new_zeros(W, {2, s.n, s.D})};
  const Tensor inner = ready(u), dp = ready(grad), weight = dense(W, accum_dtype(u));
  Tensor dW = torch::stable::new_empty(u, {2, s.n, s.D}, accum_dtype(u));
  with_accum(dtype_of(u), [&](auto tag) {
    using A = typename decltype(tag)::type;
    Scratch<double> partials;
    double* partial = partials.take(s.B * 2 * s.n * s.D);  // per image
    for_tiles<A>(s.B, s.D, work(s), [&]<class V>(int64_t b, int64_t d, int channels) __attribute__((always_inline)) {
      constexpr int lanes = simd::lanes<V>;
      Scratch<A> memory;
      Scratch<double> sums;
      Scratch<int64_t> places;
      const auto from = in_lanes<V>(image<const A>(inner, b).from(d), s.H, s.W, channels, memory);
      const auto grads = in_lanes<V>(image<const A>(dp, b).from(d), s.H, s.W, channels, memory);
      const auto to = image<A>(du.work, b).from(d);
      const auto out = for_lanes<V>(to, s.H, s.W, channels, memory);
      for (int64_t r = 0; r < s.H; ++r)
        for (int64_t c = 0; c < s.W; ++c) simd::store(out.at(r, c), V{});
      double* own = sums.take(2 * s.n * lanes);
      with_stencil<V>(s.n, [&](const auto& stencil) __attribute__((always_inline)) { stencil.backward(grads, out, own); },
                      s.H, s.W, s.n, from, (const A*)weight.const_data_ptr() + d, s.D, channels, A(gamma), memory, places);
      to_image<V>(out, to, s.H, s.W, channels);
      for (int64_t i = 0; i < 2 * s.n; ++i) std::copy_n(own + i * lanes, channels, partial + (b * 2 * s.n + i) * s.D + d);
    });
    for (int64_t i = 0; i < 2 * s.n; ++i)
      for (int64_t d = 0; d < s.D; ++d) {
        double sum = 0;
        for (int64_t b = 0; b < s.B; ++b) sum += partial[(b * 2 * s.n + i) * s.D + d];
        ((A*)dW.mutable_data_ptr())[i * s.D + d] = A(sum);
      }
  });
  return {du.finish(), torch::stable::to(dW, W.scalar_type())};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(irstd_ext, m) {
  m.def("pixel_difference(Tensor u, Tensor W, float gamma=1.0) -> Tensor");
  m.def("pixel_difference_backward(Tensor grad, Tensor u, Tensor W, float gamma) -> (Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(irstd_ext, CPU, m) {
  m.impl("pixel_difference", TORCH_BOX(&forward));
  m.impl("pixel_difference_backward", TORCH_BOX(&backward));
}

}  // namespace irstd::pixel_difference
