#include "ops/linear_cross_attention/checks.h"
#include "ops/linear_cross_attention/math.h"
namespace irstd::linear_cross_attention {
STABLE_TORCH_LIBRARY_FRAGMENT(irstd_ext, m) {
  m.def("linear_cross_attention(Tensor q, Tensor k, Tensor v, float eps=1e-6) -> Tensor");
  m.def("linear_cross_attention_backward(Tensor grad, Tensor q, Tensor k, Tensor v, float eps) -> (Tensor, Tensor, Tensor)");
}
}
