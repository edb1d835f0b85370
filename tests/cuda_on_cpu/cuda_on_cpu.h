// Runs CUDA C++ kernels on the CPU for tests: one fiber per CUDA thread, one block at a time.
#pragma once
#include <ucontext.h>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <vector>
#include <cmath>
#include <stdexcept>
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define __shared__ static            // one block runs at a time
struct uint3_ { unsigned x = 0, y = 0, z = 0; };
struct dim3 { unsigned x, y, z; dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {} };
namespace cpu_cuda {
struct Fiber { ucontext_t ctx; std::unique_ptr<char[]> stack; bool done = false; uint3_ tid; unsigned lin; uint64_t block_wait = 0, warp_wait = 0; };
inline std::exception_ptr error; inline std::vector<Fiber>* fibers; inline Fiber* cur; inline ucontext_t sched; inline std::function<void()>* body;
inline uint3_ block_idx; inline dim3 block_dim, grid_dim;
alignas(16) inline char dyn_shared[1 << 17]; inline uint64_t slots[1024];
inline void yield() { swapcontext(&cur->ctx, &sched); }
inline void entry() { try { (*body)(); } catch (...) { error = std::current_exception(); } cur->done = true; swapcontext(&cur->ctx, &sched); }
// No fiber of [lo, hi) leaves before all have arrived; a divergent barrier is an error, not a hang.
inline void barrier(uint64_t Fiber::*wait, unsigned lo, unsigned hi) {
  const uint64_t my = ++(cur->*wait);
  for (int spins = 0;; ++spins) {
    bool all = true;
    for (unsigned i = lo; i < hi && i < fibers->size(); ++i) {
      if ((*fibers)[i].done && (*fibers)[i].*wait < my) throw std::runtime_error("barrier not reached by every thread");
      all &= (*fibers)[i].*wait >= my;
    }
    if (all) return;
    if (spins > 100000) throw std::runtime_error("barrier deadlock");
    yield();
  }
}
inline void block_barrier() { barrier(&Fiber::block_wait, 0, fibers->size()); }
inline void warp_barrier() { const unsigned w = cur->lin / 32 * 32; barrier(&Fiber::warp_wait, w, w + 32); }
template <class K, class... A> void launch(K k, dim3 g, dim3 b, size_t, A... a) {
  const unsigned n = b.x * b.y * b.z; std::function<void()> f = [&] { k(a...); };
  grid_dim = g; block_dim = b; body = &f;
  std::vector<Fiber> fs(n); fibers = &fs;
  for (auto& x : fs) x.stack.reset(new char[65536]);
  for (unsigned bz = 0; bz < g.z; ++bz) for (unsigned by = 0; by < g.y; ++by) for (unsigned bx = 0; bx < g.x; ++bx) {
    block_idx = {bx, by, bz}; std::memset(dyn_shared, 0xCD, sizeof dyn_shared);
    for (unsigned i = 0; i < n; ++i) {
      Fiber& x = fs[i]; x.done = false; x.block_wait = x.warp_wait = 0; x.lin = i; x.tid = {i % b.x, i / b.x % b.y, i / (b.x * b.y)};
      getcontext(&x.ctx); x.ctx.uc_stack.ss_sp = x.stack.get(); x.ctx.uc_stack.ss_size = 65536; x.ctx.uc_link = &sched;
      makecontext(&x.ctx, entry, 0);
    }
    for (bool any = true; any;) { any = false; for (auto& x : fs) if (!x.done) { any = true; cur = &x; swapcontext(&sched, &x.ctx); } }
    if (error) { auto e = error; error = nullptr; std::rethrow_exception(e); }
  }
}
template <class T> T shfl(T v, unsigned src_lane) {
  const unsigned w = cur->lin / 32 * 32; uint64_t raw = 0; std::memcpy(&raw, &v, sizeof v);
  slots[cur->lin] = raw; warp_barrier(); uint64_t r = slots[w + src_lane % 32]; warp_barrier();
  T out; std::memcpy(&out, &r, sizeof out); return out;
}
}  // namespace cpu_cuda
#define threadIdx (cpu_cuda::cur->tid)
#define blockIdx cpu_cuda::block_idx
#define blockDim cpu_cuda::block_dim
#define gridDim cpu_cuda::grid_dim
inline void __syncthreads() { cpu_cuda::block_barrier(); }
inline void __syncwarp(unsigned = ~0u) { cpu_cuda::warp_barrier(); }
template <class T> T __shfl_down_sync(unsigned, T v, unsigned d) { const unsigned l = cpu_cuda::cur->lin % 32; return cpu_cuda::shfl(v, l + d < 32 ? l + d : l); }
template <class T> T __shfl_xor_sync(unsigned, T v, unsigned m) { return cpu_cuda::shfl(v, (cpu_cuda::cur->lin % 32) ^ m); }
template <class T> T atomicAdd(T* p, T v) { T o = *p; *p += v; return o; }
template <class T> T __ldg(const T* p) { return *p; }
using cudaStream_t = void*; using cudaError_t = int; enum { cudaSuccess = 0 }; inline cudaError_t cudaGetLastError() { return 0; }
#define IRSTD_LAUNCH(kernel, grid, block, smem, stream, ...) cpu_cuda::launch(kernel, grid, block, smem, __VA_ARGS__)
#define IRSTD_DYN_SHARED(T, name) T* name = reinterpret_cast<T*>(cpu_cuda::dyn_shared)
