// Forward kernel of pixel_difference; read by cuda.cu and by pixel_difference_scan.
#pragma once
#include <type_traits>

#include "ops/pixel_difference/cuda_window.h"

namespace irstd::pixel_difference {

// p = f G (Eq. 8-10). Reads u from memory once (with N = 2 each thread (8 + 2N) / 8 times 2N + 1 values a pixel, from the cache), writes p: 2 elements a pixel.
template <class A, int N> __global__ __launch_bounds__(kThreads, kBlocks<A>) void forward_kernel(Field<A> f, Image u, Image p) {
  for (int64_t item = blockIdx.x; item < Place::items(f); item += gridDim.x) {
    const Place at(f, item);
    if (!at.live) continue;
    const Slopes<A, N> slopes(f, at.d);
    Window<A, N> window(u, at.b, at.d, f.H, f.W, at.first, at.column);
    char* to = p.plane(at.b, at.d) + at.column * p.w;
    IRSTD_UNROLL_1
    for (int row = at.first; row < at.last; ++row) {
      window.move_to(row);
      const Term<A> term = term_at(window, slopes, f.n);
      Element<A>::write(to + row * p.h, p.type, (term.tanh_of + f.gamma) * term.G);
    }
  }
}

// f(N): the n that is known to the compiler, or 0. In double only 0.
template <class A, class F> void with_known_n(int n, F f) {
  if constexpr (sizeof(A) == 4) {
    if (n == 2) return f(std::integral_constant<int, 2>{});
  }
  f(std::integral_constant<int, 0>{});
}

template <class A> void launch_forward(const Field<A>& f, const Image& u, const Image& p, cudaStream_t stream) {
  with_known_n<A>(f.n, [&](auto n) { IRSTD_LAUNCH((forward_kernel<A, n()>), blocks_for(Place::items(f)), kThreads, 0, stream, f, u, p); });
}

}  // namespace irstd::pixel_difference
