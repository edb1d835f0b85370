// Kernels for test_harness.py: right ones, and ones with a mistake that cuda_on_cpu.h must notice.
#include <string>

#include "common/launch.h"

namespace {

// to[i] = from[n - 1 - i] within a block of n.
template <bool Barrier> __global__ void reverse(const float* from, float* to) {
  IRSTD_DYN_SHARED(float, shared);
  const int n = blockDim.x, i = threadIdx.x;
  const int64_t first = blockIdx.x * int64_t(n);
  shared[i] = from[first + i];
  if (Barrier) __syncthreads();
  to[first + i] = shared[n - 1 - i];
}

__global__ void divergent(float* to) {
  if (threadIdx.x < 40) __syncthreads();
  to[threadIdx.x] = 1;
}

__global__ void beyond(float* to) {
  IRSTD_DYN_SHARED(float, shared);
  shared[threadIdx.x + 1] = 1;
  to[threadIdx.x] = 1;
}

__global__ void uninitialised(float* to) {
  IRSTD_DYN_SHARED(float, shared);
  to[threadIdx.x] = shared[threadIdx.x];
}

// The warp's sum, two ways, one after the other.
__global__ void warp_sums(const float* from, float* to) {
  float x = from[threadIdx.x], y = 2 * x;
  for (int m = 1; m < 32; m *= 2) x += __shfl_xor_sync(0xffffffffu, x, m);
  for (int d = 16; d > 0; d /= 2) y += __shfl_down_sync(0xffffffffu, y, d);
  to[threadIdx.x] = x + __shfl_sync(0xffffffffu, y, 0);
}

}  // namespace

// Runs one of them on 2 blocks of 64 threads; the error, or an empty text.
IRSTD_EXPORT const char* run(int which, const float* from, float* to) {
  static std::string error;
  error.clear();
  const unsigned n = 64, blocks = 2, bytes = n * sizeof(float);
  try {
    switch (which) {
      case 0: IRSTD_LAUNCH((reverse<true>), blocks, n, bytes, nullptr, from, to); break;
      case 1: IRSTD_LAUNCH((reverse<false>), blocks, n, bytes, nullptr, from, to); break;
      case 2: IRSTD_LAUNCH(divergent, 1, n, 0, nullptr, to); break;
      case 3: IRSTD_LAUNCH(beyond, 1, n, bytes, nullptr, to); break;
      case 4: IRSTD_LAUNCH(uninitialised, 1, n, bytes, nullptr, to); break;
      case 5: IRSTD_LAUNCH(warp_sums, 1, n, 0, nullptr, from, to); break;
      case 6: IRSTD_LAUNCH(beyond, 1, n, 49 * 1024, nullptr, to); break;
      case 7: IRSTD_LAUNCH(beyond, 0u, n, bytes, nullptr, to); break;
    }
  } catch (const std::exception& e) {
    error = e.what();
  }
  return error.c_str();
}
