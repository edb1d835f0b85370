// Backward kernels of pixel_difference; read by cuda.cu and by pixel_difference_scan. First every pixel writes what its own term's gradient is; then every
// pixel gathers from the terms it is part of, so that nothing is added to by two threads.
#pragma once
#include "common/sums.h"
#include "ops/pixel_difference/cuda_forward.h"

namespace irstd::pixel_difference {

// Gradients by the parts of every pixel's term, as dense_image lays them out. `share_of` and `mean` are written only where dm is not 0.
template <class A> struct TermGradients {
  Dense<A> dG, dm;
  A* share_of;  // dTheta / ((2n+1)^2 Theta): times (u_w - mean) it is what goes to pixel w of the window
  A* mean;
};

// dp, the incoming gradient: the sum of `parts` where there are any, else `grad`. dG = f dp; in case 1 df = G dp, dm = (1 - tanh^2) df / Theta and
// dTheta = -m / Theta dm. Reads u and dp, writes two numbers a pixel, four in case 1.
template <class A, int N> __global__ __launch_bounds__(kThreads, 2) void terms_kernel(Field<A> f, Image u, Image grad, Parts<A> parts, TermGradients<A> to) {
  for (int64_t item = blockIdx.x; item < Place::items(f); item += gridDim.x) {
    const Place at(f, item);
    if (!at.live) continue;
    const Slopes<A, N> slopes(f, at.d);
    Window<A, N> window(u, at.b, at.d, f.H, f.W, at.first, at.column);
    const char* own = grad.plane(at.b, at.d) + at.column * grad.w;
    const int64_t plane = to.dG.plane(at.b, at.d) - to.dG.data + at.column * to.dG.w;
    IRSTD_UNROLL_1
    for (int row = at.first; row < at.last; ++row) {
      window.move_to(row);
      const A dp = parts.count > 0 ? parts.at(at.offset(f, row)) : Element<A>::read(own + row * grad.h, grad.type).value(grad.type);
      const Term<A> term = term_at(window, slopes, f.n);
      const int64_t pixel = plane + row * to.dG.h;
      GateSlope<A> slope{0, 0};
      if (term.peak) slope = gate_slope<A>(term.tanh_of, term.m, term.theta, term.G * dp);
      to.dG.data[pixel] = (term.tanh_of + f.gamma) * dp;
      to.dm.data[pixel] = slope.m;
      if (slope.m != 0) {
        to.share_of[pixel] = slope.theta / (A((2 * f.n + 1) * (2 * f.n + 1)) * term.theta);
        to.mean[pixel] = term.mean;
      }
    }
  }
}

// Partial sums of dW[a, i] = sum f dp Dl_a^(i), two windows at a time: part is [B tiles, 2, n, D]. Reads u and dG once for each two windows.
template <class A, int N> __global__ __launch_bounds__(kThreads, kBlocks<A>) void weights_kernel(Field<A> f, Image u, Dense<A> dG, A* part) {
  IRSTD_DYN_SHARED(A, shared);  // [4][kWarps][kLanes + 1]
  auto in_shared = [&](int v, int warp, int lane) -> A& { return shared[(v * kWarps + warp) * (kLanes + 1) + lane]; };
  const int n = N > 0 ? N : f.n, lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes, summed = f.along_channels ? kWarps : kLanes;
  const int64_t d_tiles = tile::ceil_div(f.D, f.along_channels ? kLanes : kWarps);
  for (int64_t item = blockIdx.x; item < Place::items(f); item += gridDim.x) {
    const Place at(f, item);
    const int64_t own_d = at.live ? at.d : 0;
    const A* own = dG.plane(at.b, own_d) + at.column * dG.w;
    A x = 0, y = 0;  // of the windows so far
    IRSTD_UNROLL_BY((N > 0 ? N : 1))
    for (int k = 0; k < n; k += 2) {
      A values[4] = {0, 0, 0, 0};  // of the differences k and k + 1: along x, along y
      Window<A, N> window(u, at.b, own_d, f.H, f.W, at.first, at.column);
      IRSTD_UNROLL_1
      for (int row = at.first; at.live && row < at.last; ++row) {
        window.move_to(row);
        const A g = own[row * dG.h];
        IRSTD_UNROLL
        for (int i = 0; i < 2; ++i) {
          const int near = k + i, far = near + 1;
          values[i] += g * ((window.at(0, near) - window.at(0, far)) + (window.at(0, -near) - window.at(0, -far)));
          values[2 + i] += g * ((window.at(near, 0) - window.at(far, 0)) + (window.at(-near, 0) - window.at(-far, 0)));
        }
      }
      values[0] = x + values[0] * share<A>(k), values[1] = x = values[0] + values[1] * share<A>(k + 1);
      values[2] = y + values[2] * share<A>(k), values[3] = y = values[2] + values[3] * share<A>(k + 1);
      __syncthreads();
      IRSTD_UNROLL
      for (int v = 0; v < 4; ++v) in_shared(v, warp, lane) = values[v];
      __syncthreads();
      const int width = kThreads / summed, v = int(threadIdx.x) / width, channel = int(threadIdx.x) % width;  // channels of the item
      const int64_t d = item % d_tiles * width + channel;
      if (v < 4 && d < f.D && k + v % 2 < n) {
        A sum = 0;
        for (int s = 0; s < summed; ++s) sum += f.along_channels ? in_shared(v, s, channel) : in_shared(v, channel, s);
        part[((item / d_tiles * 2 + v / 2) * n + k + v % 2) * f.D + d] = sum;
      }
    }
  }
}

// The numbers of a dense map around (row, column), 0 beyond the border. With N > 0 a window moves down in registers, as Window does.
template <class A, int N> struct Around {
  const A* plane;
  int64_t h, x[2 * N + 1];
  int H, W, column;
  A v[2 * N + 1][2 * N + 1];
  __device__ __forceinline__ Around(const Dense<A>& map, const Place& at, int H, int W) : plane(map.plane(at.b, at.d)), h(map.h), H(H), W(W), column(at.column) {
    IRSTD_UNROLL
    for (int j = 0; j <= 2 * N; ++j) x[j] = (column + j - N) * map.w;
    IRSTD_UNROLL
    for (int i = 1; i <= 2 * N; ++i) read(i, at.first + i - 1 - N);
  }
  __device__ __forceinline__ void move_to(int row) {
    move_down(v);
    read(2 * N, row + N);
  }
  __device__ __forceinline__ A at(int dy, int dx) const { return v[N + dy][N + dx]; }

 private:
  __device__ __forceinline__ void read(int i, int row) {
    const A* p = plane + row * h;
    IRSTD_UNROLL
    for (int j = 0; j <= 2 * N; ++j) v[i][j] = row >= 0 && row < H && column + j >= N && column + j < W + N ? p[x[j]] : A(0);
  }
};

template <class A> struct Around<A, 0> {
  const A* plane;
  int64_t h, w;
  int H, W, row, column;
  __device__ __forceinline__ Around(const Dense<A>& map, const Place& at, int H, int W)
      : plane(map.plane(at.b, at.d)), h(map.h), w(map.w), H(H), W(W), row(at.first), column(at.column) {}
  __device__ __forceinline__ void move_to(int r) { row = r; }
  __device__ __forceinline__ A at(int dy, int dx) const {
    return row + dy >= 0 && row + dy < H && column + dx >= 0 && column + dx < W ? plane[(row + dy) * h + (column + dx) * w] : A(0);
  }
};

// du of a pixel = sum of `add` + the adjoint of the differences + that of the deviation.
// The k-th difference of an arm carries g_k = slope_k dG + share(k) dm / 4 from its centre, to its nearer pixel and, negative, to its farther one. The
// pixel j away from a centre is the nearer one for k = j and the farther one for k = j - 1; a pixel at the border that the arm points to is also what
// all differences beyond it are of: both their ends, so that only -g_{j-1} stays. Replicated pixels count once for each place in the window.
// Reads u, dG and dm (with N > 0 each (8 + 2N) / 8 times 2N + 1 numbers a pixel, from the cache) and near case 1 two numbers more, and the parts; writes du.
template <class A, int N> __global__ __launch_bounds__(kThreads, 2) void gather_kernel(Field<A> f, Image u, TermGradients<A> from, Parts<A> add, Image du) {
  const int n = N > 0 ? N : f.n;
  for (int64_t item = blockIdx.x; item < Place::items(f); item += gridDim.x) {
    const Place at(f, item);
    if (!at.live) continue;
    const Slopes<A, N> slopes(f, at.d);
    Around<A, N> dG(from.dG, at, f.H, f.W), dm(from.dm, at, f.H, f.W);
    const int column = at.column;
    const int64_t h = from.dG.h, w = from.dG.w, own = from.dG.plane(at.b, at.d) - from.dG.data + column * w;
    const char* values = u.plane(at.b, at.d) + column * u.w;
    char* to = du.plane(at.b, at.d) + column * du.w;
    IRSTD_UNROLL_1
    for (int row = at.first; row < at.last; ++row) {
      dG.move_to(row), dm.move_to(row);
      A sum = add.count > 0 ? add.at(at.offset(f, row)) : A(0);
      auto arm = [&](int axis, int j, bool stops, int dy, int dx) {  // from a centre j away, whose arm stops at this pixel or goes on
        const A slope = (stops ? A(0) : slopes.at(axis, j)) - slopes.at(axis, j - 1);
        const A of_m = ((stops || j == n ? A(0) : share<A>(j)) - (j > 0 ? share<A>(j - 1) : A(0))) * A(0.25);
        sum += slope * dG.at(dy, dx) + of_m * dm.at(dy, dx);
      };
      IRSTD_UNROLL_BY((N + 1))
      for (int j = 0; j <= n; ++j) {
        arm(0, j, column == 0, 0, j), arm(0, j, column == f.W - 1, 0, -j);
        arm(1, j, row == 0, j, 0), arm(1, j, row == f.H - 1, -j, 0);
      }
      const A value = Element<A>::read(values + row * u.h, u.type).value(u.type);
      IRSTD_UNROLL_BY((N > 0 ? 2 * N + 1 : 1))
      for (int dy = -n; dy <= n; ++dy) {
        IRSTD_UNROLL_BY((N > 0 ? 2 * N + 1 : 1))
        for (int dx = -n; dx <= n; ++dx) {
          if (dm.at(dy, dx) == 0) continue;
          const int64_t centre = own + (row + dy) * h + dx * w;
          const int times_y = 1 + (row == 0 ? n - dy : 0) + (row == f.H - 1 ? n + dy : 0), times_x = 1 + (column == 0 ? n - dx : 0) + (column == f.W - 1 ? n + dx : 0);
          sum += A(times_y * times_x) * from.share_of[centre] * (value - from.mean[centre]);
        }
      }
      Element<A>::write(to + row * du.h, du.type, sum);
    }
  }
}

template <class A> int64_t backward_numbers(const Field<A>& f) {
  return 4 * f.B * f.D * f.H * f.W + f.B * Place::tiles(f) * 2 * f.n * f.D;
}

// dp is the sum of `parts` where there are any, else `grad`. dW [2, n, D]; `add` goes on top of du.
template <class A> void launch_backward(const Field<A>& f, const Image& u, const Image& grad, const Parts<A>& parts, const Parts<A>& add, const Image& du, A* dW, A* workspace,
                                        cudaStream_t stream) {
  const int64_t numbers = f.B * f.D * f.H * f.W;
  const TermGradients<A> terms{dense_image(f, workspace), dense_image(f, workspace + numbers), workspace + 2 * numbers, workspace + 3 * numbers};
  A* part = workspace + 4 * numbers;
  if (numbers > 0) {
    const unsigned grid = blocks_for(Place::items(f));
    with_known_n<A>(f.n, [&](auto n) { IRSTD_LAUNCH((terms_kernel<A, n()>), grid, kThreads, 0, stream, f, u, grad, parts, terms); });
    with_known_n<A>(f.n, [&](auto n) {
      IRSTD_LAUNCH((weights_kernel<A, n()>), grid, kThreads, 4 * kWarps * (kLanes + 1) * sizeof(A), stream, f, u, terms.dG, part);
    });
    with_known_n<A>(f.n, [&](auto n) { IRSTD_LAUNCH((gather_kernel<A, n()>), grid, kThreads, 0, stream, f, u, terms, add, du); });
  }
  launch_sums(Sums<A, 1>{{{part, dW, 1, numbers > 0 ? f.B * Place::tiles(f) : 0, 2 * f.n * f.D}}}, stream);
}

}  // namespace irstd::pixel_difference
