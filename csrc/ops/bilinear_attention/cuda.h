// Launchers of bilinear_attention: raw pointers of one device, no torch. All work goes to `stream`; nothing is allocated or waited for.
#pragma once
#include <cuda_runtime.h>

#include "common/storage.h"

namespace irstd::bilinear_attention {

// A strided [B, C, rows, E] of elements of Inputs::dtype.
struct View {
  const void* data;
  int64_t b, c, r, e;
};

struct Inputs {
  DType dtype;                         // of value, residual, grad, out and d_value; everything else is float, or double for f64
  int64_t B, C, L, M, E;               // M >= 1
  const void *q, *k, *weight, *gamma;  // dense [B, L] [B, M] [C] [1]
  View value;                          // [B, C, M, E]
};

cudaError_t forward(const Inputs& in, View residual, void* out, cudaStream_t stream);  // out: dense [B, C, L, E]

// Numbers (float, or double for f64) of the workspace that `backward` writes to.
int64_t backward_workspace(const Inputs& in);

// dq [B, L], dk [B, M], d_weight [C], d_value [B, C, M, E], d_gamma [1], all dense. add_grad: grad is added to d_value (L == M).
cudaError_t backward(const Inputs& in, View grad, bool add_grad, void* workspace, void* dq, void* dk, void* d_weight, void* d_value, void* d_gamma,
                     cudaStream_t stream);

}  // namespace irstd::bilinear_attention
