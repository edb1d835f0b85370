// Second stage of sums over blocks: partial results are added in a fixed order, in double, so that reruns are bit-equal.
#pragma once
#include "common/tile.h"

namespace irstd {

// out[batch, x] = sum over rows of part[batch, row, x].
template <class A> struct Sum {
  const A* part;
  A* out;
  int64_t batches, rows, n;
};

template <class A, int Count> struct Sums { Sum<A> job[Count]; };

constexpr int kSumThreads = 256;

inline __host__ __device__ int sum_width(int64_t n) {
  int width = 1;
  while (width < n && width < 32) width *= 2;
  return width;
}

// blockIdx.y is the job. A block takes up to 32 columns; the threads of a column each add every (256 / width)-th row, then a tree adds the threads.
// Reads every partial once: bytes = sizeof(A) batches rows n.
template <class A, int Count> __global__ __launch_bounds__(kSumThreads) void sums_kernel(Sums<A, Count> jobs) {
  Sum<A> s = jobs.job[0];
  IRSTD_UNROLL
  for (int y = 1; y < Count; ++y)
    if (int(blockIdx.y) == y) s = jobs.job[y];
  IRSTD_DYN_SHARED(double, total);  // [groups][width]
  const int width = sum_width(s.n), groups = kSumThreads / width, t = threadIdx.x, column = t % width, group = t / width;
  const int64_t tiles = tile::ceil_div(s.n, width);
  for (int64_t item = blockIdx.x; item < s.batches * tiles; item += gridDim.x) {
    const int64_t batch = item / tiles, x = item % tiles * width + column;
    double sum = 0;
    if (x < s.n)
      for (int64_t row = group; row < s.rows; row += groups) sum += s.part[(batch * s.rows + row) * s.n + x];
    total[t] = sum;
    __syncthreads();
    for (int half = groups / 2; half > 0; half /= 2) {
      if (group < half) total[t] += total[t + half * width];
      __syncthreads();
    }
    if (group == 0 && x < s.n) s.out[batch * s.n + x] = A(total[t]);
    __syncthreads();
  }
}

template <class A, int Count> void launch_sums(const Sums<A, Count>& jobs, cudaStream_t stream) {
  int64_t most = 0;
  for (const Sum<A>& s : jobs.job) {
    const int64_t items = s.batches * tile::ceil_div(s.n, sum_width(s.n));
    if (items > most) most = items;
  }
  if (most > 0) IRSTD_LAUNCH((sums_kernel<A, Count>), dim3(blocks_for(most), Count), dim3(kSumThreads), kSumThreads * sizeof(double), stream, jobs);
}

}  // namespace irstd
