// pixel_difference_scan on the CPU. Forward: Inputs (channels innermost), then for a group of images InOrder (walk.h: B and C in scan order) and a task for each
// image and cache line of channels, forward_line (forward.h): the neighbour term p, and for each direction and chunk of steps read, advance, add to y. Backward, the same
// group: p, then for each direction and group of channels backward_line (backward.h) and the sums of dB and dC over channels (add_tiles), last the gradient
// of p (../pixel_difference/stencil.h). Results do not depend on the number of threads: every sum over tasks is
// taken afterwards, in order.
#include "common/dispatch.h"
#include "ops/pixel_difference_scan/backward.h"
#include "ops/pixel_difference_scan/checks.h"

namespace irstd::pixel_difference_scan {
namespace {

using Optional = std::optional<Tensor>;

template <class T> T* data(const Tensor& t) {
  if constexpr (std::is_const_v<T>) return (T*)t.const_data_ptr();
  else return (T*)t.mutable_data_ptr();
}

// [B, K, C, H, W], or [B, C, H, W] with one direction.
template <class T> Maps<T> maps(const Tensor& t) {
  const int64_t n = t.dim();
  return {data<T>(t), t.stride(0), n == 5 ? t.stride(1) : 0, t.stride(n - 3), t.stride(n - 2), t.stride(n - 1)};
}

// The arguments with channels innermost and parameters in the type computed in, alive as long as the pointers into them.
struct Inputs {
  Tensor u, delta, B, C, A;
  Optional skip, bias, W;
  Inputs(const Arguments& a) : u(ready(a.u)), delta(ready(a.delta)), B(ready(a.B)), C(ready(a.C)), A(dense(a.A, accum_dtype(a.u))) {
    if (a.D_skip) skip = dense(*a.D_skip, A.scalar_type());
    if (a.delta_bias) bias = dense(*a.delta_bias, A.scalar_type());
    if (a.W) W = dense(*a.W, A.scalar_type());
  }
  template <class R> Call<R> call(const Sizes& s, double gamma, bool softplus) const {
    auto pointer = [](const Optional& t) { return t ? data<const R>(*t) : nullptr; };
    return {s.D, s.H, s.W, s.N, s.n, softplus, R(gamma), maps<const R>(u), maps<const R>(delta), maps<const R>(B), maps<const R>(C), data<const R>(A), pointer(skip), pointer(bias), pointer(W)};
  }
};

constexpr int64_t kTasks = 16;  // that are worked on together: enough for the threads, and what their sums take does not grow with the channels
template <class A> constexpr int64_t of_task = 64 / sizeof(A);  // channels
template <class A> int64_t images_at_once(int64_t B, int64_t D) {
  const int64_t tasks = (D + of_task<A> - 1) / of_task<A>;
  return std::min(B, (kTasks + tasks - 1) / tasks);
}
States states_here(int64_t N) { return states_of(N, simd::width() == 64 ? widest<64> : simd::width() == 32 ? widest<32> : widest<16>); }

Tensor forward(const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B, const Tensor& C, const Optional& D_skip, const Optional& delta_bias, const Optional& W,
               double gamma, bool delta_softplus) {
  const Arguments arguments{u, delta, A, B, C, D_skip, delta_bias, W};
  const Sizes s = check("pixel_difference_scan", arguments);
  Result y(u);
  if (u.numel() == 0) return y.out;
  const Inputs in(arguments);
  with_accum(dtype_of(u), [&](auto tag) {
    using A = typename decltype(tag)::type;
    const auto call = in.call<A>(s, gamma, delta_softplus);
    const auto out = maps<A>(y.work);
    const int64_t group = images_at_once<A>(s.B, s.D), work = kDirections * s.H * s.W * (s.N + 8);
    InOrder<A> in_order(group, s.H * s.W, states_here(s.N).padded);
    for (int64_t first = 0; first < s.B; first += group) {
      const int64_t images = std::min(group, s.B - first);
      in_order.fill(call, first, images);
      for_tiles<A>(images, s.D, work, [&]<class V>(int64_t b, int64_t d, int channels) __attribute__((always_inline)) { forward_line<V>(call, in_order, out, first, b, d, channels); }, 64);
    }
  });
  return y.finish();
}

// Buffers of the backward pass, for a group of images and, dB and dC, a group of channels at a time.
template <class A> struct Buffers {
  int64_t tiles, lanes, padded, steps, images, channels;
  Scratch<A> memory;
  Scratch<double> sums;
  A *p, *dp, *du;                 // of a group of images: [image][tile][H, W, lanes]
  A *dB, *dC;                     // of a group of both: [image][tile of the group][steps][padded]
  A *dA, *dskip, *dbias;          // of all: [image][direction][tile][padded][lanes], and without [padded]
  double* dW;                     // of all: [image][tile][2 n][lanes]

  Buffers(const Call<A>& c, int64_t B, int64_t lanes, int64_t padded)
      : tiles((c.D + lanes - 1) / lanes), lanes(lanes), padded(padded), steps(c.H * c.W), images(images_at_once<A>(B, c.D)), channels(std::min(tiles * lanes, kTasks * of_task<A>)) {
    const int64_t plane = images * tiles * steps * lanes;
    p = c.weight ? memory.take(plane) : nullptr;
    dp = c.weight ? memory.take(plane) : nullptr;
    du = c.D % lanes == 0 ? nullptr : memory.take(plane);
    dB = memory.take(images * channels / lanes * steps * padded), dC = memory.take(images * channels / lanes * steps * padded);
    dA = memory.take(B * kDirections * tiles * padded * lanes);
    dskip = memory.take(B * kDirections * tiles * lanes), dbias = memory.take(B * kDirections * tiles * lanes);
    dW = sums.take(B * tiles * 2 * c.n * lanes + 1);
  }
  Map<A> plane(A* of, int64_t image, int64_t d, int64_t W) const { return {of + (image * tiles + d / lanes) * steps * lanes, W * lanes, lanes}; }
  A* of_group(A* of, int64_t image, int64_t d) const { return of + (image * channels + d % channels) / lanes * steps * padded; }
};

// out [image, direction k] (pixel, state) = or += the sum over `count` vectors of channels of from [image][tile][steps][padded].
template <class A> void add_tiles(const Buffers<A>& buffers, const Call<A>& call, int64_t first_image, int64_t images, int k, A* from, int64_t count, bool first, const Maps<A>& out) {
  const Walk walk{k, call.H, call.W};
  torch::stable::parallel_for(0, images * walk.chunks(), 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t image = i / walk.chunks(), chunk = i % walk.chunks();
      const Map<A> map = out.at(first_image + image, k);
      const int64_t stride = walk.stride(map);
      walk.pieces(chunk, [&](int64_t t, Pixel at, int64_t length) {
        A* p = map.at(at.row, at.column);
        const A* row = buffers.of_group(from, image, 0) + (chunk * kChunk + t) * buffers.padded;
        for (int64_t step = 0; step < length; ++step, p += stride, row += buffers.padded)
          for (int64_t j = 0; j < call.N; ++j) {
            A sum = first ? A(0) : p[j * out.inner];
            for (int64_t tile = 0; tile < count; ++tile) sum += row[tile * buffers.steps * buffers.padded + j];
            p[j * out.inner] = sum;
          }
      });
    }
  });
}

