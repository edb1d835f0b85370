// A tensor of images as launchers of CUDA kernels get it.
#pragma once
#include <cstdint>

namespace irstd {

// A strided [B, D, H, W], strides in elements.
struct View {
  void* data;
  int64_t b, d, h, w;
};

}  // namespace irstd
