// wavelet_diffusion on the CPU: a task is a band of rows of one channel, or of a cache line of channels where these are innermost in memory.
#include "common/dispatch.h"
#include "ops/wavelet_diffusion/checks.h"
#include "ops/wavelet_diffusion/sweep.h"

namespace irstd::wavelet_diffusion {
namespace {

constexpr int64_t kTasks = 64;     // at least, where the image is high enough; not by the number of threads, on which no sum may depend
constexpr int64_t kBand = 16;     // rows at least, for each that is computed twice
constexpr int64_t kFewest = 8;    // channels that are worth a vector of them; fewer are brought apart

// How the maps lie: vectors of channels or of columns, always the type computed in.
struct Layout {
  bool channels;
  explicit Layout(const Tensor& out) : channels(out.size(1) >= kFewest && out.stride(1) == 1) {}
  bool fits(const Tensor& t) const { return (channels ? t.stride(1) : t.stride(3)) == 1; }
  Tensor empty(const Tensor& like) const {
    const int64_t B = like.size(0), C = like.size(1), H = like.size(2), W = like.size(3);
    if (channels) return channels_first(torch::stable::new_empty(like, {B, H, W, C}, accum_dtype(like)));
    return torch::stable::new_empty(like, {B, C, H, W}, accum_dtype(like));
  }
  Tensor ready(const Tensor& t) const {
    const Tensor wide = torch::stable::to(t, accum_dtype(t));
    return fits(wide) ? wide : channels ? channels_first(channels_last(wide)) : torch::stable::contiguous(wide);
  }
  // `out` itself where it can be written, else another to be copied from.
  Tensor target(const Tensor& out) const { return fits(out) && out.scalar_type() == accum_dtype(out) ? out : empty(out); }
};

void copy_if_other(Tensor& out, const Tensor& work) {
  if (out.data_ptr() != work.data_ptr()) torch::stable::copy_(out, work);
}

// Tasks of a sweep: images x lines of channels x bands of rows.
struct Tasks {
  Sizes s;
  int64_t lines, bands, height;
  Tasks(const Sizes& s, int64_t per_line, int64_t halo) : s(s), lines((s.C + per_line - 1) / per_line) {
    const int64_t wanted = (kTasks + s.B * lines - 1) / (s.B * lines), most = std::max<int64_t>(1, s.H / (kBand * halo));
    height = (s.H + std::min(wanted, most) - 1) / std::min(wanted, most);
    bands = (s.H + height - 1) / height;
  }
  int64_t count() const { return s.B * lines * bands; }
  Range rows(int64_t task) const { return {task % bands * height, std::min(s.H, (task % bands + 1) * height)}; }
  int64_t line(int64_t task) const { return task / bands % lines; }
  int64_t image(int64_t task) const { return task / bands / lines; }
};

template <class T> Map<T> plane(const Tensor& t, int64_t b, int64_t c) {
  T* p = std::is_const_v<T> ? (T*)t.const_data_ptr() : (T*)t.mutable_data_ptr();
  return {p + b * t.stride(0) + c * t.stride(1), t.stride(2), t.stride(3)};
}

// f.operator()<Line, AllHigh>(tasks, task, first channel, channels) for every task of a sweep.
template <class A, class F> void for_tasks(const Sizes& s, bool channels, bool all_high, int64_t steps, int64_t halo, const F& f) {
  const Tasks tasks(s, channels ? Channels<simd::vec<A, 16>>::channels : 1, halo);
  const int64_t work = steps * tasks.height * s.W * (channels ? 8 : 1), grain = std::max<int64_t>(1, (1 << 14) / std::max<int64_t>(1, work));
  simd::for_this_cpu([&]<int Bytes>() {
    torch::stable::parallel_for(0, tasks.count(), grain, [&](int64_t begin, int64_t end) {
      simd::call<Bytes>([&]<int Same>() __attribute__((always_inline)) {
        using V = simd::vec<A, Same>;
        for (int64_t task = begin; task < end; ++task) {
          auto with = [&]<class Line>() __attribute__((always_inline)) {
            const int64_t first = tasks.line(task) * Line::channels, count = std::min<int64_t>(Line::channels, s.C - first);
            if (all_high) f.template operator()<Line, true>(tasks, task, first, count);
            else f.template operator()<Line, false>(tasks, task, first, count);
          };
          if (channels) with.template operator()<Channels<V>>();
          else with.template operator()<Columns<V>>();
        }
      });
    });
  });
}

template <class A> void forward_sweep(const Sizes& s, bool channels, const Tensor& from, const Tensor& to, const A* per_k, int64_t steps, bool all_high) {
  for_tasks<A>(s, channels, all_high, steps, steps, [&]<class Line, bool AllHigh>(const Tasks& tasks, int64_t task, int64_t c, int64_t count) __attribute__((always_inline)) {
    const int64_t b = tasks.image(task);
    diffuse<AllHigh>(Line(s.W, per_k + c, int(count)), plane<const A>(from, b, c), plane<A>(to, b, c), count, s.H, tasks.rows(task), steps);
  });
}

// dk += the part of these steps, in double.
template <class A> void backward_sweep(const Sizes& s, bool channels, const Tensor& u, const Tensor& grad, const Tensor& du, const A* per_k, double* dk, int64_t steps, bool all_high) {
  const int64_t halo = 2 * steps, parts = s.B * Tasks(s, channels ? Channels<simd::vec<A, 16>>::channels : 1, halo).bands;
  Scratch<double> memory;
  double* part = memory.take(parts * s.C);  // [image and band][channel]
  std::fill_n(part, parts * s.C, 0.);
  for_tasks<A>(s, channels, all_high, 4 * steps, halo, [&]<class Line, bool AllHigh>(const Tasks& tasks, int64_t task, int64_t c, int64_t count) __attribute__((always_inline)) {
    const int64_t b = tasks.image(task);
    diffuse_backward<AllHigh>(Line(s.W, per_k + c, int(count)), plane<const A>(u, b, c), plane<const A>(grad, b, c), plane<A>(du, b, c), count, s.H, tasks.rows(task), steps,
                              part + (b * tasks.bands + task % tasks.bands) * s.C + c);
  });
  for (int64_t i = 0; i < parts; ++i)
    for (int64_t c = 0; c < s.C; ++c) dk[c] += part[i * s.C + c];
}

template <class A> std::vector<A> inverses(const Tensor& k) {
  const Tensor wide = dense(k, accum_dtype(k));
  std::vector<A> per_k(k.size(0));
  for (size_t c = 0; c < per_k.size(); ++c) per_k[c] = inverse(((const A*)wide.const_data_ptr())[c]);
  return per_k;
}

bool moves(const Sizes& s, int64_t steps) { return s.B > 0 && s.C > 0 && s.H > 1 && s.W > 1 && steps > 0; }

Tensor forward(const Tensor& u, const Tensor& k, int64_t steps, bool all_high) {
  const Sizes s = check("wavelet_diffusion", u, k, steps);
  Tensor out = torch::stable::empty_like(u);
  if (!moves(s, steps)) {
    torch::stable::copy_(out, u);
    return out;
  }
  const Layout layout(out);
  const Tensor work = layout.target(out);
  with_accum(dtype_of(u), [&](auto tag) {
    using A = typename decltype(tag)::type;
    const auto per_k = inverses<A>(torch::stable::to(k, accum_dtype(u)));
    const int64_t sweeps = (steps + kSteps - 1) / kSteps;
    const Tensor other = sweeps > 1 ? layout.empty(u) : work;
    Tensor from = layout.ready(u);
    for (int64_t i = sweeps - 1; i >= 0; --i) {  // the last one into work
      const Tensor to = i % 2 ? other : work;
      forward_sweep<A>(s, layout.channels, from, to, per_k.data(), std::min(kSteps, steps - (sweeps - 1 - i) * kSteps), all_high);
      from = to;
    }
  });
  copy_if_other(out, work);
  return out;
}

std::tuple<Tensor, Tensor> backward(const Tensor& grad, const Tensor& u, const Tensor& k, int64_t steps, bool all_high) {
  const char* op = "wavelet_diffusion_backward";
  const Sizes s = check(op, u, k, steps);
  check_grad(op, grad, u);
  Tensor du = torch::stable::empty_like(u);
  if (!moves(s, steps)) {
    torch::stable::copy_(du, grad);
    return {du, torch::stable::new_zeros(k, {s.C})};
  }
  const Layout layout(du);
  const Tensor work = layout.target(du), dk = torch::stable::new_empty(u, {s.C}, accum_dtype(u));
  with_accum(dtype_of(u), [&](auto tag) {
    using A = typename decltype(tag)::type;
    const auto per_k = inverses<A>(torch::stable::to(k, accum_dtype(u)));
    const int64_t sweeps = (steps + kSteps - 1) / kSteps;
    auto steps_of = [&](int64_t i) { return std::min(kSteps, steps - i * kSteps); };
    std::vector<Tensor> images{layout.ready(u)};  // at the start of each sweep
    for (int64_t i = 0; i + 1 < sweeps; ++i) {
      images.push_back(layout.empty(u));
      forward_sweep<A>(s, layout.channels, images[i], images[i + 1], per_k.data(), steps_of(i), all_high);
    }
    std::vector<double> sums(s.C);
    const Tensor other = sweeps > 1 ? layout.empty(u) : work;
    Tensor from = layout.ready(grad);
    for (int64_t i = sweeps - 1; i >= 0; --i) {
      const Tensor to = i % 2 ? other : work;
      backward_sweep<A>(s, layout.channels, images[i], from, to, per_k.data(), sums.data(), steps_of(i), all_high);
      from = to;
      images.pop_back();
    }
    for (int64_t c = 0; c < s.C; ++c) ((A*)dk.mutable_data_ptr())[c] = A(sums[c]);
  });
  copy_if_other(du, work);
  return {du, torch::stable::to(dk, k.scalar_type())};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(irstd_ext, m) {
  m.def("wavelet_diffusion(Tensor u, Tensor k, int steps, bool all_high=False) -> Tensor");
  m.def("wavelet_diffusion_backward(Tensor grad, Tensor u, Tensor k, int steps, bool all_high) -> (Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(irstd_ext, CPU, m) {
  m.impl("wavelet_diffusion", TORCH_BOX(&forward));
  m.impl("wavelet_diffusion_backward", TORCH_BOX(&backward));
}

}  // namespace irstd::wavelet_diffusion