// The sum over images of `rows` rows of parts [image][direction][tile][rows][lanes], as [direction, D, rows].
template <class A> Tensor add_images(const Tensor& like, const A* parts, int64_t B, int64_t D, int64_t rows, int64_t lanes) {
  const int64_t tiles = (D + lanes - 1) / lanes, image = kDirections * tiles * rows * lanes;
  Tensor out = torch::stable::new_empty(like, {kDirections * D, rows});
  A* p = data<A>(out);
  for (int64_t i = 0; i < kDirections * D; ++i)
    for (int64_t j = 0; j < rows; ++j) {
      const int64_t k = i / D, d = i % D;
      double sum = 0;
      for (int64_t b = 0; b < B; ++b) sum += parts[b * image + ((k * tiles + d / lanes) * rows + j) * lanes + d % lanes];
      p[i * rows + j] = A(sum);
    }
  return out;
}

using Eight = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

template <class A> Eight backward_of(const Tensor& grad, const Arguments& a, const Sizes& s, double gamma, bool softplus) {
  const Inputs in(a);
  const Tensor dy = ready(grad);
  const auto call = in.call<A>(s, gamma, softplus);
  Result du(a.u), ddelta(a.delta), dB(a.B), dC(a.C);
  const auto du_maps = maps<A>(du.work), dB_maps = maps<A>(dB.work), dC_maps = maps<A>(dC.work);
  const int64_t lanes = simd::width() / sizeof(A);
  const States states = states_here(s.N);
  Buffers<A> buffers(call, s.B, lanes, states.padded);
  InOrder<A> in_order(buffers.images, buffers.steps, states.padded);
  const int64_t tiles = buffers.tiles, work = s.H * s.W * (s.N + 8);
  for (int64_t first = 0; first < s.B; first += buffers.images) {
    const int64_t images = std::min(buffers.images, s.B - first);
    in_order.fill(call, first, images);
    auto target = [&]<class V>(int64_t b, int64_t d) __attribute__((always_inline)) {
      if (!buffers.du) return du_maps.at(first + b, 0).from(d);
      return buffers.plane(buffers.du, b, d, s.W);
    };
    if (a.W)
      for_tiles<A>(images, s.D, work, [&]<class V>(int64_t b, int64_t d, int channels) __attribute__((always_inline)) {
        neighbour_term<V>(call, first + b, d, channels, buffers.plane(buffers.p, b, d, s.W));
      });
    for (int k = 0; k < kDirections; ++k)
      for (int64_t from = 0; from < s.D; from += buffers.channels) {
        const int64_t some = std::min(buffers.channels, s.D - from);
        for_tiles<A>(images, some, work, [&]<class V>(int64_t b, int64_t d, int channels) __attribute__((always_inline)) {
          backward_line<V>(call, in_order, first, b, from + d, channels, k, [&](int64_t own, Gradients<A>& out, Chunk<V>& chunk) __attribute__((always_inline)) {
            const int64_t row = ((first + b) * kDirections + k) * tiles + own / lanes;
            out = {maps<const A>(dy), maps<A>(ddelta.work), buffers.of_group(buffers.dB, b, own), buffers.of_group(buffers.dC, b, own), buffers.dA + row * states.padded * lanes,
                   buffers.dskip + row * lanes, buffers.dbias + row * lanes, target.template operator()<V>(b, own), {}};
            if (!a.W) return;
            const Map<A> p = buffers.plane(buffers.p, b, own, s.W);
            chunk.p_map = {p.p, p.h, p.w}, out.dp = buffers.plane(buffers.dp, b, own, s.W);
          });
        }, 64);
        for (const auto& [parts, maps] : {std::pair{buffers.dB, dB_maps}, {buffers.dC, dC_maps}}) add_tiles(buffers, call, first, images, k, parts, (some + lanes - 1) / lanes, from == 0, maps);
      }
    for_tiles<A>(images, s.D, work, [&]<class V>(int64_t b, int64_t d, int channels) __attribute__((always_inline)) {
      const Map<A> sum = target.template operator()<V>(b, d);
      if (a.W) {
        Scratch<A> memory;
        Scratch<int64_t> places;
        const Map<A> dp = buffers.plane(buffers.dp, b, d, s.W);
        double* own = buffers.dW + ((first + b) * tiles + d / lanes) * 2 * s.n * lanes;
        pixel_difference::with_stencil<V>(s.n, [&](const auto& stencil) __attribute__((always_inline)) { stencil.backward({dp.p, dp.h, dp.w}, sum, own); }, s.H, s.W, s.n,
                                          in_lanes<V>(call.u.at(first + b, 0).from(d), s.H, s.W, channels, memory), call.weight + d, s.D, channels, A(gamma), memory, places);
      }
      to_image<V>(sum, du_maps.at(first + b, 0).from(d), s.H, s.W, channels);
    });
  }
  auto as = [](const Tensor& t, const Tensor& like) { return torch::stable::to(t, like.scalar_type()); };
  auto row = [&](const Optional& parameter, const A* parts) {
    if (!parameter) return torch::stable::new_empty(in.A, {0});
    return as(torch::stable::view(add_images(in.A, parts, s.B, s.D, 1, lanes), {kDirections * s.D}), *parameter);
  };
  Tensor padded = add_images(in.A, buffers.dA, s.B, s.D, states.padded, lanes);
  const Tensor dA = torch::stable::contiguous(torch::stable::narrow(padded, 1, 0, s.N));
  Tensor dW = torch::stable::new_empty(in.A, {a.W ? 2 : 0, s.n, a.W ? s.D : 0});
  for (int64_t i = 0; i < 2 * s.n; ++i)
    for (int64_t d = 0; d < s.D; ++d) {
      double sum = 0;
      for (int64_t b = 0; b < s.B; ++b) sum += buffers.dW[((b * tiles + d / lanes) * 2 * s.n + i) * lanes + d % lanes];
      data<A>(dW)[i * s.D + d] = A(sum);
    }
  return {du.finish(), ddelta.finish(), as(dA, a.A), dB.finish(), dC.finish(), row(a.D_skip, buffers.dskip), row(a.delta_bias, buffers.dbias),
          a.W ? as(dW, *a.W) : torch::stable::new_empty(in.A, {0})};
}

