// conv3x3.cu: valid 3x3 convolution with bias and (if asked) ReLU, forward and backward.
//
//   y[n,i,j,k]  = act( b[k] + sum_{r,s,c} x[n,i+r,j+s,c] w[r,s,c,k] )
//   dx[n,i,j,c] = sum_{r,s,k} g[n,i-r,j-s,k] w[r,s,c,k]         g = dy where y > 0 (or all of dy)
//   dw[r,s,c,k] = sum_{n,i,j} x[n,i+r,j+s,c] g[n,i,j,k]         db[k] = sum_{n,i,j} g[n,i,j,k]
//
// Shapes   x, dx (N,H,W,C)   w, dw (3,3,C,K)   b, db (K)   y, dy (N,H-2,W-2,K); last index fastest.
//          Sizes are those of x, w and y, in every kernel.
//
// y and dx are made by correlate.cuh. For dx it reads g padded by 2, w turned by 180 degrees with C
// and K swapped, all in place.
// Threads  128 own 8 x 16 pixels x 64 filters (wide) or 32 x 16 x 16 (narrow: for few filters, so
//          that no lane is without work). Shared memory: 24.8 KiB at most.
// Cost     A wide block reads 3 KB a channel, from L2, and multiplies for 576 clocks: 5 bytes a
//          clock, where L2 gives over 20: compute-bound from C = 16 on. (No time was measured yet.)
//          At C = 1 it multiplies 3 zeros a channel; that layer is bound by writing y, and a form
//          of its own would save 0.2 % of the paper's forward pass.
//
// dw and db are made by backward_w below, "9C by pixels" times "pixels by K".
// Threads  256 own CB channels x KB filters x 9 taps: wide 32 x 64, narrow 16 x 16, few 4 x 64. A
//          thread owns a channel, 8 filters and all taps: 72 sums in registers. Along a row of
//          pixels, each step brings 3 new numbers of x and 8 of g for 72 fused multiply-adds, which
//          are 90 % of the loop's SASS (sm_90). If fewer than 256 threads own all, GROUPS take
//          rows of the tile in turn, and are added in their order at the end.
// Shared   TILE_H x 18 pixels of g and what they see of x: 18 + 15 KiB wide, 9 + 12.5 narrow, 36 +
//          3.1 few. The lanes of a warp read 128 bytes of g, side by side, and 4 numbers of x.
// Cost     Wide: 470 bytes a pixel for 144 clocks of multiplying, 3.3 bytes a clock: compute-bound.
//          128 registers: 2 blocks, 4 warps for each of a multiprocessor's quarters.
// Slabs    Tiles are dealt out in slabs, whose number depends on the shape only. Each block
//          writes the sum over its slab, conv3x3_sum_slabs adds them in order: no atomics, the
//          same bits every time. Short sums also round less.
//
// Launched by unetcu/ops/conv3x3.py. Tested by tests/ops/test_conv3x3.py.
#include "common.cuh"
#include "correlate.cuh"
#include "fours.cuh"
#include "real.cuh"

constexpr int TILE_W = 16;  // of y and dx
constexpr int WIDE_H = 8;
constexpr int WIDE_K = 64;
constexpr int NARROW_H = 32;
constexpr int NARROW_K = 16;
constexpr int THREADS = WIDE_H * TILE_W * WIDE_K / 64;

constexpr int W_THREADS = 256;
constexpr int W_TILE_W = 18;  // the inner loop goes in steps of three
constexpr int W_WIDE_H = 4;
constexpr int W_WIDE_C = 32;
constexpr int W_WIDE_K = 64;
constexpr int W_NARROW_H = 8;
constexpr int W_NARROW_C = 16;
constexpr int W_NARROW_K = 16;
constexpr int W_FEW_H = 8;
constexpr int W_FEW_C = 4;
constexpr int W_FEW_K = 64;

