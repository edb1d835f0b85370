// The neighbour term on a tile of channels of one image, channels as lanes. Bytes: the image is read once from memory; per vector of channels and pixel
// about 16 n + 3 (2n+1)^2 operations, most of them for the deviation, which is taken in two passes since E[x^2] - E[x]^2 would flip decisions of the gate.
#pragma once
#include <cmath>

#include "common/simd_math.h"
#include "common/tile_lanes.h"
#include "ops/pixel_difference/math.h"

namespace irstd::pixel_difference {

template <class I> IRSTD_INLINE bool any(I mask) {
  bool found = false;
  for (int i = 0; i < simd::lanes<I>; ++i) found |= mask[i] != 0;
  return found;
}

template <class V> IRSTD_INLINE V sqrt(V x) {
  simd::lane_t<V> lane[simd::lanes<V>];
  simd::store(lane, x);
  for (auto& a : lane) a = std::sqrt(a);
  return simd::load<V>(lane);
}

template <class V> IRSTD_INLINE V minimum(V a, V b) { return a < b ? a : b; }

// Fixed is n where it is known to the compiler, else 0.
template <class V, int Fixed> struct Stencil {
  using A = simd::lane_t<V>;
  static constexpr int lanes = simd::lanes<V>;
  int64_t H, W, size;       // of the image; n
  Map<const A> u;
  A gamma;
  A *weight, *slope;        // [2][n][lanes]: W, and its sums over the windows that hold the k-th difference, times share(k)
  A *sums, *arms;           // [2][n][lanes]: of the present row and pixel, for dW
  int64_t *rows, *columns;  // clamped, from -n on

  IRSTD_INLINE int64_t n() const { return Fixed ? Fixed : size; }

  // w: [2, n, D], already at the first channel of the tile; `channels` of its rows belong to the tile.
  IRSTD_INLINE Stencil(int64_t H, int64_t W, int64_t n_, Map<const A> u, const A* w, int64_t D, int channels, A gamma, Scratch<A>& memory, Scratch<int64_t>& places)
      : H(H), W(W), size(n_), u(u), gamma(gamma), weight(memory.take(8 * n_ * lanes)), slope(weight + 2 * n_ * lanes), sums(slope + 2 * n_ * lanes), arms(sums + 2 * n_ * lanes),
        rows(places.take(H + 2 * n_)), columns(places.take(W + 2 * n_)) {
    for (int64_t i = 0; i < H + 2 * size; ++i) rows[i] = clamped(i - size, H);
    for (int64_t i = 0; i < W + 2 * size; ++i) columns[i] = clamped(i - size, W);
    for (int64_t i = 0; i < 2 * size; ++i) simd::store(weight + i * lanes, load_channels<V>(w + i * D, channels));
    for (int64_t axis = 0; axis < 2; ++axis) {
      V above{};
      for (int64_t k = size - 1; k >= 0; --k) {
        above += simd::load<V>(weight + (axis * size + k) * lanes);
        simd::store(slope + (axis * size + k) * lanes, V(above * share<A>(k)));
      }
    }
  }

  struct Found { V G, m, low, theta, mean; };

  // Everything at one pixel. With Keep the axis sums Dl_a^(i) stay in `arms`.
  template <bool Keep> IRSTD_INLINE Found look(int64_t r, int64_t c) const {
    const int64_t *y = rows + r + n(), *x = columns + c + n();
    const V centre = simd::load<V>(u.at(r, c));
    V G{}, four[4];
    for (int e = 0; e < 4; ++e) {
      V nearer = centre, sum{};
      for (int64_t k = 0; k < n(); ++k) {
        const int64_t step = e & 1 ? -(k + 1) : k + 1;
        const V farther = simd::load<V>(e < 2 ? u.at(r, x[step]) : u.at(y[step], c));
        sum += (nearer - farther) * share<A>(k);
        nearer = farther;
        const int64_t at = ((e >> 1) * n() + k) * lanes;
        G += simd::load<V>(weight + at) * sum;
        if constexpr (Keep) simd::store(arms + at, e & 1 ? V(simd::load<V>(arms + at) + sum) : sum);
      }
      four[e] = sum;
    }
    const A share_of_one = A(1) / A((2 * n() + 1) * (2 * n() + 1));
    V sum{}, squares{};
    for (int64_t i = -n(); i <= n(); ++i)
      for (int64_t j = -n(); j <= n(); ++j) sum += simd::load<V>(u.at(y[i], x[j]));
    const V mean = sum * share_of_one;
    for (int64_t i = -n(); i <= n(); ++i)
      for (int64_t j = -n(); j <= n(); ++j) {
        const V off = simd::load<V>(u.at(y[i], x[j])) - mean;
        squares += off * off;
      }
    return {G, (four[0] + four[1] + four[2] + four[3]) * A(0.25), minimum(minimum(four[0], four[1]), minimum(four[2], four[3])), sqrt(V(squares * share_of_one)), mean};
  }

  IRSTD_INLINE static auto case_1(const Found& at) { return (at.low > at.theta) & (at.theta > 0); }

  // tanh(m / theta - 1) in the lanes of case 1, where m > theta, and 0 in the others.
  IRSTD_INLINE static V gate(const Found& at) {
    const auto one = case_1(at);
    if (!any(one)) return V{};
    const V x = one ? at.m / (one ? at.theta : V{} + 1) - 1 : V{};
    const V z = simd::exp(V(-2 * x));
    return (1 - z) / (1 + z);
  }

  IRSTD_INLINE void forward(Map<A> p) const {
    for (int64_t r = 0; r < H; ++r)
      for (int64_t c = 0; c < W; ++c) {
        const Found at = look<false>(r, c);
        simd::store(p.at(r, c), V((gate(at) + gamma) * at.G));
      }
  }

  IRSTD_INLINE static void add(A* p, V x) { simd::store(p, V(simd::load<V>(p) + x)); }

  // du += the gradient for dp; dW [2][n][lanes] = that of W, summed over rows in double.
  IRSTD_INLINE void backward(Map<const A> dp, Map<A> du, double* dW) const {
    const A share_of_one = A(1) / A((2 * n() + 1) * (2 * n() + 1));
    std::fill_n(dW, 2 * n() * lanes, 0.);
    for (int64_t r = 0; r < H; ++r) {
      std::fill_n(sums, 2 * n() * lanes, A(0));
      for (int64_t c = 0; c < W; ++c) {
        const Found at = look<true>(r, c);
        const V tanh_of = gate(at), grad = simd::load<V>(dp.at(r, c)), dG = (tanh_of + gamma) * grad;
        for (int64_t i = 0; i < 2 * n(); ++i) add(sums + i * lanes, dG * simd::load<V>(arms + i * lanes));
        const auto one = case_1(at);
        V dm{}, dtheta{};
        const bool gated = any(one);
        if (gated) {
          const auto slope_of = gate_slope<V>(tanh_of, at.m, one ? at.theta : V{} + 1, at.G * grad);
          dm = one ? slope_of.m : V{}, dtheta = one ? slope_of.theta : V{};
        }
        scatter(r, c, dG, dm, du);
        if (gated) spread(r, c, at.mean, dtheta * share_of_one / (one ? at.theta : V{} + 1), du);
      }
      for (int64_t i = 0; i < 2 * n() * lanes; ++i) dW[i] += sums[i];
    }
  }

 private:
  // The adjoint of the differences: the k-th one of each arm carries slope dG + share(k) dm / 4, to its nearer pixel and, negative, to its farther one.
  IRSTD_INLINE void scatter(int64_t r, int64_t c, V dG, V dm, Map<A> du) const {
    const int64_t *y = rows + r + n(), *x = columns + c + n();
    for (int64_t axis = 0; axis < 2; ++axis) {
      V before{};
      for (int64_t k = 0; k <= n(); ++k) {
        const V here = k < n() ? simd::load<V>(slope + (axis * n() + k) * lanes) * dG + (share<A>(k) / 4) * dm : V{};
        const V g = here - before;
        before = here;
        if (k == 0) {
          add(du.at(r, c), g + g);
        } else {
          add(axis == 0 ? du.at(r, x[k]) : du.at(y[k], c), g);
          add(axis == 0 ? du.at(r, x[-k]) : du.at(y[-k], c), g);
        }
      }
    }
  }

  // d Theta / du_w = (u_w - mean) / ((2n+1)^2 Theta) at every pixel w of the window; `factor` is dTheta over that denominator.
  IRSTD_INLINE void spread(int64_t r, int64_t c, V mean, V factor, Map<A> du) const {
    const int64_t *y = rows + r + n(), *x = columns + c + n();
    for (int64_t i = -n(); i <= n(); ++i)
      for (int64_t j = -n(); j <= n(); ++j) add(du.at(y[i], x[j]), factor * (simd::load<V>(u.at(y[i], x[j])) - mean));
  }
};

// f(Stencil) with n known to the compiler where it is 1 or 2.
template <class V, class... X, class F> IRSTD_INLINE void with_stencil(int64_t n, const F& f, X&&... x) {
  if (n == 2) f(Stencil<V, 2>(x...));
  else if (n == 1) f(Stencil<V, 1>(x...));
  else f(Stencil<V, 0>(x...));
}

}  // namespace irstd::pixel_difference
