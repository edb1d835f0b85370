// Marks functions that both a C++ compiler and nvcc read.
#pragma once
#ifdef __CUDACC__
#define IRSTD_HD __host__ __device__ __forceinline__
#else
#define IRSTD_HD inline __attribute__((always_inline))
#endif
