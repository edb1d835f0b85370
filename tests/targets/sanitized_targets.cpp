// label.h and match.h on random masks in exactly sized buffers, against a flood fill; run under ASan and UBSan.
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <utility>

#include "label.h"
#include "match.h"

using irstd::targets::Component;

static int64_t flood(const uint8_t* mask, int rows, int cols, int start, std::vector<int>& seen, int id) {
  std::vector<int> stack{start};
  int64_t area = 0;
  seen[start] = id;
  while (!stack.empty()) {
    const int at = stack.back(), row = at / cols, col = at % cols;
    stack.pop_back();
    ++area;
    for (int r = std::max(0, row - 1); r <= std::min(rows - 1, row + 1); ++r)
      for (int c = std::max(0, col - 1); c <= std::min(cols - 1, col + 1); ++c)
        if (mask[r * cols + c] && !seen[r * cols + c]) seen[r * cols + c] = id, stack.push_back(r * cols + c);
  }
  return area;
}

static void require(bool ok, const char* what) {
  if (!ok) std::printf("failed: %s\n", what), std::exit(1);
}

int main() {
  std::mt19937 random(0);
  for (int round = 0; round < 3000; ++round) {
    const int rows = static_cast<int>(random() % 20), cols = static_cast<int>(random() % 80), density = static_cast<int>(random() % 11);
    const size_t size = static_cast<size_t>(rows) * static_cast<size_t>(cols);
    std::vector<Component> found[2];
    for (auto& components : found) {
      std::unique_ptr<uint8_t[]> mask(new uint8_t[size]);
      std::unique_ptr<int32_t[]> labels(new int32_t[size]());
      for (size_t k = 0; k < size; ++k) mask[k] = static_cast<uint8_t>(static_cast<int>(random() % 10) < density ? 1 + random() % 255 : 0);
      components = irstd::targets::label_components(mask.get(), rows, cols, labels.get());
      std::vector<int> seen(size, 0);
      int n = 0;
      for (size_t k = 0; k < size; ++k)
        if (mask[k] && !seen[k]) {
          const int64_t area = flood(mask.get(), rows, cols, static_cast<int>(k), seen, n + 1);
          require(n < static_cast<int>(components.size()) && components[n].area == area, "area");
          ++n;
        }
      require(n == static_cast<int>(components.size()), "number of components");
      for (size_t k = 0; k < size; ++k) require(labels[k] == seen[k], "labels");
    }
    const auto m = irstd::targets::match_components(found[0], found[1]);
    require(m.pred_of_gt.size() == found[1].size() && m.fa_legacy <= m.fa_exact, "matching");
  }
  // the largest masks: squares just under 2^128
  const int64_t most = (int64_t{1} << 31) - 1;
  const irstd::targets::Moments a{most, most * (most - 1), most * (most - 1)}, b{most, most * (most - 3), most * (most - 3)};
  require(irstd::targets::centroids_match(a, b) && irstd::targets::centroids_match(b, a), "distance 2.83 of the largest components");
  require(!irstd::targets::centroids_match(a, {1, 0, 0}), "far components");
  std::puts("ok");
}
