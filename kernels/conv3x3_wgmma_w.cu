// conv3x3_wgmma_w.cu: the weight and bias gradients of the valid 3x3 convolution by wgmma.
//
//   dw[r,s,c,k] = sum_{n,i,j} x[n,i+r,j+s,c] dy[n,i,j,k]        db[k] = sum_{n,i,j} dy[n,i,j,k]
//
// What conv3x3_mma_w.cu does, which explains the rest; both factors are read from shared memory by
// wgmma itself, as they lie in memory, channels fastest.
//
// Shapes   as in conv3x3_mma_w.cu.
// Formats: bf16 fp16
// Needs: sm_90a
// Threads  384, three warpgroups, own BLOCK channels x BLOCK filters x 9 taps; each a row of taps: 3
//          products of 64 x 64, 96 sums a thread, for the whole of its slab.
// Shared   16 x 16 pixels of dy and what they see of x, CHUNK channels of each, in bands (bands.cuh):
//          32 + 60 KiB, twice: the next tile is under way while one is used. Two groups are the 16
//          pixels that a product sums over, and every tap begins at a group of x.
// Cost     A tile is 18.9 MFLOP for 92 KiB: 200 FLOP for each byte from L2, of which an H200 gives a
//          multiprocessor about 40 a clock, where its tensor cores want 20. A product of 64 x 64 x 16
//          reads 4 KiB of shared memory in the 32 clocks it takes: all of its 128 bytes a clock, and
//          that is the limit. (No time was measured yet.)
// Slabs    as in conv3x3_mma_w.cu; summed by conv3x3_sum_slabs.
// NaN      Beyond the right and the lower edge dy is 0 and x is what is there: a NaN of x at those
//          edges reaches all taps, not just those that see it.
//
// Launched by unetcu/ops/conv3x3.py. Tested by tests/ops/test_conv3x3_mma.py.
#include "bands.cuh"
#include "common.cuh"
#include "pair.cuh"
#include "real.cuh"

constexpr int THREADS = 384;
constexpr int BLOCK = 64;
constexpr int ADDERS = THREADS / ROW_PIECES;  // of the slopes of 8 filters

// Grid: x slabs, y blocks of channels, z blocks of filters. Dynamic shared memory: 32 (PIXELS + PATCH)
// bytes.
extern "C" __global__ void __launch_bounds__(THREADS, 1) conv3x3_wgmma_w_backward(
    const real* __restrict__ x, const real* __restrict__ skip, const real* __restrict__ dy,
    float* __restrict__ parts_w, float* __restrict__ parts_b, int N, int H, int W, int C, int K,
    int S, int Hs, int Ws) {
  const int P = H - 2, Q = W - 2, across = ceil_div(Q, TILE), down = ceil_div(P, TILE);
  const Pair<const real> image = {skip, x, S, Hs, Ws, H, W, C};
  const Pair<const real> slopes = {nullptr, dy, 0, 0, 0, P, Q, K};
  uint4* gs = dynamic_shared<uint4>();  // [2][group][band][piece] of dy
  uint4* xs = gs + 2 * PIXELS;
  const int tiles = N * down * across, share = ceil_div(tiles, gridDim.x), slab = blockIdx.x;
  const int c0 = blockIdx.y * BLOCK, k0 = blockIdx.z * BLOCK, t = threadIdx.x, r = t / 128;

  Bands<2, THREADS> pixels(image);
  Bands<0, THREADS> g(slopes);
  auto load = [&](int tile) {
    const int n = tile / (down * across), p0 = tile / across % down * TILE;
    const int q0 = tile % across * TILE;
    pixels.begin(xs + tile % 2 * PATCH, n, p0, q0, c0);
    g.begin(gs + tile % 2 * PIXELS, n, p0, q0, k0);
#pragma unroll 1
    for (int i = 0; i < pixels.ROUNDS; ++i) {
      pixels.next();
      g.next();
    }
    cp_async_commit();
  };

  float sum[3][BLOCK / 2] = {}, bias[PIECE] = {};
  const bool sums_bias = c0 == 0;
  const int last = min(tiles, (slab + 1) * share);
  if (slab * share < last) load(slab * share);
  for (int tile = slab * share; tile < last; ++tile) {
    cp_async_wait<0>();
    show_to_wgmma();
    __syncthreads();  // this tile is there for all, and all products of the one before are done
    const uint4* here = gs + tile % 2 * PIXELS;
    const uint4* patch = xs + (tile % 2 * PATCH + r * PATCH_W * GROUP);
    wgmma_begin();
#pragma unroll
    for (int a = 0; a < BAND_H; ++a)
#pragma unroll
      for (int j = 0; j < BAND_W; j += 2) {
        const auto f = wgmma_factor(here + (a * BAND_W + j) * GROUP, 0, 16 * GROUP);
#pragma unroll
        for (int s = 0; s < 3; ++s) {
          const auto e = wgmma_factor(patch + (a * PATCH_W + j + s) * GROUP, 0, 16 * GROUP);
          MULTIPLY<true, true>(sum[s], e, f);
        }
      }
    wgmma_commit();
    if (tile + 1 < last) load(tile + 1);
    if (sums_bias)
      for (int row = t / ROW_PIECES; row < PIXELS / ROW_PIECES; row += ADDERS) {
        const real* eight = reinterpret_cast<const real*>(here + in_rows(row, t % ROW_PIECES));
#pragma unroll
        for (int e = 0; e < PIECE; ++e) bias[e] += static_cast<float>(eight[e]);
      }
    // Here, within the loop: were products under way across its end, ptxas would wait for each.
    wgmma_wait<0>();
  }
#pragma unroll
  for (int s = 0; s < 3; ++s) wgmma_end(sum[s]);

  // A lane holds filters 8 j + 2 (lane % 4) and the next, of the channels lane / 4 and 8 further on.
  const int lane = t % 32;
#pragma unroll
  for (int s = 0; s < 3; ++s)
#pragma unroll
    for (int j = 0; j < BLOCK / 8; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int c = c0 + t / 32 % 4 * 16 + lane / 4 + e / 2 * 8;
        const int k = k0 + 8 * j + lane % 4 * 2 + e % 2;
        if (c < C && k < K)
          parts_w[((((long long)slab * 3 + r) * 3 + s) * C + c) * K + k] = sum[s][4 * j + e];
      }
  if (!sums_bias) return;
  float* sums = dynamic_shared<float>();  // [ADDERS][BLOCK]
  __syncthreads();  // no product reads shared memory any more, and all have added what they read
#pragma unroll
  for (int e = 0; e < PIECE; ++e) sums[t / ROW_PIECES * BLOCK + t % ROW_PIECES * PIECE + e] = bias[e];
  __syncthreads();  // the sums of all threads are there
  if (t >= BLOCK || k0 + t >= K) return;
  float total = 0.0f;
  for (int i = 0; i < ADDERS; ++i) total += sums[i * BLOCK + t];
  parts_b[(long long)slab * K + k0 + t] = total;
}
