// Launchers of pixel_difference: raw pointers of one device, no torch. All work goes to `stream`; nothing is allocated or waited for.
#pragma once
#include <cuda_runtime.h>

#include "common/storage.h"
#include "common/view.h"

namespace irstd::pixel_difference {

struct Inputs {
  DType dtype;             // of every view; everything else is float, or double for f64
  int64_t B, D, H, W, n;   // n >= 1
  View u;
  const void* weight;      // dense [2, n, D]
  double gamma;
};

cudaError_t forward(const Inputs& in, View out, cudaStream_t stream);

// Numbers (float, or double for f64) of the workspace that `backward` writes to.
int64_t backward_workspace(const Inputs& in);

// dW: dense [2, n, D]; zero where u has no element.
cudaError_t backward(const Inputs& in, View grad, View du, void* dW, void* workspace, cudaStream_t stream);

}  // namespace irstd::pixel_difference
