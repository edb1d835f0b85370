// Takes the place of csrc/common/device.h: a CUDA binding runs its kernels on CPU tensors, as irstd_cuda_on_cpu::<op>.
#pragma once
#include <cuda_runtime.h>

#include "common/checks.h"

namespace irstd {

struct OnDevice {
  cudaStream_t stream = nullptr;
  explicit OnDevice(const Tensor&) {}
};

}  // namespace irstd

#undef STD_CUDA_CHECK
#define STD_CUDA_CHECK(call) \
  if ((call) != cudaSuccess) throw std::runtime_error(#call)
#define IRSTD_CUDA_KERNELS(m) STABLE_TORCH_LIBRARY_IMPL(irstd_cuda_on_cpu, CPU, m)
