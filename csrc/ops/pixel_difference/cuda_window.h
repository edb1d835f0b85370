// What the kernels of pixel_difference share: how threads lie over an image, the pixels around one, and the neighbour term there. Also read by
// pixel_difference_scan.
#pragma once
#include <cmath>

#include "common/image.h"
#include "common/tile.h"
#include "ops/pixel_difference/cuda.h"
#include "ops/pixel_difference/math.h"

namespace irstd::pixel_difference {

constexpr int kLanes = 32, kWarps = 8, kThreads = kLanes * kWarps;
constexpr int kRows = 8;  // that a thread walks down
template <class A> constexpr int kBlocks = sizeof(A) == 8 ? 2 : 3;  // on a multiprocessor, with the registers that the window needs

// A dense image of numbers, strides in numbers.
template <class A> struct Dense {
  A* data;
  int64_t b, d, h, w;
  __device__ __forceinline__ A* plane(int64_t image, int64_t channel) const { return data + image * b + channel * d; }
};

template <class A> struct Field {
  int64_t B, D;
  int H, W, n;
  const A* weight;      // [2, n, D]
  A gamma;
  bool along_channels;  // neighbouring threads; else along columns
};

template <class A> Field<A> field(const Inputs& in) {
  return {in.B, in.D, int(in.H), int(in.W), int(in.n), (const A*)in.weight, A(in.gamma), in.u.d <= in.u.w};
}

// With neighbouring threads on neighbouring numbers.
template <class A> Dense<A> dense_image(const Field<A>& f, A* data) {
  const int64_t plane = int64_t(f.H) * f.W;
  if (f.along_channels) return {data, plane * f.D, 1, f.W * f.D, f.D};
  return {data, plane * f.D, plane, f.W, 1};
}

// Sum of `count` <= 4 dense [B, H, W, D], `apart` numbers apart, in their order: what the directions of pixel_difference_scan give.
template <class A> struct Parts {
  const A* data;
  int count;
  int64_t apart;
  __device__ __forceinline__ A at(int64_t offset) const {
    A part[4], sum = 0;
    IRSTD_UNROLL
    for (int i = 0; i < 4; ++i) part[i] = i < count ? data[i * apart + offset] : A(0);
    IRSTD_UNROLL
    for (int i = 0; i < 4; ++i) sum += part[i];
    return sum;
  }
};

// Where a thread of item `item` works: one channel, one column, rows [first, last). Items of 32 channels x 8 columns, or of 8 channels x 32 columns.
struct Place {
  int64_t b, d;
  int column, first, last;
  bool live;

