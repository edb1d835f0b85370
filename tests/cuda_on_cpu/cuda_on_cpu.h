// Runs CUDA C++ kernels on the CPU for tests: one fiber per CUDA thread, one block at a time.
#pragma once
#include <cuda_runtime.h>
#include <ucontext.h>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n)
#define ASAN_UNPOISON_MEMORY_REGION(p, n)
#endif
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __shared__ static            // one block runs at a time
struct uint3_ { unsigned x = 0, y = 0, z = 0; };
struct dim3 { unsigned x, y, z; dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {} };
namespace cpu_cuda {
constexpr size_t kSharedLimit = 48 * 1024, kGuard = 1024, kStack = 1 << 16;  // what a block gets without asking for more
struct Fiber { ucontext_t ctx; std::unique_ptr<char[]> stack; bool done = false; uint3_ tid; unsigned lin = 0; uint64_t shuffles = 0; };
inline std::exception_ptr error; inline std::vector<Fiber>* fibers; inline Fiber* cur; inline ucontext_t sched; inline std::function<void()>* body;
inline uint3_ block_idx; inline dim3 block_dim, grid_dim;
alignas(16) inline char dyn_shared[kSharedLimit + kGuard]; inline uint64_t slots[2][1024];
inline int order = 0;                // of the threads between two barriers, and of the blocks: 0 ascending, 1 descending, 2 shuffled
inline std::string log;              // "kernel threads" of every launch, a line each
inline void yield() { swapcontext(&cur->ctx, &sched); }
void leave();
inline void entry() { try { (*body)(); } catch (...) { error = std::current_exception(); } cur->done = true; leave(); swapcontext(&cur->ctx, &sched); }
// No fiber leaves before all have arrived; a divergent barrier is an error, not a hang.
struct Barrier { unsigned size = 0, arrived = 0, done = 0; uint64_t turn = 0; };
inline Barrier of_block, of_warp[32];
inline void wait(Barrier& b) {
  const uint64_t turn = b.turn;
  if (++b.arrived == b.size) { b.arrived = 0; ++b.turn; return; }
  for (int spins = 0; b.turn == turn; ++spins) {
    if (b.arrived + b.done == b.size) throw std::runtime_error("barrier not reached by every thread");
    if (spins > 100000) throw std::runtime_error("barrier deadlock");
    yield();
  }
}
inline void block_barrier() { wait(of_block); }
inline void leave() { ++of_block.done; ++of_warp[cur->lin / 32].done; }
inline void warp_barrier() { wait(of_warp[cur->lin / 32]); }
inline std::vector<unsigned> sequence(unsigned n) {
  static std::mt19937 random;
  std::vector<unsigned> s(n);
  std::iota(s.begin(), s.end(), 0u);
  if (order == 1) std::reverse(s.begin(), s.end());
  if (order == 2) std::shuffle(s.begin(), s.end(), random);
  return s;
}
template <class K, class... A> void launch(const char* name, K k, dim3 g, dim3 b, size_t shared, A... a) {
  const unsigned n = b.x * b.y * b.z; std::function<void()> f = [&] { k(a...); };
  if (n == 0 || n > 1024 || g.x == 0 || g.y == 0 || g.z == 0) throw std::runtime_error("launch of " + std::to_string(g.x) + " blocks of " + std::to_string(n) + " threads");
  if (shared > kSharedLimit) throw std::runtime_error("launch with " + std::to_string(shared) + " bytes of shared memory");
  grid_dim = g; block_dim = b; body = &f; log += name + (" " + std::to_string(n)) + "\n";
  static thread_local std::vector<Fiber> fs;
  fs.resize(n); fibers = &fs;
  for (auto& x : fs) if (!x.stack) x.stack.reset(new char[kStack]);
  for (unsigned block : sequence(g.x * g.y * g.z)) {
    block_idx = {block % g.x, block / g.x % g.y, block / (g.x * g.y)};
    ASAN_UNPOISON_MEMORY_REGION(dyn_shared, sizeof dyn_shared);
    std::memset(dyn_shared, 0xFF, shared + kGuard);  // NaN in every type
    ASAN_POISON_MEMORY_REGION(dyn_shared + shared, sizeof dyn_shared - shared);
    of_block = {n};
    for (unsigned w = 0; w * 32 < n; ++w) of_warp[w] = {std::min(32u, n - w * 32)};
    for (unsigned i = 0; i < n; ++i) {
      Fiber& x = fs[i]; x.done = false; x.shuffles = 0; x.lin = i; x.tid = {i % b.x, i / b.x % b.y, i / (b.x * b.y)};
      getcontext(&x.ctx); x.ctx.uc_stack.ss_sp = x.stack.get(); x.ctx.uc_stack.ss_size = kStack; x.ctx.uc_link = &sched;
      makecontext(&x.ctx, entry, 0);
    }
    const std::vector<unsigned> turn = sequence(n);
    for (bool any = true; any && !error;) { any = false; for (unsigned i : turn) if (!fs[i].done) { any = true; cur = &fs[i]; swapcontext(&sched, &cur->ctx); } }
    ASAN_UNPOISON_MEMORY_REGION(dyn_shared, sizeof dyn_shared);
    if (error) { auto e = error; error = nullptr; std::rethrow_exception(e); }
    for (size_t i = 0; i < kGuard; ++i) if (dyn_shared[shared + i] != char(0xFF)) throw std::runtime_error("write beyond the block's shared memory");
  }
}
// Two sets of slots in turn: nobody can write a set again before all have read it, since the other set's barrier lies between.
template <class T> T shfl(T v, unsigned src_lane) {
  const unsigned w = cur->lin / 32 * 32; uint64_t raw = 0; std::memcpy(&raw, &v, sizeof v);
  uint64_t* set = slots[cur->shuffles++ % 2];
  set[cur->lin] = raw; warp_barrier(); raw = set[w + src_lane % 32];
  T out; std::memcpy(&out, &raw, sizeof out); return out;
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
template <class T> T __shfl_sync(unsigned, T v, int l) { return cpu_cuda::shfl(v, unsigned(l)); }
template <class T> T atomicAdd(T* p, T v) { T o = *p; *p += v; return o; }
template <class T> T __ldg(const T* p) { return *p; }
#define IRSTD_LAUNCH(kernel, grid, block, smem, stream, ...) cpu_cuda::launch(#kernel, kernel, grid, block, smem, __VA_ARGS__)
#define IRSTD_DYN_SHARED(T, name) T* name = reinterpret_cast<T*>(cpu_cuda::dyn_shared)
#define IRSTD_MAX_BLOCKS 3           // so that blocks take several turns
#define IRSTD_EXPORT extern "C" __attribute__((visibility("default"), used)) inline
IRSTD_EXPORT void cpu_cuda_set_order(int order) { cpu_cuda::order = order; }
// The launches since the last call.
IRSTD_EXPORT const char* cpu_cuda_take_log() { static std::string taken; taken.swap(cpu_cuda::log); cpu_cuda::log.clear(); return taken.c_str(); }
