// 8-connected components of a binary mask, one scan over the rows, statistics as integers.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace irstd::targets {

// The centroid of a set of pixels is (sum_row / area, sum_col / area).
struct Moments {
  int64_t area = 0, sum_row = 0, sum_col = 0;
};

// One component; the box is half-open.
struct Component : Moments {
  int64_t top = 0, left = 0, bottom = 0, right = 0;
};

// Foreground pixels [begin, end) of one row; id names a provisional component.
struct Run {
  int32_t row, begin, end, id;
};

// First column >= col that holds foreground (else background), or cols.
inline int32_t next_foreground(const uint8_t* row, int32_t col, int32_t cols) {
  for (; cols - col >= 32; col += 32) {  // masks are almost empty: four words at a time
    uint64_t word[4];
    std::memcpy(word, row + col, sizeof word);
    if ((word[0] | word[1]) | (word[2] | word[3])) break;
  }
  while (col < cols && !row[col]) ++col;
  return col;
}

inline int32_t next_background(const uint8_t* row, int32_t col, int32_t cols) {
  while (col < cols && row[col]) ++col;
  return col;
}

// Union-find over provisional components. A root is always the smallest id of its tree, and ids
// are given in raster order, so roots in ascending order are components by their first pixel.
class Forest {
 public:
  int32_t add() {
    parent_.push_back(static_cast<int32_t>(parent_.size()));
    parts_.emplace_back();
    return parent_.back();
  }
  int32_t find(int32_t id) {
    while (parent_[id] != id) id = parent_[id] = parent_[parent_[id]];
    return id;
  }
  int32_t unite(int32_t a, int32_t b) {  // two roots
    const int32_t low = std::min(a, b);
    return parent_[std::max(a, b)] = low;
  }
  void add_run(const Run& run) {
    const int64_t n = run.end - run.begin;
    // the columns run.begin .. run.end - 1: their number times their mean
    merge(parts_[run.id], {{n, run.row * n, (int64_t{run.begin} + run.end - 1) * n / 2}, run.row, run.begin,
                           run.row + 1, run.end});
  }
  // Folds every tree into its root; afterwards number(id) is the component's number, from 0.
  std::vector<Component> finish() {
    std::vector<Component> components;
    number_.resize(parent_.size());
    for (int32_t id = 0; id < static_cast<int32_t>(parent_.size()); ++id) {
      const int32_t root = find(id);
      if (root == id) {
        number_[id] = static_cast<int32_t>(components.size());
        components.push_back(parts_[id]);
      } else {
        number_[id] = number_[root];
        merge(components[number_[id]], parts_[id]);
      }
    }
    return components;
  }
  int32_t number(int32_t id) const { return number_[id]; }

 private:
  static void merge(Component& into, const Component& other) {
    if (into.area == 0) {
      into = other;
      return;
    }
    into.area += other.area;
    into.sum_row += other.sum_row;
    into.sum_col += other.sum_col;
    into.top = std::min(into.top, other.top);
    into.left = std::min(into.left, other.left);
    into.bottom = std::max(into.bottom, other.bottom);
    into.right = std::max(into.right, other.right);
  }
  std::vector<int32_t> parent_, number_;
  std::vector<Component> parts_;
};

// mask [rows, cols], non-zero = foreground, rows * cols < 2^31. labels [rows, cols], all zero on
// entry, receives 1 + the component's index; nullptr asks for the components only.
inline std::vector<Component> label_components(const uint8_t* mask, int32_t rows, int32_t cols,
                                               int32_t* labels) {
  Forest forest;
  std::vector<Run> above, here, all;
  for (int32_t row = 0; row < rows; ++row) {
    const uint8_t* pixels = mask + int64_t{row} * cols;
    here.clear();
    size_t first = 0;  // runs above that end left of this one can touch no later run either
    for (int32_t begin = next_foreground(pixels, 0, cols); begin < cols;) {
      const int32_t end = next_background(pixels, begin, cols);
      while (first < above.size() && above[first].end < begin) ++first;
      int32_t id = -1;
      for (size_t k = first; k < above.size() && above[k].begin <= end; ++k) {
        const int32_t root = forest.find(above[k].id);
        id = id < 0 || id == root ? root : forest.unite(id, root);
      }
      here.push_back({row, begin, end, id < 0 ? forest.add() : id});
      forest.add_run(here.back());
      begin = next_foreground(pixels, end, cols);
    }
    if (labels) all.insert(all.end(), here.begin(), here.end());
    std::swap(above, here);
  }
  std::vector<Component> components = forest.finish();
  for (const Run& run : all) {
    int32_t* row = labels + int64_t{run.row} * cols;
    std::fill(row + run.begin, row + run.end, forest.number(run.id) + 1);
  }
  return components;
}

}  // namespace irstd::targets
