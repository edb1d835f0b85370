// From a run-time DType to a storage type.
#pragma once
#include "common/storage.h"

namespace irstd {

template <class T> struct type_tag { using type = T; };

// f(type_tag<T>{}) with the T of d.
template <class F> auto with_dtype(DType d, F&& f) {
  switch (d) {
    case DType::f64: return f(type_tag<double>{});
    case DType::f16: return f(type_tag<half>{});
    case DType::bf16: return f(type_tag<bfloat16>{});
    default: return f(type_tag<float>{});
  }
}

// f(type_tag<A>{}) with the type that d is computed in.
template <class F> auto with_accum(DType d, F&& f) { return d == DType::f64 ? f(type_tag<double>{}) : f(type_tag<float>{}); }

}  // namespace irstd
