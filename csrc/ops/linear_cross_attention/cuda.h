// Launchers of linear_cross_attention: raw pointers of one device, no torch. All work goes to `stream`; nothing is allocated or waited for.
#pragma once
#include <cuda_runtime.h>

#include "common/storage.h"

namespace irstd::linear_cross_attention {

// A strided [B, h, tokens, features] of elements of Inputs::dtype.
struct View {
  void* data;
  int64_t b, h, n, f;
};

struct Inputs {
  DType dtype;                // of every view
  int64_t B, h, N, M, d, e;   // M >= 1
  View q, k, v;               // [B, h, N, d] [B, h, M, d] [B, h, M, e]
  double eps;
};

// Numbers (float, or double for f64) of the workspace.
int64_t forward_workspace(const Inputs& in);
int64_t backward_workspace(const Inputs& in);

cudaError_t forward(const Inputs& in, View out, void* workspace, cudaStream_t stream);
cudaError_t backward(const Inputs& in, View grad, View dq, View dk, View dv, void* workspace, cudaStream_t stream);

}  // namespace irstd::linear_cross_attention
