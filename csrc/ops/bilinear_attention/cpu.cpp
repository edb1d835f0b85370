// bilinear_attention on the CPU. One (image, channel) at a time: the weights of a block of rows, their exponentials taken in registers, are multiplied
// with value by a register-blocked product; nothing larger than that block exists. Sums over channels run afterwards, in a fixed order.
#include <limits>

#include "common/dispatch.h"
#include "common/gemm.h"
#include "common/panel.h"
#include "ops/bilinear_attention/checks.h"
#include "ops/bilinear_attention/math.h"

namespace irstd::bilinear_attention {
namespace {

// Rows of weights at a time. The product wants a multiple of its tile; 32 rows for M up to 128 stay in L1.
constexpr int64_t kRows = 32;

struct Strides { int64_t b, c, r, e; };
Strides strides_of(const Tensor& t) { return {t.stride(0), t.stride(1), t.stride(2), t.stride(3)}; }

// One image's k, padded to whole vectors, and its range. NaN is left to the exponentials.
template <class A> struct Keys {
  std::vector<A> k;
  A lowest = std::numeric_limits<A>::infinity(), highest = -std::numeric_limits<A>::infinity();
  void take(const A* source, int64_t M, int64_t padded) {
    *this = {};
    k.assign(padded, A(0));
    for (int64_t j = 0; j < M; ++j) {
      k[j] = source[j];
      lowest = source[j] < lowest ? source[j] : lowest;
      highest = source[j] > highest ? source[j] : highest;
    }
  }
};

// p[j] = exp(a (k_j - peak)), zero from M on; returns the sum.
template <class V, class A> IRSTD_INLINE A row_weights(A a, const Keys<A>& keys, int64_t M, A* p) {
  constexpr int n = simd::lanes<V>;
  const A top = peak(a, keys.lowest, keys.highest);
  V total{};
  for (int64_t j = 0; j < M; j += n) {
    V w = simd::exp_flush(exponent(a, simd::load<V>(&keys.k[j]), top));
    for (int64_t l = M - j; l < n; ++l) w[l] = 0;
    simd::store(p + j, w);
    total += w;
  }
  return simd::sum(total);
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
    constexpr int n = simd::lanes<V>;
    const int64_t ldp = round_up(s.M, n), ldm = round_up(s.E, n);
    std::vector<A> p(kRows * ldp), mixed(kRows * ldm), scale(kRows);
    Keys<A> keys;
    Panel<A> val;
    for (int64_t plane = begin; plane < end; ++plane) {
      const int64_t b = plane / s.C, c = plane % s.C;
      if (plane == begin || c == 0) keys.take(k + b * s.M, s.M, ldp);
      val.template take<V>(value + b * vs.b + c * vs.c, s.M, s.E, vs.r, vs.e);
      for (int64_t i0 = 0; i0 < s.L; i0 += kRows) {
        const int64_t rows = std::min(kRows, s.L - i0);
        for (int64_t r = 0; r < rows; ++r) scale[r] = A(1) / row_weights<V>(weight[c] * q[b * s.L + i0 + r], keys, s.M, &p[r * ldp]);
        gemm::multiply<V>(rows, ldm, s.M, p.data(), ldp, 1, val.data, val.ld, mixed.data(), ldm, false);
        const T* res = residual + b * rs.b + c * rs.c + i0 * rs.r;
        T* o = out + (plane * s.L + i0) * s.E;
        for (int64_t r = 0; r < rows; ++r)
          map_row<V>(s.E, res + r * rs.r, rs.e, o + r * s.E, [&](V x, int64_t e) __attribute__((always_inline)) {
            return add_residual(x, gamma, V(simd::load<V>(&mixed[r * ldm + e]) * scale[r]));
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
    const int64_t ldp = round_up(s.M, n), lde = round_up(s.E, n);
    std::vector<A> p(kRows * ldp), dp(kRows * ldp), value_t(s.E * ldp, A(0)), dv(s.M * lde), t(ldp);
    Keys<A> keys;
    Panel<A> val, g;
    for (int64_t plane = begin; plane < end; ++plane) {
      const int64_t b = plane / s.C, c = plane % s.C;
      if (plane == begin || c == 0) keys.take(k + b * s.M, s.M, ldp);
      val.template take<V>(value + b * vs.b + c * vs.c, s.M, s.E, vs.r, vs.e);
      simd::transpose<V>(val.data, val.ld, s.M, s.E, value_t.data(), ldp);
      std::fill(t.begin(), t.end(), A(0));
      double dw = 0, dg = 0;
      for (int64_t i0 = 0; i0 < s.L; i0 += kRows) {
        const int64_t rows = std::min(kRows, s.L - i0);
        const A* qi = q + b * s.L + i0;
        g.template take<V>(grad + b * gs.b + c * gs.c + i0 * gs.r, rows, s.E, gs.r, gs.e);
        gemm::multiply<V>(rows, ldp, s.E, g.data, g.ld, 1, value_t.data(), ldp, dp.data(), ldp, false);
        for (int64_t r = 0; r < rows; ++r) {
          A *pr = &p[r * ldp], *dr = &dp[r * ldp];
          const A scale = A(1) / row_weights<V>(weight[c] * qi[r], keys, s.M, pr);
          V dots{};
          for (int64_t j = 0; j < ldp; j += n) {
            const V w = simd::load<V>(pr + j) * scale;
            simd::store(pr + j, w);
            dots += w * simd::load<V>(dr + j);
          }
          const A dot = simd::sum(dots);
          V u{};
          for (int64_t j = 0; j < ldp; j += n) {
            const V dt = logit_gradient(gamma, simd::load<V>(pr + j), simd::load<V>(dr + j), dot);
            u += dt * simd::load<V>(&keys.k[j]);
            simd::store(&t[j], V(simd::load<V>(&t[j]) + dt * qi[r]));
          }
          const A du = simd::sum(u);
          dq_part[plane * s.L + i0 + r] = weight[c] * du;
          dw += double(qi[r]) * double(du);
          dg += double(dot);
        }
        gemm::multiply<V>(s.M, lde, rows, p.data(), 1, ldp, g.data, g.ld, dv.data(), lde, i0 > 0);
      }
      for (int64_t j = 0; j < s.M; ++j) dk_part[plane * s.M + j] = weight[c] * t[j];
      dw_part[plane] = dw, dg_part[plane] = dg;
      for (int64_t j = 0; j < s.M; ++j) {
        const T* own = grad + b * gs.b + c * gs.c + j * gs.r;
        T* d = d_value + (plane * s.M + j) * s.E;
        if (add_grad)
          map_row<V>(s.E, own, gs.e, d, [&](V x, int64_t e) __attribute__((always_inline)) { return x + gamma * simd::load<V>(&dv[j * lde + e]); });
        else
          map_row<V>(s.E, d, 1, d, [&](V, int64_t e) __attribute__((always_inline)) { return V(gamma * simd::load<V>(&dv[j * lde + e])); });
      }
    }
  }
};

// total[x] = sum over c, in order, of part[c, x].
template <class A> void sum_over(const A* part, int64_t count, int64_t n, std::vector<double>& total) {
  total.assign(n, 0);
  for (int64_t c = 0; c < count; ++c)
    for (int64_t x = 0; x < n; ++x) total[x] += part[c * n + x];
}

int64_t grain(const Sizes& s) { return std::max<int64_t>(1, 65536 / std::max<int64_t>(1, s.L * s.M * std::max<int64_t>(1, s.E / 8))); }

Tensor forward(const Tensor& q, const Tensor& k, const Tensor& weight, const Tensor& value, const Tensor& gamma, const std::optional<Tensor>& residual,
               const std::optional<Tensor>& bias) {
  const char* op = "bilinear_attention";
  const Sizes s = check(op, q, k, weight, value, gamma);
  const Tensor res = check_residual(op, residual, value, s);
  check_bias(op, bias, value, s);
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

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> backward(const Tensor& grad, const Tensor& q, const Tensor& k, const Tensor& weight, const Tensor& value,
                                                            const Tensor& gamma, bool add_grad) {
  const char* op = "bilinear_attention_backward";
  const Sizes s = check(op, q, k, weight, value, gamma);
  check_out_like(op, "grad", grad, value, s);
  if (add_grad && s.L != s.M) fail(op, ": add_grad needs L == M, got L=", s.L, ", M=", s.M);
  const ScalarType wide = accum_dtype(value);
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
        sum_over(&dq_part[b * s.C * s.L], s.C, s.L, total);
        store_as(total, (A*)dq.mutable_data_ptr() + b * s.L);
        sum_over(&dk_part[b * s.C * s.M], s.C, s.M, total);
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
