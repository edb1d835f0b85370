// Several steps in one pass over an image: step j works j rows above the row that is read, from the last rows of step j - 1, which wait in a ring of rows in the
// cache. The image is read once and written once. Backward, the steps are computed again on the way, and their adjoints follow from the last to the first.
#pragma once
#include "ops/wavelet_diffusion/rows.h"

namespace irstd::wavelet_diffusion {

constexpr int64_t kSteps = 8;  // of one sweep at most: backward, a sweep of T steps holds about T (T + 3) rows

// Image rows [first, last), cut at the borders of the image.
struct Range {
  int64_t first, last;
  bool has(int64_t row) const { return row >= first && row < last; }
  Range wider(int64_t by, int64_t H) const { return {std::max<int64_t>(0, first - by), std::min(H, last + by)}; }
};

// The last rows of a step, of which `size` are kept.
template <class Line> struct Ring {
  using A = typename Line::A;
  const Line& line;
  A* p;
  int64_t size;
  Ring(const Line& line, int64_t size, Scratch<A>& memory) : line(line), p(memory.take(size * line.pitch())), size(size) {}
  A* slot(int64_t row) const { return p + row % size * line.pitch(); }
  Row<const A> row(int64_t r) const { return line.in_memory((const A*)slot(r)); }
  Row<A> out(int64_t r) const { return line.in_memory(slot(r)); }
};

// Rows of an image that is read: where they lie, but the last ones, beyond which nothing may be read, from a copy.
template <class Line> struct Source {
  using A = typename Line::A;
  const Line& line;
  Map<const A> map;
  int64_t H, count, first;  // of the rows that are copied
  A* copies;
  Source(const Line& line, Map<const A> map, int64_t H, int64_t count, Range read, Scratch<A>& memory) : line(line), map(map), H(H), count(count), first(H) {
    while (first > read.first && !Line::readable(map, H - first)) --first;
    copies = memory.take(std::max<int64_t>(0, read.last - first) * line.pitch());
    for (int64_t r = first; r < read.last; ++r) line.copy(in_place(r), copies + (r - first) * line.pitch());
  }
  Row<const A> in_place(int64_t r) const { return Line::in_image(map, r, line.W, count); }
  IRSTD_INLINE Row<const A> row(int64_t r) const { return r < first ? in_place(r) : line.in_memory((const A*)copies + (r - first) * line.pitch()); }
};

// The step from u_{j-1} to u_j, of which the rows `made` are wanted, from rows `from` that come one after the other.
template <class Line> struct Step {
  using A = typename Line::A;
  Range from, made;
  A* given;  // what the cells above have moved to the row that is next
  Step(const Line& line, Range from, Range made, Scratch<A>& memory) : from(from), made(made), given(memory.take(line.pitch())) { std::fill_n(given, line.pitch(), A(0)); }
  // Whether the cells below this row can be computed; there are none below the last one of the image.
  bool runs(int64_t row, int64_t H) const { return from.has(row) && (row + 1 == H || from.has(row + 1)); }
};

// u_T rows `wanted` of one plane, or line of channels, from u_0.
template <bool AllHigh, class Line>
IRSTD_INLINE void diffuse(const Line& line, Map<const typename Line::A> u, Map<typename Line::A> out, int64_t count, int64_t H, Range wanted, int64_t T) {
  using A = typename Line::A;
  Scratch<A> memory;
  const Range read = wanted.wider(T, H);
  const Source<Line> source(line, u, H, count, read, memory);
  std::vector<Ring<Line>> rings;
  std::vector<Step<Line>> steps;
  for (int64_t j = 1; j <= T; ++j) {
    rings.emplace_back(line, j < T ? 2 : 0, memory);
    steps.emplace_back(line, wanted.wider(T - j + 1, H), wanted.wider(T - j, H), memory);
  }
  for (int64_t i = read.first; i < read.last + T; ++i) {
    for (int64_t j = 1; j <= T; ++j) {
      const int64_t r = i - j;
      Step<Line>& step = steps[j - 1];
      if (!step.runs(r, H)) continue;
      auto row = [&](int64_t r) { return j == 1 ? source.row(r) : rings[j - 2].row(r); };
      const auto up = row(r), down = r + 1 < H ? row(r + 1) : up;
      const auto to = j == T ? Line::in_image(out, r, line.W, count) : rings[j - 1].out(r);
      line.template step<AllHigh>(up, r + 1 < H ? &down : nullptr, step.given, step.made.has(r) ? &to : nullptr);
    }
  }
}

// dL/du_0 rows `wanted` from y = dL/du_T, and dk += the part of the cells below those rows.
template <bool AllHigh, class Line>
IRSTD_INLINE void diffuse_backward(const Line& line, Map<const typename Line::A> u, Map<const typename Line::A> y, Map<typename Line::A> out, int64_t count, int64_t H, Range wanted,
                                   int64_t T, double* dk) {
  using A = typename Line::A;
  Scratch<A> memory;
  const Range read = wanted.wider(2 * T - 1, H);
  const Source<Line> source(line, u, H, count, read, memory), gradient(line, y, H, count, wanted.wider(T, H), memory);
  std::vector<Ring<Line>> images, gradients;  // u_j; dL/du_j
  std::vector<Step<Line>> steps, back;        // to u_{j+1}; to dL/du_j
  for (int64_t j = 0; j < T; ++j) {
    images.emplace_back(line, j > 0 ? 2 * (T - j) : 0, memory);
    gradients.emplace_back(line, j > 0 ? 2 : 0, memory);
    if (j + 1 < T) steps.emplace_back(line, wanted.wider(2 * T - 1 - j, H), wanted.wider(2 * T - 2 - j, H), memory);
    back.emplace_back(line, wanted.wider(j + 1, H), wanted.wider(j, H), memory);
  }
  auto image = [&](int64_t j, int64_t r) { return j == 0 ? source.row(r) : images[j].row(r); };
  for (int64_t i = read.first; i < read.last + 2 * T; ++i) {
    for (int64_t j = 0; j + 1 < T; ++j) {
      const int64_t r = i - j - 1;
      Step<Line>& step = steps[j];
      if (!step.runs(r, H)) continue;
      const auto up = image(j, r), down = r + 1 < H ? image(j, r + 1) : up;
      const auto to = images[j + 1].out(r);
      line.template step<AllHigh>(up, r + 1 < H ? &down : nullptr, step.given, step.made.has(r) ? &to : nullptr);
    }
    for (int64_t j = T - 1; j >= 0; --j) {
      const int64_t r = i - (2 * T - 1 - j);
      Step<Line>& step = back[j];
      if (!step.runs(r, H)) continue;
      auto of_y = [&](int64_t r) { return j == T - 1 ? gradient.row(r) : gradients[j + 1].row(r); };
      const auto up = image(j, r), down = r + 1 < H ? image(j, r + 1) : up, y_up = of_y(r), y_down = r + 1 < H ? of_y(r + 1) : y_up;
      const auto to = j == 0 ? Line::in_image(out, r, line.W, count) : gradients[j].out(r);
      line.template back<AllHigh>(up, r + 1 < H ? &down : nullptr, y_up, r + 1 < H ? &y_down : nullptr, step.given, step.made.has(r) ? &to : nullptr, wanted.has(r) ? dk : nullptr);
    }
  }
}

}  // namespace irstd::wavelet_diffusion
