// The one way a kernel is launched: tests/cuda_on_cpu/cuda_on_cpu.h replaces these macros to run .cu files without a GPU.
#pragma once
#include <cstdint>
#ifndef IRSTD_LAUNCH
#include <cuda_runtime.h>
#define IRSTD_LAUNCH(kernel, grid, block, smem, stream, ...) kernel<<<grid, block, smem, stream>>>(__VA_ARGS__)
#define IRSTD_DYN_SHARED(T, name)                                     \
  extern __shared__ __align__(16) unsigned char irstd_dyn_shared_[];  \
  T* name = reinterpret_cast<T*>(irstd_dyn_shared_)
#endif
#ifdef __CUDACC__
#define IRSTD_UNROLL _Pragma("unroll")
#define IRSTD_UNROLL_1 _Pragma("unroll 1")
#define IRSTD_UNROLL_4 _Pragma("unroll 4")
#define IRSTD_PRAGMA(text) _Pragma(#text)
#define IRSTD_UNROLL_BY(times) IRSTD_PRAGMA(unroll times)  // times: a constant, of template arguments too
#else
#define IRSTD_UNROLL
#define IRSTD_UNROLL_1
#define IRSTD_UNROLL_4
#define IRSTD_UNROLL_BY(times)
#endif
#ifndef IRSTD_MAX_BLOCKS
#define IRSTD_MAX_BLOCKS 65536  // more than any GPU holds at once; kernels stride over the rest
#endif

namespace irstd {

inline unsigned blocks_for(int64_t items) { return unsigned(items < IRSTD_MAX_BLOCKS ? items : IRSTD_MAX_BLOCKS); }

}  // namespace irstd
