// How the kernels of wavelet_diffusion walk over an image. A warp has one channel and a strip of up to kSpan columns, one or two a lane, and goes down row by
// row. What a step needs of the row before stays in registers, so that any number of steps follow each other within one row: each gives out the row above the
// one it is given. Lanes exchange by shuffles; a block, eight channels, meets only where channels are innermost, to read and write in that order.
#pragma once
#include "common/image.h"
#include "common/tile.h"
#include "ops/wavelet_diffusion/cuda.h"
#include "ops/wavelet_diffusion/math.h"

namespace irstd::wavelet_diffusion {

constexpr int kLanes = 32, kWarps = 8, kThreads = kLanes * kWarps;
template <class A> constexpr int kChunks = sizeof(A) == 8 ? 1 : 2;  // columns of a lane, 32 apart
template <class A> constexpr int kSpan = kLanes * kChunks<A>;
template <class A> constexpr int kPitch = kSpan<A> + 4;             // 8 channels x 4 columns fall into 32 banks
template <class A> constexpr int kRow = kWarps * kPitch<A>;         // numbers of a block's row in shared memory
constexpr int kMostRows = 64, kFewestRows = 8;                      // of a tile
constexpr int64_t kEnoughItems = 264;                               // that keep a GPU busy: rows around a tile are computed twice, an idle processor computes none

template <class A> struct Field {
  int64_t B, C, H, W;
  const A* k;           // [C]
  bool along_channels;  // neighbouring threads read and write; else along columns
  int halo;             // pixels around a tile that its results depend on
  int columns, rows;    // of a tile
  __host__ __device__ int64_t strips() const { return tile::ceil_div(W, columns); }
  __host__ __device__ int64_t tiles() const { return B * tile::ceil_div(H, rows) * strips(); }
  __host__ __device__ int64_t items() const { return tiles() * tile::ceil_div(C, kWarps); }
};

// No element: no field.
template <class A> Field<A> field(const Inputs& in, int halo) {
  const int columns = in.W <= kSpan<A> ? int(in.W) : kSpan<A> - 2 * halo;
  Field<A> f{in.B, in.C, in.H, in.W, (const A*)in.k, in.C > 1 && in.u.d < in.u.w, halo, columns, kMostRows};
  while (f.rows > kFewestRows && f.items() < kEnoughItems) f.rows /= 2;
  return f;
}

// One tile and this thread in it. The region, the tile and its halo as far as the image goes, is walked as if it were all there is: what that leaves out
// spreads by a pixel a step, and does not get through the halo. Rows and columns count from the region's corner.
struct Tile {
  int64_t b, c, top, left;  // c: channel of this warp
  int height, width;        // of the region
  int first, last, begin, end;  // rows and columns of the tile
  int channel, column;      // among those of the block: what this thread reads and writes, its column also 32 further
  int to_read, to_write;    // width and end, or 0 where that channel is not there
  bool computes;            // whether the warp's channel is there