// Over the tiles of one slab: parts_w[slab] (3,3,C,K), parts_b[slab] (K).
template <int TILE_H, int CB, int KB>
__device__ __forceinline__ void backward_w(const real* x, const real* dy, const real* y,
                                           float* parts_w, float* parts_b, int N, int H, int W,
                                           int C, int K, int relu) {
  constexpr int LANES = KB / 8, OWNERS = CB * LANES, GROUPS = W_THREADS / OWNERS;
  constexpr int PIXELS = TILE_H * W_TILE_W, PATCH_W = W_TILE_W + 2, PATCH = (TILE_H + 2) * PATCH_W;
  __shared__ float4 gs[PIXELS * KB / 4];  // [row][column][filter]; at the end a group's sums
  __shared__ float4 xs[PATCH * CB / 4];   // [row][column][channel]
  static_assert(GROUPS == 1 || 9 * 8 * OWNERS <= PIXELS * KB, "a group's sums must fit into gs");
  float* gf = reinterpret_cast<float*>(gs);
  const float* xf = reinterpret_cast<const float*>(xs);

  const int P = H - 2, Q = W - 2, across = ceil_div(Q, W_TILE_W), down = ceil_div(P, TILE_H);
  const int tiles = N * down * across, share = ceil_div(tiles, gridDim.x);
  const int slab = blockIdx.x, c0 = blockIdx.y * CB, k0 = blockIdx.z * KB;
  const int t = threadIdx.x, group = t / OWNERS, owner = t % OWNERS;
  const int c = owner / LANES, k = owner % LANES * 4;  // filters k..k+3, and 4 more KB/2 further on
  const bool mine = c0 + c < C && k0 + k < K;

  float sum[9][8] = {};
  float bias = 0.0f;
  for (int tile = slab * share; tile < min(tiles, (slab + 1) * share); ++tile) {
    const int n = tile / (down * across), p0 = tile / across % down * TILE_H;
    const int q0 = tile % across * W_TILE_W;
    const int rows = min(P - p0, TILE_H), columns = min(Q - q0, W_TILE_W);
    const long long first_g = (((long long)n * P + p0) * Q + q0) * K;
    const long long first_x = (((long long)n * H + p0) * W + q0) * C;
#pragma unroll 2
    for (int e = t; e < PIXELS * (KB / 4); e += W_THREADS) {
      const int f = k0 + e % (KB / 4) * 4, pixel = e / (KB / 4);
      const int i = pixel / W_TILE_W, j = pixel % W_TILE_W;
      const long long at = first_g + (i * Q + j) * K + f;
      gs[e] = load4_gated(dy, y, at, i < rows && j < columns ? K - f : 0, K % 4 == 0, relu);
    }
#pragma unroll 1
    for (int e = t; e < PATCH * (CB / 4); e += W_THREADS) {
      const int d = c0 + e % (CB / 4) * 4, pixel = e / (CB / 4);
      const int i = pixel / PATCH_W, j = pixel % PATCH_W;
      const int left = i < rows + 2 && j < columns + 2 ? C - d : 0;
      xs[e] = load4(x + first_x + (i * W + j) * C + d, left, C % 4 == 0);
    }
    __syncthreads();  // gs and xs were filled by all, and are read by others than who wrote them
    if (c0 == 0 && t < KB) {  // db: the tile's own sum first, since two short sums round less
      float here = 0.0f;
      for (int e = 0; e < PIXELS; ++e) here += gf[e * KB + t];
      bias += here;
    }
    // Only pixels that are there: beside them x may be NaN, and 0 * NaN is NaN.
    for (int i = group; mine && i < rows; i += GROUPS) {
      const float4* g_row = gs + i * W_TILE_W * (KB / 4) + k / 4;
      const float* from = xf + i * PATCH_W * CB + c;
      float v[3][3], g[8];
#pragma unroll
      for (int r = 0; r < 3; ++r) {
        v[r][1] = from[r * PATCH_W * CB];
        v[r][2] = from[(r * PATCH_W + 1) * CB];
      }
#pragma unroll 3
      for (int j = 0; j < columns; ++j) {
        const float4* filters = g_row + j * (KB / 4);
        unpack(g, filters[0]);
        unpack(g + 4, filters[KB / 8]);
#pragma unroll
        for (int r = 0; r < 3; ++r) {  // the window of x moves on: after three steps as it was
          v[r][0] = v[r][1];
          v[r][1] = v[r][2];
          v[r][2] = from[(r * PATCH_W + j + 2) * CB];
#pragma unroll
          for (int s = 0; s < 3; ++s)
#pragma unroll
            for (int f = 0; f < 8; ++f) sum[3 * r + s][f] += v[r][s] * g[f];
        }
      }
    }
    __syncthreads();  // all have read: only now may gs and xs be filled anew
  }

#pragma unroll 1
  for (int turn = 0; turn < GROUPS; ++turn) {
    if (turn > 0) __syncthreads();  // what the group before has left in gs is all there
    if (group != turn || !mine) continue;
#pragma unroll
    for (int tap = 0; tap < 9; ++tap) {
#pragma unroll
      for (int f = 0; f < 8; ++f) {
        float* at = gf + (tap * 8 + f) * OWNERS + owner;
        if (turn > 0) sum[tap][f] += *at;
        if (turn + 1 < GROUPS) *at = sum[tap][f];
      }
      if (turn + 1 < GROUPS) continue;
      const int left = K - k0 - k;
      float* to = parts_w + (((long long)slab * 9 + tap) * C + c0 + c) * K + k0 + k;
      store4(to, sum[tap], left, K % 4 == 0);
      store4(to + KB / 2, sum[tap] + 4, left - KB / 2, K % 4 == 0);
    }
  }
  if (c0 == 0 && t < KB && k0 + t < K) parts_b[(long long)slab * K + k0 + t] = bias;
}