  template <class A> static __host__ __device__ int64_t tiles(const Field<A>& f) {  // of the pixels of an image
    return tile::ceil_div(f.H, kRows) * tile::ceil_div(f.W, f.along_channels ? kWarps : kLanes);
  }
  template <class A> static __host__ __device__ int64_t items(const Field<A>& f) {
    return f.B * tiles(f) * tile::ceil_div(f.D, f.along_channels ? kLanes : kWarps);
  }
  template <class A> __device__ __forceinline__ Place(const Field<A>& f, int64_t item) {
    const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
    const int64_t d_tiles = tile::ceil_div(f.D, f.along_channels ? kLanes : kWarps), columns = tile::ceil_div(f.W, f.along_channels ? kWarps : kLanes);
    const int64_t d_tile = item % d_tiles, pixels = item / d_tiles, rest = pixels / columns, rows = tile::ceil_div(f.H, kRows);
    b = rest / rows;
    first = int(rest % rows) * kRows, last = first + kRows < f.H ? first + kRows : f.H;
    d = f.along_channels ? d_tile * kLanes + lane : d_tile * kWarps + warp;
    const int64_t c = pixels % columns * (f.along_channels ? kWarps : kLanes) + (f.along_channels ? warp : lane);
    live = d < f.D && c < f.W;
    column = int(live ? c : 0);
  }
  // In a dense [B, H, W, D].
  template <class A> __device__ __forceinline__ int64_t offset(const Field<A>& f, int row) const { return ((b * f.H + row) * f.W + column) * f.D + d; }
};

// Moves a window one row down: every row takes the place of the one above, and the last is to be read.
template <class A, int K> __device__ __forceinline__ void move_down(A (&v)[K][K]) {
  IRSTD_UNROLL
  for (int i = 0; i + 1 < K; ++i) {
    IRSTD_UNROLL
    for (int j = 0; j < K; ++j) v[i][j] = v[i + 1][j];
  }
}

// The pixels around (row, column) of one plane, beyond the border those at the border. With N > 0 a (2N+1) x (2N+1) window moves down in registers,
// 2N + 1 reads a pixel; with N = 0 every read goes to the cache.
template <class A, int N> struct Window {
  const char* plane;
  DType type;
  int64_t h, x[2 * N + 1];
  int H;
  A v[2 * N + 1][2 * N + 1];

  __device__ __forceinline__ Window(const Image& u, int64_t b, int64_t d, int H, int W, int first, int column) : plane(u.plane(b, d)), type(u.type), h(u.h), H(H) {
    IRSTD_UNROLL
    for (int j = 0; j <= 2 * N; ++j) x[j] = clamped(column + j - N, W) * u.w;
    IRSTD_UNROLL
    for (int i = 1; i <= 2 * N; ++i) read(i, first + i - 1 - N);
  }
  // The pixels around `row`, which follows the row before, or is the first.
  __device__ __forceinline__ void move_to(int row) {
    move_down(v);
    read(2 * N, row + N);
  }
  __device__ __forceinline__ A at(int dy, int dx) const { return v[N + dy][N + dx]; }

 private:
  __device__ __forceinline__ void read(int i, int row) {
    const char* p = plane + clamped(row, H) * h;
    Element<A> found[2 * N + 1];
    IRSTD_UNROLL
    for (int j = 0; j <= 2 * N; ++j) found[j] = Element<A>::read(p + x[j], type);
    IRSTD_UNROLL
    for (int j = 0; j <= 2 * N; ++j) v[i][j] = found[j].value(type);
  }
};

template <class A> struct Window<A, 0> {
  const char* plane;
  DType type;
  int64_t h, w;
  int H, W, row, column;
  __device__ __forceinline__ Window(const Image& u, int64_t b, int64_t d, int H, int W, int first, int column)
      : plane(u.plane(b, d)), type(u.type), h(u.h), w(u.w), H(H), W(W), row(first), column(column) {}
  __device__ __forceinline__ void move_to(int r) { row = r; }
  __device__ __forceinline__ A at(int dy, int dx) const {
    return Element<A>::read(plane + clamped(row + dy, H) * h + clamped(column + dx, W) * w, type).value(type);
  }
};

// Weight of the k-th difference of an arm along an axis in G: those of the windows it is in, times share(k). 0 for k outside [0, n).
template <class A, int N> struct Slopes {
  A v[2][N];
  __device__ __forceinline__ Slopes(const Field<A>& f, int64_t d) {
    IRSTD_UNROLL
    for (int axis = 0; axis < 2; ++axis) {
      A sum = 0;
      IRSTD_UNROLL
      for (int k = N - 1; k >= 0; --k) {
        sum += f.weight[(axis * N + k) * f.D + d];
        v[axis][k] = sum * share<A>(k);
      }
    }
  }
  __device__ __forceinline__ A at(int axis, int k) const { return k >= 0 && k < N ? v[axis][k] : A(0); }
};

template <class A> struct Slopes<A, 0> {
  const A* weight;
  int64_t D;
  int n;
  __device__ __forceinline__ Slopes(const Field<A>& f, int64_t d) : weight(f.weight + d), D(f.D), n(f.n) {}
  __device__ __forceinline__ A at(int axis, int k) const {
    if (k < 0 || k >= n) return 0;
    A sum = 0;
    for (int i = k; i < n; ++i) sum += weight[(axis * n + i) * D];
    return sum * share<A>(k);
  }
};

template <class A> struct Term {
  A G, m, mean, theta;
  bool peak;       // case 1; mean and theta are set only there
  A tanh_of;       // tanh(m / theta - 1) in case 1, else 0
};

// Eq. 6-10 at one pixel. 16 n + 8 operations, and 3 (2n+1)^2 where all four differences are positive: only there can they exceed the deviation, which is
// taken in two passes.
template <int N, class A> __device__ __forceinline__ Term<A> term_at(const Window<A, N>& u, const Slopes<A, N>& slopes, int fields_n) {
  const int n = N > 0 ? N : fields_n;
  A right = 0, left = 0, down = 0, up = 0, G = 0;
  IRSTD_UNROLL_BY((N > 0 ? N : 1))
  for (int k = 0; k < n; ++k) {
    const A r = u.at(0, k) - u.at(0, k + 1), l = u.at(0, -k) - u.at(0, -k - 1), d = u.at(k, 0) - u.at(k + 1, 0), t = u.at(-k, 0) - u.at(-k - 1, 0);
    G += slopes.at(0, k) * (r + l) + slopes.at(1, k) * (d + t);
    right += r * share<A>(k), left += l * share<A>(k), down += d * share<A>(k), up += t * share<A>(k);
  }
  Term<A> found{G, (right + left + down + up) * A(0.25), 0, 0, false, 0};
  const A least = fmin(fmin(right, left), fmin(down, up));
  if (!(least > 0)) return found;
  A sum = 0, squares = 0;
  const A one_of = A(1) / A((2 * n + 1) * (2 * n + 1));
  IRSTD_UNROLL_BY((N > 0 ? 2 * N + 1 : 1))
  for (int dy = -n; dy <= n; ++dy) {
    IRSTD_UNROLL_BY((N > 0 ? 2 * N + 1 : 1))
    for (int dx = -n; dx <= n; ++dx) sum += u.at(dy, dx);
  }
  found.mean = sum * one_of;
  IRSTD_UNROLL_BY((N > 0 ? 2 * N + 1 : 1))
  for (int dy = -n; dy <= n; ++dy) {
    IRSTD_UNROLL_BY((N > 0 ? 2 * N + 1 : 1))
    for (int dx = -n; dx <= n; ++dx) {
      const A off = u.at(dy, dx) - found.mean;
      squares += off * off;
    }
  }
  found.theta = std::sqrt(squares * one_of);
  found.peak = least > found.theta && found.theta > 0;  // squares of tiny differences may be 0
  if (found.peak) found.tanh_of = std::tanh(found.m / found.theta - 1);
  return found;
}

}  // namespace irstd::pixel_difference
