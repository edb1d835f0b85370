// Matching of predictions that grow and merge: after a change only the targets it can concern are matched again.
#pragma once
#include <algorithm>
#include <cstdint>
#include <functional>
#include <queue>
#include <utility>
#include <vector>

#include "label.h"
#include "match.h"

namespace irstd::targets {

// A growing prediction. Its id is reused once another has absorbed it.
struct Part : Moments {
  int32_t first = 0;     // its first pixel in raster order, which is its place in the order of predictions
  int32_t gt = -1;       // the target that has taken it
  int32_t cell = -1;     // of its centroid when it last became a candidate of a target; -1 = of none
  bool touched = false;  // waits in touched_
};

// Holds, after settle(), what match_components would find for the parts as they are.
class Rematcher {
 public:
  Rematcher(const std::vector<Component>& gt, int32_t rows, int32_t cols)
      : gt_(gt), grid_cols_(cols / kMatchDistance + 1), candidates_(gt.size()), choice_(gt.size(), -1), queued_(gt.size(), 0) {
    const int32_t grid_rows = rows / kMatchDistance + 1;
    std::vector<int64_t> fill(static_cast<size_t>(grid_rows) * grid_cols_ + 1, 0);
    const auto scatter = [&](auto use) {
      for (const Component& g : gt_) {
        const int32_t cell = cell_of(g), r = cell / grid_cols_, c = cell % grid_cols_;
        for (int32_t i = std::max(r - 1, 0); i <= std::min(r + 1, grid_rows - 1); ++i)
          for (int32_t j = std::max(c - 1, 0); j <= std::min(c + 1, grid_cols_ - 1); ++j)
            use(fill[static_cast<size_t>(i) * grid_cols_ + j], static_cast<int32_t>(&g - gt_.data()));
      }
    };
    int64_t total = 0;
    scatter([&](int64_t& count, int32_t) { ++count; });
    for (int64_t& count : fill) total += std::exchange(count, total);
    starts_ = fill;
    near_.resize(static_cast<size_t>(total));
    scatter([&](int64_t& next, int32_t g) { near_[next++] = g; });
  }

  int32_t create(int32_t pixel, int32_t row, int32_t col) {
    if (free_.empty()) {
      free_.push_back(static_cast<int32_t>(parts_.size()));
      parts_.emplace_back();
    }
    const int32_t id = free_.back();
    free_.pop_back();
    Part& part = parts_[id];
    part = {{1, row, col}, pixel, -1, -1, part.touched};
    touch(id);
    ++size_;
    return id;
  }

  void absorb(int32_t into, int32_t from) {
    forget(from);
    Part &a = parts_[into], &b = parts_[from];
    if (a.gt >= 0) matched_area_ += b.area;
    a.area += b.area;
    a.sum_row += b.sum_row;
    a.sum_col += b.sum_col;
    a.first = std::min(a.first, b.first);
    b.area = 0;
    touch(into);
    free_.push_back(from);
    --size_;
  }

  // Matches again whatever the changes since the last call can have altered.
  void settle() {
    for (const int32_t id : touched_) {
      parts_[id].touched = false;
      if (parts_[id].area) place(id);
    }
    touched_.clear();
    while (!queue_.empty()) {  // ascending: a rematch concerns later targets only, so each happens once
      const int32_t g = queue_.top();
      queue_.pop();
      queued_[g] = 0;
      rematch(g);
    }
  }

  int64_t area(int32_t id) const { return parts_[id].area; }
  int64_t size() const { return size_; }
  int64_t n_hit() const { return n_hit_; }
  int64_t matched_area() const { return matched_area_; }

 private:
  // Cells are kMatchDistance wide: centroids that match lie in one cell or in neighbouring ones.
  int32_t cell_of(const Moments& m) const {
    const int64_t width = m.area * kMatchDistance;
    return static_cast<int32_t>(m.sum_row / width * grid_cols_ + m.sum_col / width);
  }
  template <class F>
  void each_near(int32_t cell, F use) const {
    for (int64_t k = starts_[cell]; k < starts_[cell + 1]; ++k) use(near_[k]);
  }
  void touch(int32_t id) {
    if (parts_[id].touched) return;
    parts_[id].touched = true;
    touched_.push_back(id);
  }
  void enqueue(int32_t g) {
    if (queued_[g]) return;
    queued_[g] = 1;
    queue_.push(g);
  }
  void release(int32_t g) {
    Part& part = parts_[choice_[g]];
    matched_area_ -= part.area;
    --n_hit_;
    part.gt = choice_[g] = -1;
  }
  void drop(int32_t g, int32_t id) {
    std::vector<int32_t>& list = candidates_[g];
    const auto at = std::find(list.begin(), list.end(), id);
    if (at == list.end()) return;
    *at = list.back();
    list.pop_back();
    if (choice_[g] == id) release(g);
    enqueue(g);
  }
  void forget(int32_t id) {
    if (parts_[id].cell >= 0) each_near(parts_[id].cell, [&](int32_t g) { drop(g, id); });
    parts_[id].cell = -1;
  }
  void place(int32_t id) {
    const int32_t cell = cell_of(parts_[id]), before = parts_[id].cell;
    if (before >= 0)
      each_near(before, [&](int32_t g) {
        if (!centroids_match(parts_[id], gt_[g])) drop(g, id);
      });
    parts_[id].cell = -1;
    each_near(cell, [&](int32_t g) {
      if (!centroids_match(parts_[id], gt_[g])) return;
      std::vector<int32_t>& list = candidates_[g];
      if (std::find(list.begin(), list.end(), id) == list.end()) list.push_back(id);
      parts_[id].cell = cell;
      enqueue(g);  // also where it was a candidate: its first pixel may be another
    });
  }
  // Earlier targets are final, so what a later one holds can be taken.
  void rematch(int32_t g) {
    int32_t best = -1;
    for (const int32_t id : candidates_[g]) {
      if (parts_[id].gt >= 0 && parts_[id].gt < g) continue;
      if (best < 0 || parts_[id].first < parts_[best].first) best = id;
    }
    const int32_t before = choice_[g];
    if (best == before) return;
    if (before >= 0) {
      release(g);
      each_near(parts_[before].cell, [&](int32_t later) {
        if (later > g) enqueue(later);
      });
    }
    if (best < 0) return;
    if (const int32_t later = parts_[best].gt; later >= 0) {
      release(later);
      enqueue(later);
    }
    choice_[g] = best;
    parts_[best].gt = g;
    matched_area_ += parts_[best].area;
    ++n_hit_;
  }

  const std::vector<Component>& gt_;
  int32_t grid_cols_;
  std::vector<int64_t> starts_;  // per cell, into near_: the targets of this and the neighbouring cells
  std::vector<int32_t> near_;
  std::vector<Part> parts_;
  std::vector<int32_t> free_, touched_;
  std::vector<std::vector<int32_t>> candidates_;  // per target: the parts near enough, in any order
  std::vector<int32_t> choice_;                   // per target: the part taken, -1 = none
  std::vector<char> queued_;
  std::priority_queue<int32_t, std::vector<int32_t>, std::greater<>> queue_;
  int64_t size_ = 0, n_hit_ = 0, matched_area_ = 0;
};

}  // namespace irstd::targets
