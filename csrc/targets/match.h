// Greedy matching of predicted with true components, and the false-alarm areas it leaves.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "label.h"

namespace irstd::targets {

inline constexpr int kMatchDistance = 3;  // pixels, strict

struct Matching {
  std::vector<int32_t> pred_of_gt;  // index of the matched prediction, -1 = missed
  int64_t fa_exact = 0;             // area of the unmatched predictions
  int64_t fa_legacy = 0;            // the same without areas equal to a matched area (DNANet)
};

// Centroid distance < kMatchDistance. Decided on integers: a rounded quotient would make a shift by
// exactly 3 px match or not depending on where in the image the target lies.
// Both areas are in [1, 2^31), so the squares below stay under 2^128.
inline bool centroids_match(const Moments& a, const Moments& b) {
  __extension__ using Int = __int128;
  __extension__ using Unsigned = unsigned __int128;
  const auto difference = [&](int64_t sum_a, int64_t sum_b) {
    const Int d = Int{sum_a} * b.area - Int{sum_b} * a.area;
    return static_cast<Unsigned>(d < 0 ? -d : d);
  };
  const Unsigned reach = static_cast<Unsigned>(a.area) * static_cast<Unsigned>(b.area) * kMatchDistance;
  const Unsigned dr = difference(a.sum_row, b.sum_row), dc = difference(a.sum_col, b.sum_col);
  return dr < reach && dc < reach && dc * dc < reach * reach - dr * dr;
}

// Each true component in order takes the first unused prediction in order that is near enough.
inline Matching match_components(const std::vector<Component>& pred, const std::vector<Component>& gt) {
  struct Point {
    double row, col;
  };
  const auto centroid = [](const Component& c) {
    return Point{static_cast<double>(c.sum_row) / static_cast<double>(c.area),
                 static_cast<double>(c.sum_col) / static_cast<double>(c.area)};
  };
  std::vector<Point> points;
  points.reserve(pred.size());
  for (const Component& p : pred) points.push_back(centroid(p));

  Matching result;
  std::vector<char> used(pred.size(), 0);
  std::vector<int64_t> matched_areas;
  constexpr double kNear = kMatchDistance + 0.01;  // cheap rejection; rounding is far below 0.01
  for (const Component& g : gt) {
    const Point c = centroid(g);
    int32_t found = -1;
    for (size_t k = 0; k < pred.size() && found < 0; ++k) {
      if (used[k] || std::abs(points[k].row - c.row) > kNear || std::abs(points[k].col - c.col) > kNear) continue;
      if (centroids_match(pred[k], g)) found = static_cast<int32_t>(k);
    }
    result.pred_of_gt.push_back(found);
    if (found >= 0) {
      used[found] = 1;
      matched_areas.push_back(pred[found].area);
    }
  }
  std::sort(matched_areas.begin(), matched_areas.end());
  for (size_t k = 0; k < pred.size(); ++k) {
    if (!used[k]) result.fa_exact += pred[k].area;
    // a matched prediction's own area is in the list, so it never counts
    if (!std::binary_search(matched_areas.begin(), matched_areas.end(), pred[k].area)) result.fa_legacy += pred[k].area;
  }
  return result;
}

}  // namespace irstd::targets
