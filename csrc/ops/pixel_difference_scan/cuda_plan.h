// How pixel_difference_scan is cut into blocks, from the sizes alone, and where its intermediate results lie; read by cuda.cu.
#pragma once
#include <algorithm>

#include "ops/pixel_difference/cuda_backward.h"
#include "ops/pixel_difference_scan/cuda_backward.h"

namespace irstd::pixel_difference_scan {

constexpr int64_t kEnoughChains = 98304;  // (image, direction, channel, state) that keep a GPU busy when each is one pass over the image
constexpr int64_t kLeastSteps = 64;       // of a forward chunk: a cut costs a second exponential for every step
constexpr int64_t kMostSteps = 128, kFewestSteps = 32, kEnoughBlocks = 1024;  // of a backward chunk: fewer steps where there would be too few blocks

struct Cut {
  int64_t chunk, chunks;  // steps of a chunk, chunks of a direction
  Cut(int64_t L, int64_t steps) : chunk(std::max(steps, int64_t(1))), chunks(tile::ceil_div(L, chunk)) {}
};

// One chunk where chains are plenty; else the fewest that give four times as many chains as are enough.
inline Cut forward_cut(const Inputs& in) {
  const int64_t L = in.H * in.W, chains = in.B * kDirections * in.D * in.N;
  if (chains >= kEnoughChains || L <= kLeastSteps) return {L, L};
  const int64_t chunk = tile::ceil_div(L, tile::ceil_div(4 * kEnoughChains, chains));
  return {L, std::max(chunk, kLeastSteps)};
}

// States of a thread: four where they come out even, but not in double. A block holds up to kMaxWarps times as many; the rest is taken by further launches.
inline int states_of_thread(const Inputs& in) { return in.N % 4 == 0 && in.dtype != DType::f64 ? 4 : 1; }
inline int64_t launches(const Inputs& in) { return tile::ceil_div(in.N, states_of_thread(in) * kMaxWarps); }
inline int warps_of(const Inputs& in, int64_t launch) {
  const int64_t left = in.N / states_of_thread(in) - launch * kMaxWarps;
  return int(left < kMaxWarps ? left : kMaxWarps);
}
inline int64_t most_states(const Inputs& in) { return states_of_thread(in) * warps_of(in, 0); }

template <class A> Cut backward_cut(const Inputs& in) {
  const int64_t L = in.H * in.W, lines = in.B * kDirections * tile::ceil_div(in.D, kLanes), tile = kSteps<A> * warps_of(in, 0);
  const int64_t steps = std::min(std::max(tile::ceil_div(L * lines, kEnoughBlocks), kFewestSteps), kMostSteps);
  return {L, tile::ceil_div(steps, tile) * tile};
}

// Tiles of a backward chunk.
template <class A> int64_t tiles_of(const Cut& by, int warps) { return tile::ceil_div(by.chunk, kSteps<A> * warps); }

// Hands out a workspace piece by piece; without one it only counts.
template <class A> struct Pieces {
  A* base;
  int64_t used = 0;
  A* take(int64_t numbers) {
    A* piece = base ? base + used : nullptr;
    used += numbers;
    return piece;
  }
};

template <class A> struct ForwardSpace {
  int64_t numbers;
  A *p = nullptr, *y;  // [B, H, W, D], [K, B, H, W, D]
  Ends<A> ends{};
  ForwardSpace(const Inputs& in, A* base) {
    Pieces<A> pieces{base};
    const Cut by = forward_cut(in);
    const int64_t image = in.B * in.D * in.H * in.W, rows = in.B * kDirections * by.chunks * in.D;
    if (in.n > 0) p = pieces.take(image);
    y = pieces.take(kDirections * image);
    if (by.chunks > 1) ends.h = pieces.take(rows * most_states(in)), ends.total = pieces.take(rows);
    numbers = pieces.used;
  }
};

template <class A> pixel_difference::Field<A> field(const Inputs& in) {
  return {in.B, in.D, int(in.H), int(in.W), int(in.n), (const A*)in.weight, A(in.gamma), true};
}

template <class A> struct BackwardSpace {
  int64_t numbers;
  A *p = nullptr, *du, *dp = nullptr, *ddelta_sum = nullptr, *maps = nullptr, *dA, *dskip = nullptr, *dbias = nullptr;
  A* terms;                   // of the neighbour term's backward, when p, maps and ends are no longer needed
  Ends<A> ends{};
  BackwardSpace(const Inputs& in, A* base) {
    Pieces<A> pieces{base};
    const Cut by = backward_cut<A>(in);
    const int64_t image = in.B * in.D * in.H * in.W, rows = in.B * kDirections * by.chunks * in.D, channel_tiles = tile::ceil_div(in.D, kLanes), last = launches(in) - 1;
    du = pieces.take(kDirections * image);
    if (in.n > 0) dp = pieces.take(kDirections * image);
    dA = pieces.take(rows * in.N);
    if (in.skip) dskip = pieces.take(rows);
    if (in.bias) dbias = pieces.take(rows * launches(in));
    const int64_t kept = pieces.used;
    if (in.n > 0) p = pieces.take(image);
    if (last > 0) ddelta_sum = pieces.take(kDirections * image);
    if (channel_tiles > 1) maps = pieces.take(channel_tiles * in.B * kDirections * in.H * in.W * 2 * in.N);
    int64_t states_of_tiles = 0, tiles = 0;
    for (const int warps : {warps_of(in, 0), warps_of(in, last)}) {  // fewer warps take smaller tiles
      tiles = std::max(tiles, tiles_of<A>(by, warps)), states_of_tiles = std::max(states_of_tiles, tiles_of<A>(by, warps) * warps * states_of_thread(in));
    }
    ends.tile_h = pieces.take(rows * states_of_tiles), ends.tile_total = pieces.take(rows * tiles);
    if (by.chunks > 1) ends.h = pieces.take(rows * most_states(in)), ends.g = pieces.take(rows * most_states(in)), ends.total = pieces.take(rows);
    terms = base ? base + kept : nullptr;
    numbers = std::max(pieces.used, in.n > 0 ? kept + pixel_difference::backward_numbers(field<A>(in)) : 0);
  }
};

template <class A> constexpr DType type_of = sizeof(A) == 8 ? DType::f64 : DType::f32;

// dB, or dC, from `maps` on: dense [channel tiles, B, K, H, W, 2 N] of numbers.
template <class A> Strided map_parts(const Inputs& in, A* maps) {
  const int64_t line = in.H * in.W * 2 * in.N;
  return {Maps{maps, kDirections * line, line, 1, in.W * 2 * in.N, 2 * in.N}, type_of<A>, in.N};
}

// A dense [B, H, W, D] of numbers; four of them one after the other, [K, B, H, W, D].
template <class A> View dense_view(const Inputs& in, A* data) { return {data, in.H * in.W * in.D, 1, in.W * in.D, in.D}; }
template <class A> Strided dense_lines(const Inputs& in, A* data) {
  return {Maps{data, in.H * in.W * in.D, in.B * in.H * in.W * in.D, 1, in.W * in.D, in.D}, type_of<A>, in.D};
}

template <class A> Problem<A> problem(const Inputs& in, const Cut& by, A* p) {
  const DType type = in.dtype;
  return {in.B, in.D, in.N, int(in.H * in.W), int(by.chunk), int(by.chunks), Divide(in.W), Divide(in.H), 0, Strided(in.u, type, in.D), Strided(in.delta, type, in.D),
          Strided(in.Bs, type, in.N), Strided(in.Cs, type, in.N), Strided(dense_view(in, p), type_of<A>, in.D), (const A*)in.rate, (const A*)in.skip, (const A*)in.bias,
          in.softplus};
}

}  // namespace irstd::pixel_difference_scan
