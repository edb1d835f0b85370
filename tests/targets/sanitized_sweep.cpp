// sweep.h on random score maps in exactly sized buffers, against label_components and match_components at every level;
// run under ASan and UBSan. With an argument it reads past a buffer.
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>

#include "sweep.h"

using namespace irstd::targets;

static void require(bool ok, const char* what) {
  if (!ok) std::printf("failed: %s\n", what), std::exit(1);
}

int main(int argc, char**) {
  if (argc > 1) {  // negative control
    std::unique_ptr<double[]> score(new double[40]());
    std::unique_ptr<uint8_t[]> gt(new uint8_t[80]());
    return static_cast<int>(sweep_levels(score.get(), gt.get(), 2, 40).n_gt);
  }
  std::mt19937 random(0);
  const auto below = [&](unsigned n) { return static_cast<int>(random() % n); };
  for (int round = 0; round < 1500; ++round) {
    const int rows = below(16), cols = below(24), levels = 1 + below(round % 2 ? 12 : 1000), sparse = 1 + below(40), flat = 1 + below(4);
    const size_t size = static_cast<size_t>(rows) * static_cast<size_t>(cols);
    std::unique_ptr<double[]> score(new double[size]);
    std::unique_ptr<uint8_t[]> gt(new uint8_t[size]), mask(new uint8_t[size]);
    for (size_t k = 0; k < size; ++k) {
      // blocks of one score; the products with zero are 0.0 and -0.0
      score[k] = k % static_cast<size_t>(flat) ? score[k - 1] : (below(2) ? 1.5 : -1.5) * below(static_cast<unsigned>(levels));
      gt[k] = static_cast<uint8_t>(below(static_cast<unsigned>(sparse)) ? 0 : 1 + below(255));
    }
    const std::vector<Component> truth = label_components(gt.get(), rows, cols, nullptr);
    const Sweep sweep = sweep_levels(score.get(), gt.get(), rows, cols);
    require(sweep.n_gt == static_cast<int64_t>(truth.size()), "number of targets");
    require(sweep.levels.size() == sweep.counts.size() && sweep.levels.empty() == (size == 0), "levels");
    int64_t predicted = 0;
    for (size_t level = 0; level < sweep.levels.size(); ++level) {
      require(level == 0 || sweep.levels[level] < sweep.levels[level - 1], "descending");
      int64_t tp = 0;
      predicted = 0;
      for (size_t k = 0; k < size; ++k) {
        mask[k] = score[k] >= sweep.levels[level];
        predicted += mask[k];
        tp += mask[k] && gt[k];
      }
      const std::vector<Component> found = label_components(mask.get(), rows, cols, nullptr);
      const Matching matching = match_components(found, truth);
      int64_t n_hit = 0;
      for (const int32_t p : matching.pred_of_gt) n_hit += p >= 0;
      const std::array<int64_t, kCounts> want{n_hit, matching.fa_exact, static_cast<int64_t>(found.size()) - n_hit, tp, predicted - tp};
      require(sweep.counts[level] == want, "counts");
    }
    require(predicted == static_cast<int64_t>(size), "the last level holds every pixel");
  }
  std::puts("ok");
}
