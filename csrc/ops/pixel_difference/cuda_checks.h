// Sizes that the CUDA kernels of pixel_difference and pixel_difference_scan count in 31 bits, with some to spare; offsets have 64. The fake kernels follow
// the same rules in the same words.
#pragma once
#include "common/checks.h"

namespace irstd::pixel_difference {

// n: windows, 0 where there is no W. (2n+1)^2 pixels of a window fit as well.
inline void check_counts(const char* op, int64_t H, int64_t W, int64_t n) {
  constexpr int64_t pixels = int64_t(1) << 30, windows = int64_t(1) << 14;
  if (H > pixels || W > pixels || (H > 0 && W > pixels / H)) fail(op, ": u must have at most 2^30 pixels on CUDA, got ", H, " x ", W);
  if (n > windows) fail(op, ": W must have at most 2^14 windows on CUDA, got ", n);
}

}  // namespace irstd::pixel_difference
