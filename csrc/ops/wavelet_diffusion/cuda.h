// Launchers of wavelet_diffusion: raw pointers of one device, no torch. All work goes to `stream`; nothing is allocated or waited for.
#pragma once
#include <cuda_runtime.h>

#include "common/storage.h"
#include "common/view.h"

namespace irstd::wavelet_diffusion {

struct Inputs {
  DType dtype;               // of every view; everything else is float, or double for f64
  int64_t B, C, H, W, steps;
  bool all_high;
  View u;
  const void* k;             // dense [C]
};

// Numbers (float, or double for f64) of the workspace.
int64_t forward_workspace(const Inputs& in);
int64_t backward_workspace(const Inputs& in);

cudaError_t forward(const Inputs& in, View out, void* workspace, cudaStream_t stream);

// dk: dense [C]; zero where nothing flows.
cudaError_t backward(const Inputs& in, View grad, View du, void* dk, void* workspace, cudaStream_t stream);

}  // namespace irstd::wavelet_diffusion
