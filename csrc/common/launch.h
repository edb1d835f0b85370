// The one way a kernel is launched: tests/cuda_on_cpu/cuda_on_cpu.h replaces these macros to run .cu files without a GPU.
#pragma once
#ifndef IRSTD_LAUNCH
#include <cuda_runtime.h>
#define IRSTD_LAUNCH(kernel, grid, block, smem, stream, ...) kernel<<<grid, block, smem, stream>>>(__VA_ARGS__)
#define IRSTD_DYN_SHARED(T, name)                                     \
  extern __shared__ __align__(16) unsigned char irstd_dyn_shared_[];  \
  T* name = reinterpret_cast<T*>(irstd_dyn_shared_)
#endif
