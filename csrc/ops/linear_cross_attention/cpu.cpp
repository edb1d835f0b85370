// linear_cross_attention on the CPU: the passes of kernels.h, spread over threads by chunks of tokens, a group of heads at a time.
#include "common/dispatch.h"
#include "ops/linear_cross_attention/kernels.h"

namespace irstd::linear_cross_attention {
namespace {

// Chunks in one parallel loop: enough to share out, few enough for the keys to be in the cache still when their gradients are made.
constexpr int64_t kUnits = 64;
constexpr int64_t kGrain = 1 << 20;  // multiplications that are worth waking a thread for

// total = the sum over the chunks of each head, in order.
template <class A> IRSTD_INLINE void add_chunks(States<A> part, int64_t count, States<A> total, int64_t begin, int64_t end) {
  constexpr int64_t n = 64 / sizeof(A);
  for (int64_t head = begin; head < end; ++head)
    for (int64_t x = 0; x < total.size; x += n) {
      double sum[n] = {};
      for (int64_t c = head * count; c < (head + 1) * count; ++c)
        for (int64_t l = 0; l < n; ++l) sum[l] += part.S(c)[x + l];
      for (int64_t l = 0; l < n; ++l) total.S(head)[x + l] = A(sum[l]);
    }
}

// f.operator()<Bytes>(begin, end) over [0, count), on vectors of this CPU's width.
template <class F> void spread(int64_t count, int64_t work, const F& f) {
  torch::stable::parallel_for(0, count, std::max<int64_t>(1, kGrain / std::max<int64_t>(1, work)), [&](int64_t begin, int64_t end) {
    simd::for_this_cpu([&]<int Bytes>() __attribute__((always_inline)) { f.template operator()<Bytes>(begin, end); });
  });
}

template <class T, class A> void run(Kernels<T, A> op, bool gradients) {
  const Sizes& s = op.s;
  const int64_t heads = s.B * s.h, keys = chunks(s.M), queries = chunks(s.N);
  const int64_t group = std::min(heads, std::max<int64_t>(1, kUnits / std::max(keys, queries)));
  op.ld = round_up(s.e, simd::width() / sizeof(A));
  const int64_t z_at = s.d * op.ld, size = round_up(z_at + s.d, 64 / sizeof(A));
  Scratch<A> memory;
  auto take = [&](int64_t count) { return States<A>{memory.take(count * size), size, z_at}; };
  op.state = take(group), op.partial = take(group * keys);
  if (gradients) op.state_grad = take(group), op.partial_grad = take(group * queries);
  for (op.base = 0; op.base < heads; op.base += group) {
    const int64_t count = std::min(group, heads - op.base);
    auto pass = [&](int64_t tokens, auto kernel) {
      spread(count * chunks(tokens), std::min(tokens, kChunk) * std::max<int64_t>(8, s.d) * std::max<int64_t>(8, s.e), kernel);
    };
    auto total = [&](const States<A>& part, int64_t parts, const States<A>& sum) {
      spread(count, parts * size, [&]<int Bytes>(int64_t begin, int64_t end) __attribute__((always_inline)) { add_chunks(part, parts, sum, begin, end); });
    };
    pass(s.M, [&]<int Bytes>(int64_t begin, int64_t end) __attribute__((always_inline)) { op.template states<Bytes>(begin, end); });
    total(op.partial, keys, op.state);
    if (!gradients) {
      pass(s.N, [&]<int Bytes>(int64_t begin, int64_t end) __attribute__((always_inline)) { op.template attend<Bytes>(begin, end); });
      continue;
    }
    pass(s.N, [&]<int Bytes>(int64_t begin, int64_t end) __attribute__((always_inline)) { op.template query_gradients<Bytes>(begin, end); });
    total(op.partial_grad, queries, op.state_grad);
    pass(s.M, [&]<int Bytes>(int64_t begin, int64_t end) __attribute__((always_inline)) { op.template key_gradients<Bytes>(begin, end); });
  }
}

template <class T> Heads<const T> in(const Tensor& t) { return {(const T*)t.const_data_ptr(), t.size(1), t.stride(0), t.stride(1), t.stride(2), t.stride(3)}; }
template <class T> Heads<T> to(const Tensor& t) { return {(T*)t.mutable_data_ptr(), t.size(1), t.stride(0), t.stride(1), t.stride(2), t.stride(3)}; }

Tensor forward(const Tensor& q, const Tensor& k, const Tensor& v, double eps) {
  const Sizes s = check("linear_cross_attention", q, k, v, eps);
  Tensor out = empty_like_layout(q, s.N, s.e);
  if (out.numel() == 0) return out;
  with_dtype(dtype_of(q), [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = accum_t<T>;
    if (s.d == 0) std::fill_n((T*)out.mutable_data_ptr(), out.numel(), Store<T>::from(A(0) / A(eps)));
    else run(Kernels<T, A>{.s = s, .eps = A(eps), .q = in<T>(q), .k = in<T>(k), .v = in<T>(v), .out = to<T>(out)}, false);
  });
  return out;
}

std::tuple<Tensor, Tensor, Tensor> backward(const Tensor& grad, const Tensor& q, const Tensor& k, const Tensor& v, double eps) {
  const char* op = "linear_cross_attention_backward";
  const Sizes s = check(op, q, k, v, eps);
  check_grad(op, grad, q, s);
  Tensor dq = empty_like_layout(q, s.N, s.d), dk = empty_like_layout(k, s.M, s.d), dv = empty_like_layout(v, s.M, s.e);
  if (s.B * s.h == 0) return {dq, dk, dv};
  with_dtype(dtype_of(q), [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = accum_t<T>;
    run(Kernels<T, A>{.s = s, .eps = A(eps), .q = in<T>(q), .k = in<T>(k), .v = in<T>(v), .grad = in<T>(grad), .dq = to<T>(dq), .dk = to<T>(dk), .dv = to<T>(dv)}, true);
  });
  return {dq, dk, dv};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(irstd_ext, m) {
  m.def("linear_cross_attention(Tensor q, Tensor k, Tensor v, float eps=1e-6) -> Tensor");
  m.def("linear_cross_attention_backward(Tensor grad, Tensor q, Tensor k, Tensor v, float eps) -> (Tensor, Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(irstd_ext, CPU, m) {
  m.impl("linear_cross_attention", TORCH_BOX(&forward));
  m.impl("linear_cross_attention_backward", TORCH_BOX(&backward));
}

}  // namespace irstd::linear_cross_attention