  template <class A> __device__ __forceinline__ Tile(const Field<A>& f, int64_t item) {
    const int thread = threadIdx.x;
    const int64_t c_tiles = tile::ceil_div(f.C, kWarps), pixels = item / c_tiles, strips = f.strips(), rest = pixels / strips, rows = tile::ceil_div(f.H, f.rows);
    const int64_t c0 = item % c_tiles * kWarps, y = rest % rows * f.rows, x = pixels % strips * f.columns;
    b = rest / rows, c = c0 + thread / kLanes;
    channel = f.along_channels ? thread % kWarps : thread / kLanes, column = f.along_channels ? thread / kWarps : thread % kLanes;
    computes = c < f.C;
    first = tile::at_most(y, f.halo), begin = tile::at_most(x, f.halo);
    top = y - first, left = x - begin;
    last = first + tile::at_most(f.H - y, f.rows), end = begin + tile::at_most(f.W - x, f.columns);
    height = tile::at_most(f.H - top, last + f.halo), width = tile::at_most(f.W - left, end + f.halo);
    to_read = c0 + channel < f.C ? width : 0, to_write = c0 + channel < f.C ? end : 0;
  }
  __device__ __forceinline__ char* corner(const Image& image) const {  // of the region, at this thread's column
    return image.plane(b, c - int(threadIdx.x) / kLanes + channel) + top * image.h + (left + column) * image.w;
  }
};

template <class A> __device__ __forceinline__ A& slot(A* rows, int i, int channel, int column) { return rows[i * kRow<A> + channel * kPitch<A> + column]; }

// `Rows` rows that are read together, while those before are computed, and put into shared memory. One such batch follows the other.
template <class A, int Rows> struct Batch {
  const char* from;
  Element<A> found[Rows][kChunks<A>];
  __device__ __forceinline__ Batch(const Tile& at, const Image& image, int row) : from(at.corner(image) + row * image.h) {}
  __device__ __forceinline__ void read(const Tile& at, const Image& image, int row) {
    IRSTD_UNROLL
    for (int i = 0; i < Rows; ++i, from += image.h) {
      IRSTD_UNROLL
      for (int j = 0; j < kChunks<A>; ++j) {
        found[i][j] = {};
        if (row + i >= 0 && row + i < at.height && at.column + j * kLanes < at.to_read) found[i][j] = Element<A>::read(from + j * kLanes * image.w, image.type);
      }
    }
  }
  __device__ __forceinline__ void put(const Tile& at, A* rows, DType type) const {
    IRSTD_UNROLL
    for (int i = 0; i < Rows; ++i) {
      IRSTD_UNROLL
      for (int j = 0; j < kChunks<A>; ++j) slot(rows, i, at.channel, at.column + j * kLanes) = found[i][j].value(type);
    }
  }
};

// Writes the tile's part of the batches.
template <class A, int Rows> struct Target {
  char* to;
  __device__ __forceinline__ Target(const Tile& at, const Image& image, int row) : to(at.corner(image) + row * image.h) {}
  __device__ __forceinline__ void write(const Tile& at, A* rows, const Image& image, int row) {
    IRSTD_UNROLL
    for (int i = 0; i < Rows; ++i, to += image.h) {
      IRSTD_UNROLL
      for (int j = 0; j < kChunks<A>; ++j) {
        const int column = at.column + j * kLanes;
        if (row + i >= at.first && row + i < at.last && column >= at.begin && column < at.to_write)
          Element<A>::write(to + j * kLanes * image.w, image.type, slot(rows, i, at.channel, column));
      }
    }
  }
};

// The numbers one column to the right; at the last column anything.
template <class A, int M> __device__ __forceinline__ void from_right(const A (&v)[M], A (&to)[M]) {
  const int lane = threadIdx.x % kLanes;
  IRSTD_UNROLL
  for (int j = 0; j < M; ++j) to[j] = __shfl_sync(0xffffffffu, v[j], (lane + 1) % kLanes);
  IRSTD_UNROLL
  for (int j = 0; j + 1 < M; ++j)
    if (lane == kLanes - 1) to[j] = to[j + 1];
}

// The numbers one column to the left, and 0 at the first.
template <class A, int M> __device__ __forceinline__ void from_left(A (&v)[M]) {
  const int lane = threadIdx.x % kLanes;
  IRSTD_UNROLL
  for (int j = 0; j < M; ++j) v[j] = __shfl_sync(0xffffffffu, v[j], (lane + kLanes - 1) % kLanes);
  IRSTD_UNROLL
  for (int j = M - 1; j >= 0; --j)
    if (lane == 0) v[j] = j > 0 ? v[j > 0 ? j - 1 : 0] : A(0);
}

// What the cells between two rows move, by the column of their left corners: added up at the corners.
template <class A, int M> struct Moved {
  A top[M], bottom[M], top_right[M], bottom_right[M];
  template <bool AllHigh> __device__ __forceinline__ void set(int j, bool live, const Flow<A>& of) {
    const A e = live ? of.e : A(0), f = live ? of.f : A(0), x = AllHigh && live ? of.x : A(0);
    if constexpr (AllHigh) top[j] = e - x, bottom[j] = f + x, top_right[j] = x - f, bottom_right[j] = -e - x;
    else top[j] = e, bottom[j] = f, top_right[j] = -f, bottom_right[j] = -e;
  }
  // Takes the sums of the row above, and leaves those of the row below.
  __device__ __forceinline__ void add(const A (&own)[M], A (&sum)[M], A (&out)[M]) {
    from_left(top_right), from_left(bottom_right);
    IRSTD_UNROLL
    for (int j = 0; j < M; ++j) out[j] = own[j] + (sum[j] + (top[j] + top_right[j])), sum[j] = bottom[j] + bottom_right[j];
  }
};

template <class A, int M> __device__ __forceinline__ void keep(A (&to)[M], const A (&from)[M]) {
  IRSTD_UNROLL
  for (int j = 0; j < M; ++j) to[j] = from[j];
}

// One step. `own`, `right`: the row before and what is to the right of it; `sum`: what the cells above bring to it.
template <class A, int M> struct Step {
  A own[M] = {}, right[M] = {}, sum[M] = {};
  // The next row, and in its place the result of the row before. `cells`: whether the rows enclose any, `cell`: whether there is one right of the column.
  template <bool AllHigh> __device__ __forceinline__ void advance(A (&row)[M], bool cells, const bool (&cell)[M], A per_k) {
    A next[M], out[M];
    Moved<A, M> moved;
    from_right(row, next);
    IRSTD_UNROLL
    for (int j = 0; j < M; ++j) moved.template set<AllHigh>(j, cells && cell[j], flow<AllHigh>(own[j], right[j], row[j], next[j], per_k));
    moved.add(own, sum, out);
    keep(own, row), keep(right, next), keep(row, out);
  }
};

}  // namespace irstd::wavelet_diffusion
