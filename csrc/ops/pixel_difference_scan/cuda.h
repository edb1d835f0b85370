// Launchers of pixel_difference_scan: raw pointers of one device, no torch. All work goes to `stream`; nothing is allocated or waited for.
#pragma once
#include "ops/pixel_difference/cuda.h"

namespace irstd::pixel_difference_scan {

// A strided [B, K, D or N, H, W] of elements of Inputs::dtype.
struct Maps {
  void* data;
  int64_t b, k, c, h, w;
};

struct Inputs {
  DType dtype;                     // of views and maps; everything else is float, or double for f64
  int64_t B, D, H, W, N, n;        // n = 0: no neighbour term
  View u;
  Maps delta, Bs, Cs;              // the arguments delta, B and C
  const void *rate, *skip, *bias;  // A [4 D, N], D_skip and delta_bias [4 D] or null, all dense
  const void* weight;              // W [2, n, D], dense, or null
  double gamma;
  bool softplus;
};

// dA [4 D, N], dskip and dbias [4 D] and dW [2, n, D] are dense; the last three null where the argument is absent.
struct Gradients {
  View du;
  Maps ddelta, dB, dC;
  void *dA, *dskip, *dbias, *dW;
};

// Numbers (float, or double for f64) of the workspace.
int64_t forward_workspace(const Inputs& in);
int64_t backward_workspace(const Inputs& in);

cudaError_t forward(const Inputs& in, View out, void* workspace, cudaStream_t stream);
cudaError_t backward(const Inputs& in, View grad, const Gradients& to, void* workspace, cudaStream_t stream);

}  // namespace irstd::pixel_difference_scan
