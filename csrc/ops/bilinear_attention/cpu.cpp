// bilinear_attention on the CPU. One (image, channel) at a time, 32 rows of the attention at a time, kept transposed: the lanes of a vector are rows i,
// so that row sums need no horizontal additions, and each k_j is a broadcast. The products run register-blocked on those tiles; nothing larger than
// [M, 32] exists. Sums over channels run afterwards, in a fixed order.
#include <limits>

#include "common/dispatch.h"
#include "common/gemm.h"
#include "common/panel.h"
#include "ops/bilinear_attention/checks.h"
#include "ops/bilinear_attention/math.h"

namespace irstd::bilinear_attention {
namespace {

constexpr int64_t kRows = 32;

struct Strides { int64_t b, c, r, e; };
Strides strides_of(const Tensor& t) { return {t.stride(0), t.stride(1), t.stride(2), t.stride(3)}; }

// One image's q, padded to whole tiles with its last number (a padded row then is NaN only where a real one is), its k, and the range of k. NaN in k is
// left to the exponentials.
template <class A> struct Image {
  std::vector<A> q;
  const A* k = nullptr;
  A lowest, highest;
  void take(const A* q_, const A* k_, const Sizes& s) {
    q.assign(q_, q_ + s.L);
    if (s.L) q.resize(round_up(s.L, kRows), q_[s.L - 1]);
    k = k_;
    lowest = std::numeric_limits<A>::infinity(), highest = -lowest;
    for (int64_t j = 0; j < s.M; ++j) {
      lowest = k[j] < lowest ? k[j] : lowest;
      highest = k[j] > highest ? k[j] : highest;
    }
  }
};

// p[j][i] = exp(a_i (k_j - peak_i)) for the rows i0 .. i0 + 32; scale[i] = 1 / their sum over j. Meanwhile the next plane is fetched.
template <class V, class A> IRSTD_INLINE void weights(const Image<A>& image, A slope, int64_t i0, int64_t rows, int64_t M, A* p, A* scale, Ahead& value, Ahead& grad) {
  constexpr int n = simd::lanes<V>;
  for (int64_t i = 0; i < rows; i += n) {
    const V a = slope * simd::load<V>(image.q.data() + i0 + i);
    const V top = peak(a, simd::splat<V>(image.lowest), simd::splat<V>(image.highest));
    V total{};
    for (int64_t j = 0; j < M; ++j) {
      const V w = simd::exp_flush(exponent(a, simd::splat<V>(image.k[j]), top));
      simd::store(p + j * kRows + i, w);
      total += w;
      value.next(), grad.next();
    }
    simd::store(scale + i, V(A(1) / total));
  }
}

template <class T, class A> struct Forward {
  Sizes s;
  const A *q, *k, *weight;
  A gamma;
  const T *value, *residual;
  Strides vs, rs;
  T* out;

  // (image, channel) planes [begin, end)
  template <int Bytes> IRSTD_INLINE void planes(int64_t begin, int64_t end) const {
    using V = simd::vec<A, Bytes>;
    const int64_t ld = round_up(s.E, simd::lanes<V>);
    std::vector<A> p(s.M * kRows), mixed(kRows * ld), scale(kRows);
    Image<A> image;
    Panel<A> val;
    for (int64_t plane = begin; plane < end; ++plane) {
      const int64_t b = plane / s.C, c = plane % s.C;
      if (plane == begin || c == 0) image.take(q + b * s.L, k + b * s.M, s);
      val.template take<V>(value + b * vs.b + c * vs.c, s.M, s.E, vs.r, vs.e);
      const int64_t next = std::min(plane + 1, end - 1);
      Ahead value_ahead = Ahead::of(value + next / s.C * vs.b + next % s.C * vs.c, s.M, s.E, vs.r, 8192), none;  // smaller ones are slower for it here, by measurement
      for (int64_t i0 = 0; i0 < s.L; i0 += kRows) {
        const int64_t rows = std::min(kRows, s.L - i0);
        weights<V>(image, weight[c], i0, rows, s.M, p.data(), scale.data(), value_ahead, none);
        gemm::multiply<V>(rows, ld, s.M, p.data(), 1, kRows, val.data, val.ld, mixed.data(), ld, false);
        const T* res = residual + b * rs.b + c * rs.c + i0 * rs.r;
        T* o = out + (plane * s.L + i0) * s.E;
        for (int64_t r = 0; r < rows; ++r)
          map_row<V>(s.E, res + r * rs.r, rs.e, o + r * s.E, [&](V x, int64_t e) __attribute__((always_inline)) {
            return add_residual(x, gamma, V(simd::load<V>(mixed.data() + r * ld + e) * scale[r]));
          });
      }
    }
  }
};

// Per plane: dvalue, and the sums over j and i of dT k and dT q, from which dq, dk, dweight follow without an [L, M] matrix.
template <class T, class A> struct Backward {
  Sizes s;
  const A *q, *k, *weight;
  A gamma;
  const T *grad, *value;
  Strides gs, vs;
  bool add_grad;              // the residual was value: its gradient is added to dvalue
  A *dq_part, *dk_part;       // [B, C, L], [B, C, M], scaled by weight_c
  double *dw_part, *dg_part;  // [B, C]
  T* d_value;

  template <int Bytes> IRSTD_INLINE void planes(int64_t begin, int64_t end) const {
    using V = simd::vec<A, Bytes>;
    constexpr int n = simd::lanes<V>;
    const int64_t ld = round_up(s.E, n);
    std::vector<A> p(s.M * kRows), dp(s.M * kRows), grad_t(s.E * kRows), dv(s.M * ld), t(s.M * n), scale(kRows), dots(kRows), u(kRows);
    Image<A> image;
    Panel<A> val, g;
    for (int64_t plane = begin; plane < end; ++plane) {
      const int64_t b = plane / s.C, c = plane % s.C;
      if (plane == begin || c == 0) image.take(q + b * s.L, k + b * s.M, s);
      val.template take<V>(value + b * vs.b + c * vs.c, s.M, s.E, vs.r, vs.e);
      const int64_t next = std::min(plane + 1, end - 1);
      Ahead value_ahead = Ahead::of(value + next / s.C * vs.b + next % s.C * vs.c, s.M, s.E, vs.r);
      Ahead grad_ahead = Ahead::of(grad + next / s.C * gs.b + next % s.C * gs.c, s.L, s.E, gs.r);
      std::fill(t.begin(), t.end(), A(0));
      if (s.L == 0) std::fill(dv.begin(), dv.end(), A(0));
      double dw = 0, dg = 0;
      for (int64_t i0 = 0; i0 < s.L; i0 += kRows) {
        const int64_t rows = std::min(kRows, s.L - i0), padded = round_up(rows, n);
        g.template take<V>(grad + b * gs.b + c * gs.c + i0 * gs.r, rows, s.E, gs.r, gs.e);
        simd::transpose<V>(g.data, g.ld, rows, s.E, grad_t.data(), kRows);
        for (int64_t e = 0; e < s.E; ++e) std::fill(grad_t.data() + e * kRows + rows, grad_t.data() + e * kRows + padded, A(0));
        gemm::multiply<V>(s.M, padded, s.E, val.data, val.ld, 1, grad_t.data(), kRows, dp.data(), kRows, false);
        weights<V>(image, weight[c], i0, rows, s.M, p.data(), scale.data(), value_ahead, grad_ahead);
        for (int64_t i = 0; i < padded; i += n) logit_gradients<V>(image, i0, i, p.data(), dp.data(), scale.data(), dots.data(), u.data(), t.data());
        for (int64_t r = 0; r < rows; ++r) {
          dq_part[plane * s.L + i0 + r] = weight[c] * u[r];
          dw += double(image.q[i0 + r]) * double(u[r]);
          dg += double(dots[r]);
        }
        gemm::multiply<V>(s.M, ld, rows, p.data(), kRows, 1, g.data, g.ld, dv.data(), ld, i0 > 0);
      }
      for (int64_t j = 0; j < s.M; ++j) dk_part[plane * s.M + j] = weight[c] * simd::sum(simd::load<V>(t.data() + j * n));
      dw_part[plane] = dw, dg_part[plane] = dg;
      const T* own = grad + b * gs.b + c * gs.c;
      for (int64_t j = 0; j < s.M; ++j) {
        T* d = d_value + (plane * s.M + j) * s.E;
        if (add_grad)
          map_row<V>(s.E, own + j * gs.r, gs.e, d, [&](V x, int64_t e) __attribute__((always_inline)) { return V(x + gamma * simd::load<V>(dv.data() + j * ld + e)); });
        else
          map_row<V>(s.E, d, 1, d, [&](V, int64_t e) __attribute__((always_inline)) { return V(gamma * simd::load<V>(dv.data() + j * ld + e)); });
      }
    }
  }

  // One vector of rows: p becomes the softmax, dots = sum_j A dA, u = sum_j dT k; t[j] += dT q, lane by lane.
  template <class V> IRSTD_INLINE void logit_gradients(const Image<A>& image, int64_t i0, int64_t i, A* p, const A* dp, const A* scale, A* dots, A* u, A* t) const {
    const V norm = simd::load<V>(scale + i), qi = simd::load<V>(image.q.data() + i0 + i);
    constexpr int n = simd::lanes<V>;
    V dot{}, du{};
    for (int64_t j = 0; j < s.M; ++j) {
      A* w = p + j * kRows + i;
      const V a = simd::load<V>(w) * norm;
      simd::store(w, a);
      dot += a * simd::load<V>(dp + j * kRows + i);
    }
    for (int64_t j = 0; j < s.M; ++j) {
      const V dt = logit_gradient(gamma, simd::load<V>(p + j * kRows + i), simd::load<V>(dp + j * kRows + i), dot);
      du += dt * image.k[j];
      simd::store(t + j * n, V(simd::load<V>(t + j * n) + dt * qi));
    }
    simd::store(dots + i, dot);
    simd::store(u + i, du);
  }
};

// total[x] = sum over c, in order, of part[c, x].
template <class A> void sum_over(const A* part, int64_t count, int64_t n, std::vector<double>& total) {
  total.assign(n, 0);
  for (int64_t c = 0; c < count; ++c)
    for (int64_t x = 0; x < n; ++x) total[x] += part[c * n + x];
}

int64_t grain(const Sizes& s) { return std::max<int64_t>(1, 65536 / std::max<int64_t>(1, s.L * s.M * std::max<int64_t>(1, s.E / 8))); }

// Rows of a plane must be dense to be read fast; torch transposes all planes of a channels-last map better than they can be picked one by one.
Tensor with_dense_rows(const Tensor& t) { return t.stride(3) == 1 || t.size(3) == 1 ? t : torch::stable::contiguous(t); }

Tensor forward(const Tensor& q, const Tensor& k, const Tensor& weight, const Tensor& value_, const Tensor& gamma, const std::optional<Tensor>& residual,
               const std::optional<Tensor>& bias) {
  const char* op = "bilinear_attention";
  const Sizes s = check(op, q, k, weight, value_, gamma);
  check_bias(op, bias, value_, s);
  const Tensor given = check_residual(op, residual, value_, s), value = with_dense_rows(value_);
  const Tensor res = residual ? with_dense_rows(given) : value;
  const ScalarType wide = accum_dtype(value);
  const Tensor qa = dense(q, wide), ka = dense(k, wide), wa = dense(weight, wide), ga = dense(gamma, wide);
  Tensor out = torch::stable::new_empty(value, {s.B, s.C, s.L, s.E});
  if (out.numel() == 0) return out;
  with_dtype(dtype_of(value), [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = accum_t<T>;
    const Forward<T, A> f{s, (const A*)qa.const_data_ptr(), (const A*)ka.const_data_ptr(), (const A*)wa.const_data_ptr(), *(const A*)ga.const_data_ptr(),
                          (const T*)value.const_data_ptr(), (const T*)res.const_data_ptr(), strides_of(value), strides_of(res), (T*)out.mutable_data_ptr()};
    torch::stable::parallel_for(0, s.B * s.C, grain(s), [&](int64_t begin, int64_t end) {
      simd::for_this_cpu([&]<int Bytes>() __attribute__((always_inline)) { f.template planes<Bytes>(begin, end); });
    });
  });
  return out;
}

template <class A> void store_as(const std::vector<double>& from, A* to) {
  for (size_t i = 0; i < from.size(); ++i) to[i] = A(from[i]);
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> backward(const Tensor& grad_, const Tensor& q, const Tensor& k, const Tensor& weight, const Tensor& value_,
                                                            const Tensor& gamma, bool add_grad) {
  const char* op = "bilinear_attention_backward";
  const Sizes s = check(op, q, k, weight, value_, gamma);
  check_out_like(op, "grad", grad_, value_, s);
  if (add_grad && s.L != s.M) fail(op, ": add_grad needs L == M, got L=", s.L, ", M=", s.M);
  const ScalarType wide = accum_dtype(value_);
  const Tensor value = with_dense_rows(value_), grad = with_dense_rows(grad_);
  const Tensor qa = dense(q, wide), ka = dense(k, wide), wa = dense(weight, wide), ga = dense(gamma, wide);
  Tensor d_value = torch::stable::new_empty(value, {s.B, s.C, s.M, s.E});
  Tensor dq = torch::stable::new_empty(qa, {s.B, s.L}), dk = torch::stable::new_empty(qa, {s.B, s.M}), dw = torch::stable::new_empty(qa, {s.C});
  Tensor dg = torch::stable::new_empty(qa, {int64_t(1)});
  with_dtype(dtype_of(value), [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = accum_t<T>;
    const int64_t planes = s.B * s.C;
    std::vector<A> dq_part(planes * s.L), dk_part(planes * s.M);
    std::vector<double> dw_part(planes), dg_part(planes);
    const Backward<T, A> f{s, (const A*)qa.const_data_ptr(), (const A*)ka.const_data_ptr(), (const A*)wa.const_data_ptr(), *(const A*)ga.const_data_ptr(),
                           (const T*)grad.const_data_ptr(), (const T*)value.const_data_ptr(), strides_of(grad), strides_of(value), add_grad,
                           dq_part.data(), dk_part.data(), dw_part.data(), dg_part.data(), (T*)d_value.mutable_data_ptr()};
    torch::stable::parallel_for(0, planes, grain(s), [&](int64_t begin, int64_t end) {
      simd::for_this_cpu([&]<int Bytes>() __attribute__((always_inline)) { f.template planes<Bytes>(begin, end); });
    });
    torch::stable::parallel_for(0, s.B, 1, [&](int64_t begin, int64_t end) {
      std::vector<double> total;
      for (int64_t b = begin; b < end; ++b) {
        sum_over(dq_part.data() + b * s.C * s.L, s.C, s.L, total);
        store_as(total, (A*)dq.mutable_data_ptr() + b * s.L);
        sum_over(dk_part.data() + b * s.C * s.M, s.C, s.M, total);
        store_as(total, (A*)dk.mutable_data_ptr() + b * s.M);
      }
    });
    std::vector<double> total;
    sum_over(dw_part.data(), s.B, s.C, total);
    store_as(total, (A*)dw.mutable_data_ptr());
    sum_over(dg_part.data(), planes, 1, total);
    store_as(total, (A*)dg.mutable_data_ptr());
  });
  auto as = [](const Tensor& t, const Tensor& like) { return torch::stable::to(t, like.scalar_type()); };
  Tensor dgamma = as(dg, gamma);
  return {as(dq, q), as(dk, k), as(dw, weight), d_value, gamma.dim() == 0 ? torch::stable::squeeze(dgamma, 0) : dgamma};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(irstd_ext, m) {
  m.def("bilinear_attention(Tensor q, Tensor k, Tensor weight, Tensor value, Tensor gamma, Tensor? residual=None, Tensor? bias=None) -> Tensor");
  m.def("bilinear_attention_backward(Tensor grad, Tensor q, Tensor k, Tensor weight, Tensor value, Tensor gamma, bool add_grad) -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(irstd_ext, CPU, m) {
  m.impl("bilinear_attention", TORCH_BOX(&forward));
  m.impl("bilinear_attention_backward", TORCH_BOX(&backward));
}

}  // namespace irstd::bilinear_attention
