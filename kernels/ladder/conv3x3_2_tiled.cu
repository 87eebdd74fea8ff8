// conv3x3_2_tiled.cu: valid 3x3 convolution, rung 2 of the ladder: a block shares what it fetches.
//
//   y[n,i,j,k] = act( b[k] + sum_{r,s,c} x[n,i+r,j+s,c] w[r,s,c,k] )
//
// Shapes   x (N,H,W,C)   w (3,3,C,K)   b (K)   y (N,H-2,W-2,K); last index fastest.
// Idea     Neighbouring outputs need the same numbers: each x is used by 9 pixels and by all
//          filters, each w by all pixels. A block of 4 x 4 pixels x 16 filters loads them once
//          into shared memory, CHUNK channels at a time, and multiplies from there.
// Threads  256, still one an output, filters fastest.
// Shared   x: 6 x 6 pixels x 16 channels, 2.3 KB. w: 9 taps x 16 channels x 16 filters, 9.2 KB.
//          A warp reads 16 neighbours of w and 2 numbers of x, 16 banks apart: no conflicts.
// Cost     Global memory: 720 bytes a channel for 2304 products, 16 times fewer than rung 1's
//          sectors hold. Now shared memory is the limit: two requests for every multiplication.
//
// Launched by unetcu/provers/ladder.py. Tested by tests/test_ladder.py.
#include "common.cuh"

constexpr int TILE_H = 4;
constexpr int TILE_W = 4;
constexpr int TILE_K = 16;
constexpr int CHUNK = 16;
constexpr int THREADS = TILE_H * TILE_W * TILE_K;

// Grid: x tiles of pixels, y blocks of filters, z images.
extern "C" __global__ void __launch_bounds__(THREADS, 3) conv3x3_2_tiled(
    const float* __restrict__ x, const float* __restrict__ w, const float* __restrict__ b,
    float* __restrict__ y, int N, int H, int W, int C, int K, int relu) {
  constexpr int PATCH_W = TILE_W + 2, PATCH = (TILE_H + 2) * PATCH_W;
  __shared__ float xs[PATCH][CHUNK];
  __shared__ float ws[9][CHUNK][TILE_K];
  const int P = H - 2, Q = W - 2, across = ceil_div(Q, TILE_W), n = blockIdx.z;
  const int i0 = blockIdx.x / across * TILE_H, j0 = blockIdx.x % across * TILE_W;
  const int k0 = blockIdx.y * TILE_K, t = threadIdx.x;
  const int k = t % TILE_K, i = t / TILE_K / TILE_W, j = t / TILE_K % TILE_W;  // this thread's
  float sum = 0.0f;
  for (int c0 = 0; c0 < C; c0 += CHUNK) {
    for (int e = t; e < PATCH * CHUNK; e += THREADS) {
      const int c = c0 + e % CHUNK, h = i0 + e / CHUNK / PATCH_W, v = j0 + e / CHUNK % PATCH_W;
      const bool in = c < C && h < H && v < W;
      xs[e / CHUNK][e % CHUNK] = in ? x[(((long long)n * H + h) * W + v) * C + c] : 0.0f;
    }
#pragma unroll 3
    for (int e = t; e < 9 * CHUNK * TILE_K; e += THREADS) {
      const int f = e % TILE_K, c = e / TILE_K % CHUNK, tap = e / TILE_K / CHUNK;
      const bool in = c0 + c < C && k0 + f < K;
      ws[tap][c][f] = in ? w[((long long)tap * C + c0 + c) * K + k0 + f] : 0.0f;
    }
    __syncthreads();  // all of xs and ws is there: others have loaded what this thread reads
    for (int tap = 0; tap < 9; ++tap)
      for (int c = 0; c < CHUNK; ++c)
        sum += xs[(i + tap / 3) * PATCH_W + j + tap % 3][c] * ws[tap][c][k];
    __syncthreads();  // all have read: the next round may write over xs and ws
  }
  if (i0 + i < P && j0 + j < Q && k0 + k < K) {
    sum += b[k0 + k];
    if (relu && sum < 0.0f) sum = 0.0f;  // NaN stays NaN
    y[(((long long)n * P + i0 + i) * Q + j0 + j) * K + k0 + k] = sum;
  }
}
