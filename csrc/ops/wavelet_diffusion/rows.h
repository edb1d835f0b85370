// One row of cells, between two rows of pixels: its flows, the pixels above it finished, and what those below have got so far. Nothing else is kept of a step,
// so that several follow each other down an image a row apart.
//
// Per pixel and step: 4 loads of the pixels, 1 of what the row above left, 2 stores; 15 operations forward, one of them a division. Neighbours in a row are found in
// registers: where a vector is columns, by a shift of the flows one column to the right; where it is channels, as the vector of the column before.
#pragma once
#include "common/tile_lanes.h"
#include "ops/wavelet_diffusion/math.h"

namespace irstd::wavelet_diffusion {

// Pixels of one image row: of one channel, or `count` channels at every column, w elements apart.
template <class A> struct Row {
  A* p;
  int64_t w;
  int64_t count;  // channels; or elements that may be written, where a vector is columns
};

// The cells' part of two rows' new pixels. `left` is the flow of the cell to the left.
template <bool AllHigh, class V> IRSTD_INLINE V to_upper(const Flow<V>& own, const Flow<V>& left) {
  if constexpr (AllHigh) return (own.e - left.f) + (left.x - own.x);
  else return own.e - left.f;
}
template <bool AllHigh, class V> IRSTD_INLINE V to_lower(const Flow<V>& own, const Flow<V>& left) {
  if constexpr (AllHigh) return (own.f - left.e) + (own.x - left.x);
  else return own.f - left.e;
}

// Vectors of columns of one channel. Rows may be read up to a vector and an element beyond their end.
template <class V> struct Columns {
  using A = simd::lane_t<V>;
  static constexpr int lanes = simd::lanes<V>, channels = 1;
  int64_t W;
  V per_k;

  IRSTD_INLINE Columns(int64_t W, const A* per_k, int) : W(W), per_k(V{} + *per_k) {}
  int64_t pitch() const { return (W + lanes - 1) / lanes * lanes + lanes; }
  template <class T> Row<T> in_memory(T* p) const { return {p, 1, pitch()}; }
  template <class T> static Row<T> in_image(const Map<T>& map, int64_t row, int64_t W, int64_t) { return {map.p + row * map.h, 1, W}; }
  // Whether a row of an image can be read where it is: rows after it fill the vector.
  static bool readable(const Map<const A>& map, int64_t rows_after) { return rows_after * map.h > lanes; }
  void copy(Row<const A> from, A* to) const { std::copy_n(from.p, W, to); }

  template <bool AllHigh> IRSTD_INLINE void step(Row<const A> up, const Row<const A>* down, A* given, const Row<A>* out) const {
    run<AllHigh>(up, down, given, out, [&](int64_t x, V a) __attribute__((always_inline)) {
      foresee(*down, x);
      return flow<AllHigh>(a, simd::load<V>(up.p + x + 1), simd::load<V>(down->p + x), simd::load<V>(down->p + x + 1), per_k);
    }, [](auto) __attribute__((always_inline)) {});
  }
  // The same with the gradients y of the step's result in the place of the pixels. dk[0] += the row's part.
  template <bool AllHigh> IRSTD_INLINE void back(Row<const A> up, const Row<const A>* down, Row<const A> y_up, const Row<const A>* y_down, A* given, const Row<A>* out, double* dk) const {
    V sum{}, part{};
    run<AllHigh>(y_up, y_down, given, out, [&](int64_t x, V ya) __attribute__((always_inline)) {
      foresee(*down, x), foresee(*y_down, x);
      return flow_backward<AllHigh>(simd::load<V>(up.p + x), simd::load<V>(up.p + x + 1), simd::load<V>(down->p + x), simd::load<V>(down->p + x + 1), ya, simd::load<V>(y_up.p + x + 1),
                                    simd::load<V>(y_down->p + x), simd::load<V>(y_down->p + x + 1), per_k, part);
    }, [&](auto there) __attribute__((always_inline)) { sum += there(part); });
    if (dk && y_down) dk[0] += simd::sum(sum);
  }

 private:
  // A page of memory ahead: the processor itself foresees no further than the end of this one.
  static IRSTD_INLINE void foresee(const Row<const A>& row, int64_t x) { __builtin_prefetch(row.p + x + 4096 / sizeof(A)); }

  using I = simd::vec<std::conditional_t<sizeof(A) == 4, int32_t, int64_t>, int(sizeof(V))>;
  static IRSTD_INLINE V shifted(V before, V own) {  // own one lane up, its first lane from before
#ifdef __clang__
    V r;
    r[0] = before[lanes - 1];
    for (int i = 1; i < lanes; ++i) r[i] = own[i - 1];
    return r;
#else
    I m{};
    for (int i = 0; i < lanes; ++i) m[i] = lanes - 1 + i;
    return __builtin_shuffle(before, own, m);
#endif
  }

  template <bool AllHigh, class F, class G> IRSTD_INLINE void run(Row<const A> up, const Row<const A>* down, A* given, const Row<A>* out, const F& cells, const G& seen) const {
    Flow<V> before{};
    I number{};
    for (int i = 0; i < lanes; ++i) number[i] = i;
    auto vector = [&](int64_t x, auto last) __attribute__((always_inline)) {
      const V a = simd::load<V>(up.p + x);
      Flow<V> own{};
      if (down) {
        own = cells(x, a);
        if constexpr (last) {
          const I there = number < I{} + typename std::remove_cvref_t<decltype(number[0])>(W - 1 - x);  // cells end a column before the pixels
          own = {there ? own.e : V{}, there ? own.f : V{}, there ? own.x : V{}};
          seen([&](V v) __attribute__((always_inline)) { return there ? v : V{}; });
        } else {
          seen([](V v) __attribute__((always_inline)) { return v; });
        }
      }
      Flow<V> left{shifted(before.e, own.e), shifted(before.f, own.f), {}};
      if constexpr (AllHigh) left.x = shifted(before.x, own.x);
      if (out) {
        const V pixel = a + (simd::load<V>(given + x) + to_upper<AllHigh>(own, left));
        if (!last || x + lanes <= out->count) simd::store(out->p + x, pixel);
        else store_channels(out->p + x, pixel, int(W - x));
      }
      simd::store(given + x, to_lower<AllHigh>(own, left));
      before = own;
    };
    int64_t x = 0;
    for (; x + lanes < W; x += lanes) vector(x, std::false_type{});
    vector(x, std::true_type{});
  }
};

// A cache line of channels, as one or more vectors: column after column.
template <class V> struct Channels {
  using A = simd::lane_t<V>;
  static constexpr int lanes = simd::lanes<V>, channels = 64 / sizeof(A);
  int64_t W;
  int count;  // of the channels, those there are
  A per_k[channels];

  IRSTD_INLINE Channels(int64_t W, const A* k, int count) : W(W), count(count), per_k{} { std::copy_n(k, count, per_k); }
  int64_t pitch() const { return W * channels; }
  template <class T> Row<T> in_memory(T* p) const { return {p, channels, channels}; }
  template <class T> static Row<T> in_image(const Map<T>& map, int64_t row, int64_t, int64_t count) { return {map.p + row * map.h, map.w, count}; }
  static bool readable(const Map<const A>&, int64_t) { return true; }
  void copy(Row<const A>, A*) const {}

  template <bool AllHigh> IRSTD_INLINE void step(Row<const A> up, const Row<const A>* down, A* given, const Row<A>* out) const {
    vectors([&]<bool Whole>(int first) __attribute__((always_inline)) {
      auto at = [&](const Row<const A>& row, int64_t x) __attribute__((always_inline)) { return load<Whole>(row, x, first); };
      const V k = simd::load<V>(per_k + first);
      V a = at(up, 0), c = down ? at(*down, 0) : V{};
      run<AllHigh, Whole>(a, down, given + first, out, first, [&](int64_t x) __attribute__((always_inline)) {
        if (first == 0) foresee(*down, x);
        const V b = at(up, x), d = at(*down, x);
        const Flow<V> own = flow<AllHigh>(a, b, c, d, k);
        a = b, c = d;
        return own;
      }, [&](int64_t x) __attribute__((always_inline)) { return at(up, x); });
    });
  }
  // dk[channel] += the row's part.
  template <bool AllHigh> IRSTD_INLINE void back(Row<const A> up, const Row<const A>* down, Row<const A> y_up, const Row<const A>* y_down, A* given, const Row<A>* out, double* dk) const {
    vectors([&]<bool Whole>(int first) __attribute__((always_inline)) {
      auto at = [&](const Row<const A>& row, int64_t x) __attribute__((always_inline)) { return load<Whole>(row, x, first); };
      const V k = simd::load<V>(per_k + first);
      V a = at(up, 0), c = down ? at(*down, 0) : V{}, ya = at(y_up, 0), yc = y_down ? at(*y_down, 0) : V{}, sum{};
      run<AllHigh, Whole>(ya, y_down, given + first, out, first, [&](int64_t x) __attribute__((always_inline)) {
        if (first == 0) foresee(*down, x), foresee(*y_down, x);
        const V b = at(up, x), d = at(*down, x), yb = at(y_up, x), yd = at(*y_down, x);
        V part;
        const Flow<V> own = flow_backward<AllHigh>(a, b, c, d, ya, yb, yc, yd, k, part);
        sum += part;
        a = b, c = d, ya = yb, yc = yd;
        return own;
      }, [&](int64_t x) __attribute__((always_inline)) { return at(y_up, x); });
      if (dk)
        for (int l = 0; l < lanes && first + l < count; ++l) dk[first + l] += sum[l];
    });
  }

 private:
  // f.operator()<whole>(first channel) for every vector of channels.
  template <class F> IRSTD_INLINE void vectors(const F& f) const {
    for (int first = 0; first < count; first += lanes) {
      if (first + lanes <= count) f.template operator()<true>(first);
      else f.template operator()<false>(first);
    }
  }
  static IRSTD_INLINE int there(int64_t count, int first) { return int(std::min<int64_t>(lanes, count - first)); }
  template <bool Whole> static IRSTD_INLINE V load(const Row<const A>& row, int64_t x, int first) {
    const A* p = row.p + x * row.w + first;
    if constexpr (Whole) return simd::load<V>(p);
    else return load_channels<V>(p, there(row.count, first));
  }
  // Pixels that are read soon: at the strides of an image the processor does not foresee them.
  static IRSTD_INLINE void foresee(const Row<const A>& row, int64_t x) { __builtin_prefetch(row.p + (x + 64) * row.w); }

  // cells(x): the flows of the cell to the left of column x >= 1; `a` becomes the pixel of column x.
  template <bool AllHigh, bool Whole, class F, class G> IRSTD_INLINE void run(V& a, const Row<const A>* down, A* given, const Row<A>* out, int first, const F& cells, const G& pixel) const {
    Flow<V> left{};
    for (int64_t x = 0; x < W; ++x, given += channels) {
      const V upper = a;
      Flow<V> own{};
      if (x + 1 < W) {
        if (down) own = cells(x + 1);
        else a = pixel(x + 1);
      }
      if (out) {
        const V made = upper + (simd::load<V>(given) + to_upper<AllHigh>(own, left));
        if constexpr (Whole) simd::store(out->p + x * out->w + first, made);
        else store_channels(out->p + x * out->w + first, made, there(out->count, first));
      }
      simd::store(given, to_lower<AllHigh>(own, left));
      left = own;
    }
  }
};

}  // namespace irstd::wavelet_diffusion
