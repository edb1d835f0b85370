// Counts at every level of a score map in one pass: pixels join in descending order of score.
#pragma once
#include <array>
#include <bit>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "label.h"
#include "rematch.h"

namespace irstd::targets {

inline constexpr int kCounts = 5;  // n_hit, fa_pixels (protocol exact), fp_objects, tp, fp

struct Sweep {
  std::vector<double> levels;                        // distinct scores, descending
  std::vector<std::array<int64_t, kCounts>> counts;  // of the mask score >= level
  int64_t n_gt = 0;
};

// Pixel indices by descending score: a radix sort, least digit first. -0.0 comes right after 0.0.
inline std::vector<int32_t> descending(const double* score, int32_t n) {
  struct Entry {
    uint64_t key;
    int32_t pixel;
  };
  constexpr int kBits = 11, kDigits = 6;
  constexpr uint64_t kSign = uint64_t{1} << 63, kMask = (1 << kBits) - 1;
  std::vector<Entry> from(n), to(n);
  std::vector<std::array<int32_t, 1 << kBits>> starts(kDigits);
  for (int32_t k = 0; k < n; ++k) {
    const auto bits = std::bit_cast<uint64_t>(score[k]);
    from[k] = {bits & kSign ? bits : ~bits & ~kSign, k};
    for (int d = 0; d < kDigits; ++d) ++starts[d][from[k].key >> d * kBits & kMask];
  }
  for (int d = 0; d < kDigits; ++d) {
    const auto digit = [d](const Entry& e) { return e.key >> d * kBits & kMask; };
    if (n == 0 || starts[d][digit(from[0])] == n) continue;  // one digit for all, as the low ones of a float32
    int32_t total = 0;
    for (int32_t& count : starts[d]) total += std::exchange(count, total);
    for (const Entry& e : from) to[starts[d][digit(e)]++] = e;
    std::swap(from, to);
  }
  std::vector<int32_t> pixels(n);
  for (int32_t k = 0; k < n; ++k) pixels[k] = from[k].pixel;
  return pixels;
}

// Union-find over the pixels seen so far; a root holds its part.
class Flood {
 public:
  Flood(Rematcher& parts, int32_t rows, int32_t cols)
      : parts_(parts), rows_(rows), cols_(cols), parent_(static_cast<size_t>(rows) * cols, kUnseen) {}

  void add(int32_t pixel) {
    const int32_t row = pixel / cols_, col = pixel % cols_;
    parent_[pixel] = ~parts_.create(pixel, row, col);
    const bool up = row > 0, down = row + 1 < rows_, left = col > 0, right = col + 1 < cols_;
    const bool n = up && join(pixel, pixel - cols_), s = down && join(pixel, pixel + cols_);
    const bool w = left && join(pixel, pixel - 1), e = right && join(pixel, pixel + 1);
    // a corner next to a seen edge pixel is connected through it
    if (up && left && !n && !w) join(pixel, pixel - cols_ - 1);
    if (up && right && !n && !e) join(pixel, pixel - cols_ + 1);
    if (down && left && !s && !w) join(pixel, pixel + cols_ - 1);
    if (down && right && !s && !e) join(pixel, pixel + cols_ + 1);
  }

 private:
  static constexpr int32_t kUnseen = std::numeric_limits<int32_t>::max();  // else: parent pixel, or ~part of a root

  int32_t find(int32_t pixel) {
    while (parent_[pixel] >= 0) {
      int32_t& up = parent_[pixel];
      if (parent_[up] >= 0) up = parent_[up];
      pixel = up;
    }
    return pixel;
  }
  bool join(int32_t pixel, int32_t neighbour) {
    if (parent_[neighbour] == kUnseen) return false;
    int32_t a = find(pixel), b = find(neighbour);
    if (a == b) return true;
    if (parts_.area(~parent_[a]) < parts_.area(~parent_[b])) std::swap(a, b);
    parts_.absorb(~parent_[a], ~parent_[b]);
    parent_[b] = a;
    return true;
  }

  Rematcher& parts_;
  int32_t rows_, cols_;
  std::vector<int32_t> parent_;
};

// score [rows, cols] finite, gt [rows, cols] non-zero = target, rows * cols < 2^31.
inline Sweep sweep_levels(const double* score, const uint8_t* gt, int32_t rows, int32_t cols) {
  const std::vector<Component> truth = label_components(gt, rows, cols, nullptr);
  Rematcher parts(truth, rows, cols);
  Flood flood(parts, rows, cols);
  Sweep result;
  result.n_gt = static_cast<int64_t>(truth.size());
  const std::vector<int32_t> order = descending(score, rows * cols);
  int64_t tp = 0;
  for (size_t k = 0; k < order.size();) {
    const double level = score[order[k]] + 0.0;  // no negative zero
    for (; k < order.size() && score[order[k]] == level; ++k) {  // all pixels of a level, then its counts
      flood.add(order[k]);
      tp += gt[order[k]] != 0;
    }
    parts.settle();
    const auto predicted = static_cast<int64_t>(k);
    result.levels.push_back(level);
    result.counts.push_back({parts.n_hit(), predicted - parts.matched_area(), parts.size() - parts.n_hit(), tp, predicted - tp});
  }
  return result;
}

}  // namespace irstd::targets
