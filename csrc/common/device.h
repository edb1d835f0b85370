// What the CUDA bindings need of torch besides tensors. tests/cuda_on_cpu/common/device.h takes the place of this file to run a binding without a GPU.
#pragma once
#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/macros.h>

#include "common/checks.h"

namespace irstd {

// The device of `t`, current while this object lives, and torch's current stream there.
struct OnDevice {
  torch::stable::accelerator::DeviceGuard guard;
  cudaStream_t stream;
  explicit OnDevice(const Tensor& t) : guard(t.get_device_index()) {
    void* current = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(t.get_device_index(), &current));
    stream = static_cast<cudaStream_t>(current);
  }
};

}  // namespace irstd

#define IRSTD_CUDA_KERNELS(m) STABLE_TORCH_LIBRARY_IMPL(irstd_ext, CUDA, m)
