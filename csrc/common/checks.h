// Argument checks of the operators: one line that names op, argument, rule and what came.
#pragma once
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <optional>
#include <sstream>
#include <string>

#include "common/storage.h"

namespace irstd {

using torch::stable::Tensor;
using torch::headeronly::ScalarType;

template <class... A> [[noreturn]] void fail(const A&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  throw std::runtime_error(text.str());
}

inline std::string shape_of(const Tensor& t) {
  std::ostringstream text;
  text << '[';
  for (int64_t i = 0; i < t.dim(); ++i) text << (i ? ", " : "") << t.size(i);
  text << ']';
  return text.str();
}

inline const char* name_of(ScalarType t) {
  switch (t) {
    case ScalarType::Long: return "int64";
    case ScalarType::Int: return "int32";
    case ScalarType::Short: return "int16";
    case ScalarType::Char: return "int8";
    case ScalarType::Byte: return "uint8";
    case ScalarType::Bool: return "bool";
    case ScalarType::ComplexFloat: return "complex64";
    case ScalarType::ComplexDouble: return "complex128";
    case ScalarType::Float: return "float32";
    case ScalarType::Double: return "float64";
    case ScalarType::Half: return "float16";
    case ScalarType::BFloat16: return "bfloat16";
    default: return torch::headeronly::toString(t);
  }
}

inline void check_dim(const char* op, const char* name, const Tensor& t, int64_t dim, const char* layout) {
  if (t.dim() != dim) fail(op, ": ", name, " must be ", dim, "-D ", layout, ", got ", t.dim(), "-D");
}

inline void check_size(const char* op, const char* name, const Tensor& t, int64_t axis, int64_t want, const char* what) {
  if (t.size(axis) != want) fail(op, ": ", name, " must have size ", want, " (", what, ") in dimension ", axis, ", got ", t.size(axis));
}

inline void check_floating(const char* op, const char* name, const Tensor& t) {
  const ScalarType s = t.scalar_type();
  if (s != ScalarType::Float && s != ScalarType::Double && s != ScalarType::Half && s != ScalarType::BFloat16)
    fail(op, ": ", name, " must be float16, bfloat16, float32 or float64, got ", name_of(s));
}

inline std::string device_name(const Tensor& t) {
  const auto type = t.device().type();
  if (type == torch::headeronly::DeviceType::CPU) return "cpu";
  if (type == torch::headeronly::DeviceType::CUDA) return "cuda:" + std::to_string(int(t.device().index()));
  return type == torch::headeronly::DeviceType::Meta ? "meta" : "another";
}

inline void check_same_device(const char* op, const char* name, const Tensor& t, const char* other, const Tensor& u) {
  if (t.device() != u.device()) fail(op, ": ", name, " must be on the device of ", other, ", ", device_name(u), ", got ", device_name(t));
}

inline void check_same_dtype(const char* op, const char* name, const Tensor& t, const char* other, const Tensor& u) {
  if (t.scalar_type() != u.scalar_type()) fail(op, ": ", name, " must have the dtype of ", other, ", ", name_of(u.scalar_type()), ", got ", name_of(t.scalar_type()));
}

inline DType dtype_of(const Tensor& t) {
  switch (t.scalar_type()) {
    case ScalarType::Double: return DType::f64;
    case ScalarType::Half: return DType::f16;
    case ScalarType::BFloat16: return DType::bf16;
    default: return DType::f32;
  }
}

inline ScalarType accum_dtype(const Tensor& t) { return t.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float; }

// A small argument: in the dtype of `other`, or in the one that is computed in.
inline void check_parameter_dtype(const char* op, const char* name, const Tensor& t, const char* other, const Tensor& u) {
  const ScalarType narrow = u.scalar_type(), wide = accum_dtype(u), came = t.scalar_type();
  if (came == narrow || came == wide) return;
  if (narrow == wide) fail(op, ": ", name, " must have the dtype of ", other, ", ", name_of(narrow), ", got ", name_of(came));
  fail(op, ": ", name, " must have the dtype of ", other, ", ", name_of(narrow), ", or ", name_of(wide), ", got ", name_of(came));
}

// t in the dtype that is computed in, dense and row-major: for small arguments.
inline Tensor dense(const Tensor& t, ScalarType dtype) { return torch::stable::contiguous(torch::stable::to(t, dtype)); }

}  // namespace irstd
