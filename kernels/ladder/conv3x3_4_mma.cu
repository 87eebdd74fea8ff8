// conv3x3_4_mma.cu: valid 3x3 convolution, rung 4: tensor cores multiply, a warp at a time.
//
//   y[n,i,j,k] = act( b[k] + sum_{r,s,c} x[n,i+r,j+s,c] w[r,s,c,k] )
//
// Shapes   x (N,H,W,C)   w (3,3,C,K)   b (K)   y (N,H-2,W-2,K); last index fastest.
// Needs: sm_80
// Idea     One instruction of a warp, mma, multiplies a 16 x 8 matrix by an 8 x 8 one: 16 pixels by 8
//          channels, 8 channels by 8 filters, 1024 products. Its 32 lanes hold the factors together,
//          4 + 2 numbers each. The price: the factors are rounded to 10 bits of fraction (tf32).
// Threads  128 own 4 x 16 pixels x 64 filters; a warp a row of 16 pixels, and 8 results of mma.
// Shared   x: 6 x 18 pixels x 8 channels, w: 9 taps x 8 channels x 64 filters; rows are longer by 4
//          and 8 numbers, so that the 32 numbers which a warp takes at once lie in 32 banks.
// Cost     A step takes 4 + 16 requests to shared memory for 8192 products, 13 for each lane's
//          request. kernels/conv3x3_mma.cu goes on from here: 16-bit numbers, ldmatrix, which
//          takes four times as much a request, 64 x 64 a warp, and copies in the background.
//
// Launched by unetcu/provers/ladder.py. Tested by tests/test_ladder.py.
#include "common.cuh"
#include "ptx.cuh"

constexpr int TILE_H = 4;
constexpr int TILE_W = 16;
constexpr int TILE_K = 64;
constexpr int CHUNK = 8;
constexpr int THREADS = 128;

// Grid: x tiles of pixels, y blocks of filters, z images.
extern "C" __global__ void __launch_bounds__(THREADS, 2) conv3x3_4_mma(
    const float* __restrict__ x, const float* __restrict__ w, const float* __restrict__ b,
    float* __restrict__ y, int N, int H, int W, int C, int K, int relu) {
  constexpr int PATCH_W = TILE_W + 2, PATCH = (TILE_H + 2) * PATCH_W;
  __shared__ float xs[PATCH][CHUNK + 4];
  __shared__ float ws[9][CHUNK][TILE_K + 8];
  const int P = H - 2, Q = W - 2, across = ceil_div(Q, TILE_W), n = blockIdx.z;
  const int i0 = blockIdx.x / across * TILE_H, j0 = blockIdx.x % across * TILE_W;
  const int k0 = blockIdx.y * TILE_K, t = threadIdx.x, warp = t / 32;
  const int row = t % 32 / 4, column = t % 4;  // where a lane's numbers lie in the factors
  float sum[TILE_K / 8][4] = {};
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
#pragma unroll
    for (int tap = 0; tap < 9; ++tap) {
      const int pixel = (warp + tap / 3) * PATCH_W + row + tap % 3;
      const unsigned a[4] = {tf32_of(xs[pixel][column]), tf32_of(xs[pixel + 8][column]),
                             tf32_of(xs[pixel][column + 4]), tf32_of(xs[pixel + 8][column + 4])};
#pragma unroll
      for (int f = 0; f < TILE_K / 8; ++f) {
        const unsigned filters[2] = {tf32_of(ws[tap][column][8 * f + row]),
                                     tf32_of(ws[tap][column + 4][8 * f + row])};
        mma_tf32(sum[f], a, filters);
      }
    }
    __syncthreads();  // all have read: the next round may write over xs and ws
  }
#pragma unroll
  for (int f = 0; f < TILE_K / 8; ++f)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int h = i0 + warp, v = j0 + row + e / 2 * 8, k = k0 + 8 * f + 2 * column + e % 2;
      if (h < P && v < Q && k < K) {
        float s = sum[f][e] + b[k];
        if (relu && s < 0.0f) s = 0.0f;  // NaN stays NaN
        y[(((long long)n * P + h) * Q + v) * K + k] = s;
      }
    }
}