Eight backward(const Tensor& grad, const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B, const Tensor& C, const Optional& D_skip, const Optional& delta_bias,
               const Optional& W, double gamma, bool delta_softplus) {
  const char* op = "pixel_difference_scan_backward";
  const Arguments a{u, delta, A, B, C, D_skip, delta_bias, W};
  const Sizes s = check(op, a);
  pixel_difference::check_grad(op, grad, u);
  if (u.numel() == 0) {
    auto zeros = [&](const Tensor& t, std::vector<int64_t> shape) { return torch::stable::new_zeros(t, shape); };
    auto none = [](const Tensor& t) { Tensor z = torch::stable::empty_like(t); return torch::stable::zero_(z); };
    auto row = [&](const Optional& t) { return t ? zeros(*t, {kDirections * s.D}) : torch::stable::new_empty(u, {0}, accum_dtype(u)); };
    return {none(u), none(delta), zeros(A, {kDirections * s.D, s.N}), none(B), none(C), row(D_skip), row(delta_bias), W ? zeros(*W, {2, s.n, s.D}) : row(W)};
  }
  Eight found;
  with_accum(dtype_of(u), [&](auto tag) { found = backward_of<typename decltype(tag)::type>(grad, a, s, gamma, delta_softplus); });
  return found;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(irstd_ext, m) {
  m.def("pixel_difference_scan(Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D_skip=None, Tensor? delta_bias=None, Tensor? W=None, float gamma=1.0, "
        "bool delta_softplus=True) -> Tensor");
  m.def("pixel_difference_scan_backward(Tensor grad, Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D_skip, Tensor? delta_bias, Tensor? W, float gamma, "
        "bool delta_softplus) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(irstd_ext, CPU, m) {
  m.impl("pixel_difference_scan", TORCH_BOX(&forward));
  m.impl("pixel_difference_scan_backward", TORCH_BOX(&backward));
}

}  // namespace irstd::pixel_difference_scan
