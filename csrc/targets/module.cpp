// Python face of label.h, match.h and sweep.h: NumPy in, NumPy out, GIL released while computing.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cmath>
#include <stdexcept>
#include <string>

#include "label.h"
#include "match.h"
#include "sweep.h"

namespace py = pybind11;
namespace {

using irstd::targets::Component;
using Mask = py::array_t<uint8_t, py::array::c_style | py::array::forcecast>;
using Score = py::array_t<double, py::array::c_style | py::array::forcecast>;
using Stats = py::array_t<int64_t, py::array::c_style | py::array::forcecast>;
constexpr int64_t kLimit = int64_t{1} << 31;  // labels are int32
constexpr py::ssize_t kColumns = 7;           // area, sum_row, sum_col, top, left, bottom, right

void check_mask(const Mask& mask) {
  if (mask.ndim() != 2) throw std::invalid_argument("mask must be 2-D [H, W], got " + std::to_string(mask.ndim()) + "-D");
  const bool has_pixels = mask.shape(0) > 0 && mask.shape(1) > 0;
  if (mask.shape(0) >= kLimit || mask.shape(1) >= kLimit || (has_pixels && mask.shape(0) > (kLimit - 1) / mask.shape(1)))
    throw std::invalid_argument("mask must have fewer than 2^31 pixels");
}

Stats to_stats(const std::vector<Component>& components) {
  Stats stats({static_cast<py::ssize_t>(components.size()), kColumns});
  int64_t* out = stats.mutable_data();
  for (const Component& c : components)
    for (int64_t value : {c.area, c.sum_row, c.sum_col, c.top, c.left, c.bottom, c.right}) *out++ = value;
  return stats;
}

std::vector<Component> from_stats(const Stats& stats, const char* name) {
  if (stats.ndim() != 2 || stats.shape(1) != kColumns) throw std::invalid_argument(std::string(name) + " must be [n, 7]");
  std::vector<Component> components;
  components.reserve(static_cast<size_t>(stats.shape(0)));
  const int64_t* s = stats.data();
  for (py::ssize_t k = 0; k < stats.shape(0); ++k, s += kColumns) {
    // bounds that keep the exact comparison of centroids inside 128 bits
    if (s[0] < 1 || s[0] >= kLimit || s[1] < 0 || s[1] / s[0] >= kLimit || s[2] < 0 || s[2] / s[0] >= kLimit)
      throw std::invalid_argument(std::string(name) + " must hold the statistics of components");
    components.push_back({{s[0], s[1], s[2]}, s[3], s[4], s[5], s[6]});
  }
  return components;
}

// labels: zeroed int32 [H, W] or nullptr.
std::vector<Component> components_of(const Mask& mask, int32_t* labels) {
  const uint8_t* in = mask.data();
  const auto rows = static_cast<int32_t>(mask.shape(0)), cols = static_cast<int32_t>(mask.shape(1));
  py::gil_scoped_release release;
  return irstd::targets::label_components(in, rows, cols, labels);
}

py::tuple label(const Mask& mask) {
  check_mask(mask);
  // numpy.zeros maps untouched pages lazily: an almost empty mask writes almost nothing
  py::array_t<int32_t> labels = py::module_::import("numpy").attr("zeros")(py::make_tuple(mask.shape(0), mask.shape(1)), "int32");
  const std::vector<Component> components = components_of(mask, labels.mutable_data());
  return py::make_tuple(labels, to_stats(components));
}

Stats regions(const Mask& mask) {
  check_mask(mask);
  return to_stats(components_of(mask, nullptr));
}

py::tuple match(const Stats& pred, const Stats& gt) {
  const std::vector<Component> p = from_stats(pred, "pred"), g = from_stats(gt, "gt");
  irstd::targets::Matching result;
  {
    py::gil_scoped_release release;
    result = irstd::targets::match_components(p, g);
  }
  py::array_t<int32_t> pred_of_gt(static_cast<py::ssize_t>(result.pred_of_gt.size()), result.pred_of_gt.data());
  return py::make_tuple(pred_of_gt, result.fa_exact, result.fa_legacy);
}

py::tuple sweep(const Score& score, const Mask& gt) {
  check_mask(gt);
  if (score.ndim() != 2 || score.shape(0) != gt.shape(0) || score.shape(1) != gt.shape(1))
    throw std::invalid_argument("score and gt must have one shape");
  const double* in = score.data();
  const uint8_t* truth = gt.data();
  const auto rows = static_cast<int32_t>(gt.shape(0)), cols = static_cast<int32_t>(gt.shape(1));
  for (py::ssize_t k = 0; k < score.size(); ++k)
    if (!std::isfinite(in[k])) throw std::invalid_argument("score must be finite");
  irstd::targets::Sweep result;
  {
    py::gil_scoped_release release;
    result = irstd::targets::sweep_levels(in, truth, rows, cols);
  }
  const auto n = static_cast<py::ssize_t>(result.levels.size());
  py::array_t<int64_t> counts({static_cast<py::ssize_t>(irstd::targets::kCounts), n});
  auto out = counts.mutable_unchecked<2>();
  for (py::ssize_t k = 0; k < n; ++k)
    for (py::ssize_t field = 0; field < out.shape(0); ++field) out(field, k) = result.counts[k][field];
  return py::make_tuple(py::array_t<double>(n, result.levels.data()), counts, result.n_gt);
}

}  // namespace

PYBIND11_MODULE(_targets, m) {
  m.doc() = "Labelling and matching of targets; the public face is irstd_ext.targets.";
  m.def("label", &label, py::arg("mask"), "(labels int32 [H, W], statistics int64 [n, 7]) of the 8-connected components");
  m.def("regions", &regions, py::arg("mask"), "statistics int64 [n, 7]: area, sum_row, sum_col, top, left, bottom, right");
  m.def("match", &match, py::arg("pred"), py::arg("gt"), "(pred_of_gt int32 [n_gt], fa_exact, fa_legacy) from two statistics");
  m.def("sweep", &sweep, py::arg("score"), py::arg("gt"),
        "(levels float64 [L] descending, counts int64 [5, L] of score >= level: n_hit, fa_pixels, fp_objects, tp, fp; n_gt)");
}
