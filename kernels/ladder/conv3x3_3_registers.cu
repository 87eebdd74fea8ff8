// conv3x3_3_registers.cu: valid 3x3 convolution, rung 3: a thread keeps 16 sums in registers.
//
//   y[n,i,j,k] = act( b[k] + sum_{r,s,c} x[n,i+r,j+s,c] w[r,s,c,k] )
//
// Shapes   x (N,H,W,C)   w (3,3,C,K)   b (K)   y (N,H-2,W-2,K); last index fastest.
// Idea     As between global and shared memory on rung 2, so between shared memory and registers:
//          4 numbers of x and 4 of w make 16 products, half a request each instead of two. The
//          block grows with it, so global memory is read less, too.
// Threads  256 own 8 x 8 pixels x 64 filters; one owns 4 pixels (two rows apart) x 4 filters (16
//          apart, so that lanes side by side read neighbours).
// Shared   x: 10 x 10 pixels x 8 channels, 3.2 KB. w: 9 taps x 8 channels x 64 filters, 18.4 KB.
//          A warp reads 16 neighbours of w and 2 numbers of x, 8 banks apart: no conflicts.
// Cost     Global memory: 2.7 KB a channel for 36864 products, 4 times fewer bytes than rung 2.
//          kernels/conv3x3.cu goes on from here: 64 sums a thread, 16 bytes a request.
//
// Launched by unetcu/provers/ladder.py. Tested by tests/test_ladder.py.
#include "common.cuh"

constexpr int TILE_H = 8;
constexpr int TILE_W = 8;
constexpr int TILE_K = 64;
constexpr int CHUNK = 8;
constexpr int PER = 4;  // pixels, and filters, of a thread
constexpr int THREADS = TILE_H * TILE_W * TILE_K / (PER * PER);

// Grid: x tiles of pixels, y blocks of filters, z images.
extern "C" __global__ void __launch_bounds__(THREADS, 2) conv3x3_3_registers(
    const float* __restrict__ x, const float* __restrict__ w, const float* __restrict__ b,
    float* __restrict__ y, int N, int H, int W, int C, int K, int relu) {
  constexpr int PATCH_W = TILE_W + 2, PATCH = (TILE_H + 2) * PATCH_W;
  constexpr int LANES = TILE_K / PER, PIXELS = TILE_H * TILE_W / PER;  // from one to its next
  __shared__ float xs[PATCH][CHUNK];
  __shared__ float ws[9][CHUNK][TILE_K];
  const int P = H - 2, Q = W - 2, across = ceil_div(Q, TILE_W), n = blockIdx.z;
  const int i0 = blockIdx.x / across * TILE_H, j0 = blockIdx.x % across * TILE_W;
  const int k0 = blockIdx.y * TILE_K, t = threadIdx.x, lane = t % LANES;
  const int i = t / LANES / TILE_W, j = t / LANES % TILE_W;  // the first of this thread's pixels
  float sum[PER][PER] = {};
  for (int c0 = 0; c0 < C; c0 += CHUNK) {
    for (int e = t; e < PATCH * CHUNK; e += THREADS) {
      const int c = c0 + e % CHUNK, h = i0 + e / CHUNK / PATCH_W, v = j0 + e / CHUNK % PATCH_W;
      const bool in = c < C && h < H && v < W;
      xs[e / CHUNK][e % CHUNK] = in ? x[(((long long)n * H + h) * W + v) * C + c] : 0.0f;
    }
    for (int e = t; e < 9 * CHUNK * TILE_K; e += THREADS) {
      const int f = e % TILE_K, c = e / TILE_K % CHUNK, tap = e / TILE_K / CHUNK;
      const bool in = c0 + c < C && k0 + f < K;
      ws[tap][c][f] = in ? w[((long long)tap * C + c0 + c) * K + k0 + f] : 0.0f;
    }
    __syncthreads();  // all of xs and ws is there: others have loaded what this thread reads
    for (int tap = 0; tap < 9; ++tap)
      for (int c = 0; c < CHUNK; ++c) {
        float a[PER], f[PER];
#pragma unroll
        for (int p = 0; p < PER; ++p) {
          const int row = i + p * (PIXELS / TILE_W) + tap / 3;
          a[p] = xs[row * PATCH_W + j + tap % 3][c];
          f[p] = ws[tap][c][lane + p * LANES];
        }
#pragma unroll
        for (int p = 0; p < PER; ++p)
#pragma unroll
          for (int q = 0; q < PER; ++q) sum[p][q] += a[p] * f[q];
      }
    __syncthreads();  // all have read: the next round may write over xs and ws
  }
#pragma unroll
  for (int p = 0; p < PER; ++p)
#pragma unroll
    for (int q = 0; q < PER; ++q) {
      const int h = i0 + i + p * (PIXELS / TILE_W), v = j0 + j, k = k0 + lane + q * LANES;
      if (h < P && v < Q && k < K) {
        float s = sum[p][q] + b[k];
        if (relu && s < 0.0f) s = 0.0f;  // NaN stays NaN
        y[(((long long)n * P + h) * Q + v) * K + k] = s;
      }
    }
}