// Grid: x tiles times blocks of filters, y images.
extern "C" __global__ void __launch_bounds__(THREADS, 3) conv3x3_forward(
    const real* __restrict__ x, const real* __restrict__ w, const float* __restrict__ b,
    real* __restrict__ y, int H, int W, int C, int K, int relu) {
  correlate<WIDE_H, TILE_W, WIDE_K, false>(x, nullptr, w, b, y, H, W, C, K, relu);
}

extern "C" __global__ void __launch_bounds__(THREADS, 3) conv3x3_forward_narrow(
    const real* __restrict__ x, const real* __restrict__ w, const float* __restrict__ b,
    real* __restrict__ y, int H, int W, int C, int K, int relu) {
  correlate<NARROW_H, TILE_W, NARROW_K, false>(x, nullptr, w, b, y, H, W, C, K, relu);
}

// Grid: as above, of tiles of dx and blocks of channels. y is read only if relu.
extern "C" __global__ void __launch_bounds__(THREADS, 3) conv3x3_backward_x(
    const real* __restrict__ dy, const real* __restrict__ y, const real* __restrict__ w,
    real* __restrict__ dx, int H, int W, int C, int K, int relu) {
  correlate<WIDE_H, TILE_W, WIDE_K, true>(dy, y, w, nullptr, dx, H - 2, W - 2, K, C, relu);
}

extern "C" __global__ void __launch_bounds__(THREADS, 3) conv3x3_backward_x_narrow(
    const real* __restrict__ dy, const real* __restrict__ y, const real* __restrict__ w,
    real* __restrict__ dx, int H, int W, int C, int K, int relu) {
  correlate<NARROW_H, TILE_W, NARROW_K, true>(dy, y, w, nullptr, dx, H - 2, W - 2, K, C, relu);
}

// Grid: x slabs, y blocks of channels, z blocks of filters. y is read only if relu.
extern "C" __global__ void __launch_bounds__(W_THREADS, 2) conv3x3_backward_w(
    const real* __restrict__ x, const real* __restrict__ dy, const real* __restrict__ y,
    float* __restrict__ parts_w, float* __restrict__ parts_b, int N, int H, int W, int C, int K,
    int relu) {
  backward_w<W_WIDE_H, W_WIDE_C, W_WIDE_K>(x, dy, y, parts_w, parts_b, N, H, W, C, K, relu);
}

extern "C" __global__ void __launch_bounds__(W_THREADS, 2) conv3x3_backward_w_narrow(
    const real* __restrict__ x, const real* __restrict__ dy, const real* __restrict__ y,
    float* __restrict__ parts_w, float* __restrict__ parts_b, int N, int H, int W, int C, int K,
    int relu) {
  backward_w<W_NARROW_H, W_NARROW_C, W_NARROW_K>(x, dy, y, parts_w, parts_b, N, H, W, C, K, relu);
}

extern "C" __global__ void __launch_bounds__(W_THREADS, 2) conv3x3_backward_w_few(
    const real* __restrict__ x, const real* __restrict__ dy, const real* __restrict__ y,
    float* __restrict__ parts_w, float* __restrict__ parts_b, int N, int H, int W, int C, int K,
    int relu) {
  backward_w<W_FEW_H, W_FEW_C, W_FEW_K>(x, dy, y, parts_w, parts_b, N, H, W, C, K, relu);
}

// dw and db: the sums over slabs, in their order. One thread an element; neighbours are neighbours.
extern "C" __global__ void conv3x3_sum_slabs(
    const float* __restrict__ parts_w, const float* __restrict__ parts_b, float* __restrict__ dw,
    float* __restrict__ db, int slabs, int weights, int K) {
  const long long i = thread_index();
  if (i >= weights + K) return;
  if (i < weights)
    dw[i] = strided_sum(parts_w, i, weights, (long long)slabs * weights);
  else
    db[i - weights] = strided_sum(parts_b, i - weights, K, (long long)slabs * K);
}
