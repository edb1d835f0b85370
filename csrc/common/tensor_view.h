// 4-D tensors as launchers of CUDA kernels get them: to be read, and to be written.
#pragma once
#include "common/checks.h"
#include "common/view.h"

namespace irstd {

inline View view(const Tensor& t) { return {const_cast<void*>(t.const_data_ptr()), t.stride(0), t.stride(1), t.stride(2), t.stride(3)}; }
inline View target(const Tensor& t) { return {t.mutable_data_ptr(), t.stride(0), t.stride(1), t.stride(2), t.stride(3)}; }

}  // namespace irstd
