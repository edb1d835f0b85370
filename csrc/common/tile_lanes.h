// Maps whose channels lie one after the other in memory, a vector of channels at a time: the layout the SIMD kernels over images work in.
#pragma once
#include <algorithm>

#include "common/checks.h"
#include "common/scratch.h"
#include "common/simd.h"

namespace irstd {

// One image, or one direction of it: element (row, column, channel) at p[row * h + column * w + channel].
template <class T> struct Map {
  T* p;
  int64_t h, w;
  T* at(int64_t row, int64_t column) const { return p + row * h + column * w; }
  Map from(int64_t channel) const { return {p + channel, h, w}; }
};

// `count` channels as a vector, the other lanes 0; and back.
template <class V> IRSTD_INLINE V load_channels(const simd::lane_t<V>* p, int count) {
  if (count == simd::lanes<V>) return simd::load<V>(p);
  simd::lane_t<V> lane[simd::lanes<V>] = {};
  for (int i = 0; i < count; ++i) lane[i] = p[i];
  return simd::load<V>(lane);
}

template <class V> IRSTD_INLINE void store_channels(simd::lane_t<V>* p, V v, int count) {
  if (count == simd::lanes<V>) return simd::store(p, v);
  simd::lane_t<V> lane[simd::lanes<V>];
  simd::store(lane, v);
  std::copy_n(lane, count, p);
}

// The image as whole vectors: itself, or where channels are missing a copy in `memory` ([H, W, lanes]).
template <class V> IRSTD_INLINE Map<const simd::lane_t<V>> in_lanes(Map<const simd::lane_t<V>> image, int64_t H, int64_t W, int count, Scratch<simd::lane_t<V>>& memory) {
  constexpr int lanes = simd::lanes<V>;
  if (count == lanes) return image;
  auto* copy = memory.take(H * W * lanes);
  for (int64_t r = 0; r < H; ++r)
    for (int64_t c = 0; c < W; ++c) simd::store(copy + (r * W + c) * lanes, load_channels<V>(image.at(r, c), count));
  return {copy, W * lanes, lanes};
}

// Where an image may be written as whole vectors: itself, else new memory, which to_image() copies into it at the end.
template <class V> IRSTD_INLINE Map<simd::lane_t<V>> for_lanes(Map<simd::lane_t<V>> image, int64_t H, int64_t W, int count, Scratch<simd::lane_t<V>>& memory) {
  constexpr int lanes = simd::lanes<V>;
  if (count == lanes) return image;
  return {memory.take(H * W * lanes), W * lanes, lanes};
}

template <class V> IRSTD_INLINE void to_image(Map<simd::lane_t<V>> from, Map<simd::lane_t<V>> image, int64_t H, int64_t W, int count) {
  if (from.p == image.p) return;
  for (int64_t r = 0; r < H; ++r)
    for (int64_t c = 0; c < W; ++c) store_channels(image.at(r, c), simd::load<V>(from.at(r, c)), count);
}

// f.operator()<V>(image, first channel, channels of it) for every vector of channels of every image, or as many as fill `least` bytes, shared out among
// torch's threads. work: steps of an instruction or a few that one of these takes; little work stays on one thread. f is always_inline.
template <class A, class F> void for_tiles(int64_t images, int64_t channels, int64_t work, const F& f, int least = 0) {
  simd::for_this_cpu([&]<int Bytes>() {
    const int64_t lanes = std::max(Bytes, least) / sizeof(A), tiles = (channels + lanes - 1) / lanes, grain = std::max<int64_t>(1, (1 << 14) / std::max<int64_t>(1, work));
    torch::stable::parallel_for(0, images * tiles, grain, [&](int64_t begin, int64_t end) {
      simd::call<Bytes>([&]<int Same>() __attribute__((always_inline)) {
        for (int64_t i = begin; i < end; ++i) {
          const int64_t d = i % tiles * lanes;
          f.template operator()<simd::vec<A, Same>>(i / tiles, d, int(std::min<int64_t>(lanes, channels - d)));
        }
      });
    });
  });
}

// A tensor [..., C, H, W] with C innermost in memory: itself, or a copy.
inline bool channels_inner(const Tensor& t) { return t.size(t.dim() - 3) <= 1 || t.stride(t.dim() - 3) == 1; }
inline Tensor channels_last(const Tensor& t) {  // [..., H, W, C], dense
  const int64_t n = t.dim();
  return torch::stable::contiguous(torch::stable::transpose(torch::stable::transpose(t, n - 3, n - 2), n - 2, n - 1));
}
inline Tensor channels_first(const Tensor& t) {  // a view of [..., H, W, C] as [..., C, H, W]
  const int64_t n = t.dim();
  return torch::stable::transpose(torch::stable::transpose(t, n - 2, n - 1), n - 3, n - 2);
}
// t in the type computed in, with C innermost: t itself where it is that. Half precision is widened as a whole: it is there for memory, not for a CPU's speed.
inline Tensor ready(const Tensor& t) {
  const Tensor wide = torch::stable::to(t, accum_dtype(t));
  return channels_inner(wide) ? wide : channels_first(channels_last(wide));
}

// A result of the size, type and memory format of `like`, and the tensor that a kernel writes, in the type computed in and with C innermost: the same one,
// or another that finish() copies from.
struct Result {
  Tensor out, work;
  explicit Result(const Tensor& like) : out(torch::stable::empty_like(like)), work(out) {
    if (channels_inner(out) && like.scalar_type() == accum_dtype(like)) return;
    const int64_t n = like.dim();
    std::vector<int64_t> shape;
    for (int64_t i = 0; i < n - 3; ++i) shape.push_back(like.size(i));
    for (int64_t i : {n - 2, n - 1, n - 3}) shape.push_back(like.size(i));
    work = channels_first(torch::stable::new_empty(like, shape, accum_dtype(like)));
  }
  Tensor finish() {
    if (work.data_ptr() != out.data_ptr()) torch::stable::copy_(out, work);
    return out;
  }
};

}  // namespace irstd
