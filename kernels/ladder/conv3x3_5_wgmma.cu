// conv3x3_5_wgmma.cu: valid 3x3 convolution, rung 5: four warps multiply out of shared memory.
//
//   y[n,i,j,k] = act( b[k] + sum_{r,s,c} x[n,i+r,j+s,c] w[r,s,c,k] )
//
// Shapes   x (N,H,W,C)   w (3,3,C,K)   b (K)   y (N,H-2,W-2,K); last index fastest.
// Needs: sm_90a
// Idea     On rung 4 each warp asks shared memory for the factors of each of its products. Hopper's
//          wgmma needs no such requests: one instruction of four warps (a warpgroup) multiplies 64
//          pixels by 16 channels by 128 filters, 131072 products, and is only told where the factors
//          begin. In return they must lie exactly as it wants them: see in_rows. And it works in the
//          background: the sums may not be touched, nor the factors, before a wait.
// Threads  128 own 4 x 16 pixels x 128 filters. A warp holds the sums of a row of 16 pixels, 64 a
//          thread, in the same places as on rung 4.
// Shared   of one tap: 64 channels of 64 pixels, 8 KB, and of 128 filters, 16 KB, as 16-bit numbers
//          (bf16, 8 bits of precision), to which they are rounded on the way.
// Cost     No request to shared memory is left but those that copy. What limits it now is that every
//          tap is copied anew: 94 bytes from global memory for 1000 products, more than on rung 4.
//          kernels/conv3x3_wgmma.cu goes on from here: there x is copied once for all nine taps
//          (bands.cuh says how they find their rows), as 16-bit numbers, while it multiplies.
//
// Launched by unetcu/provers/ladder.py. Tested by tests/test_ladder.py.
#include "common.cuh"
#include "ptx.cuh"

constexpr int TILE_H = 4;
constexpr int TILE_W = 16;
constexpr int TILE_K = 128;
constexpr int CHUNK = 64;
constexpr int THREADS = 128;
constexpr int SHARED = 2 * CHUNK * (TILE_H * TILE_W + TILE_K);  // bytes, dynamic
static_assert(SHARED <= 48 * 1024, "more must be granted to a kernel before its launch");

// Where number i of a row lies. A row is 128 bytes: 64 numbers, 8 pieces of 16 bytes. Piece j of
// eight rows is wanted at once; were it at the same place in each, all eight would lie in the same 4
// of the 32 banks. So the pieces of a row change places, in each of eight rows otherwise (swizzling):
//
//   row 0   0 1 2 3 4 5 6 7      row 2   2 3 0 1 6 7 4 5      row 4   4 5 6 7 0 1 2 3
//   row 1   1 0 3 2 5 4 7 6      row 3   3 2 1 0 7 6 5 4      ...     place = piece ^ row % 8
__device__ __forceinline__ int in_rows(int row, int i) {
  return row * 64 + (i / 8 ^ row % 8) * 8 + i % 8;
}

// Grid: x tiles of pixels, y blocks of filters, z images. Dynamic shared memory: SHARED bytes.
extern "C" __global__ void __launch_bounds__(THREADS, 4) conv3x3_5_wgmma(
    const float* __restrict__ x, const float* __restrict__ w, const float* __restrict__ b,
    float* __restrict__ y, int N, int H, int W, int C, int K, int relu) {
  constexpr int PIXELS = TILE_H * TILE_W;
  unsigned short* xs = dynamic_shared<unsigned short>();  // row p: the channels of pixel p
  unsigned short* ws = xs + in_rows(PIXELS, 0);  // row c: filters 0-63 of channel c; 64 + c: 64-127
  const int P = H - 2, Q = W - 2, across = ceil_div(Q, TILE_W), n = blockIdx.z;
  const int i0 = blockIdx.x / across * TILE_H, j0 = blockIdx.x % across * TILE_W;
  const int k0 = blockIdx.y * TILE_K, t = threadIdx.x, warp = t / 32;
  float sum[TILE_K / 2] = {};
  wgmma_settle(sum);  // here, not behind wgmma_begin, they become 0
  for (int c0 = 0; c0 < C; c0 += CHUNK)
    for (int tap = 0; tap < 9; ++tap) {
      for (int e = t; e < PIXELS * CHUNK; e += THREADS) {
        const int pixel = e / CHUNK, c = c0 + e % CHUNK;
        const int h = i0 + pixel / TILE_W + tap / 3, v = j0 + pixel % TILE_W + tap % 3;
        const bool in = c < C && h < H && v < W;
        xs[in_rows(pixel, e % CHUNK)] =
            bf16_of(in ? x[(((long long)n * H + h) * W + v) * C + c] : 0.0f);
      }
      for (int e = t; e < CHUNK * TILE_K; e += THREADS) {
        const int f = e % TILE_K, c = e / TILE_K;
        const bool in = c0 + c < C && k0 + f < K;
        ws[in_rows(f / 64 * CHUNK + c, f % 64)] =
            bf16_of(in ? w[((long long)tap * C + c0 + c) * K + k0 + f] : 0.0f);
      }
      show_to_wgmma();  // what this thread has stored: wgmma reads by another way than threads do
      __syncthreads();  // all of xs and ws is there, from all threads
      wgmma_begin();
#pragma unroll
      for (int c = 0; c < CHUNK; c += 16) {
        // From pixel 0, channel c on; the next 8 pixels lie 8 rows of 128 bytes further on.
        const auto pixels = wgmma_factor(xs + c, 0, 8 * 128);
        // From channel c, filter 0 on; filter 64 lies 64 rows further on, the next 8 channels 8 rows.
        const auto filters = wgmma_factor(ws + in_rows(c, 0), CHUNK * 128, 8 * 128);
        wgmma_bf16<false, true>(sum, pixels, filters);  // true: a row holds many columns of a depth
      }
      wgmma_commit();
      wgmma_wait<0>();  // for these products: only now the sums are there
      wgmma_settle(sum);
      __syncthreads();  // all four warps have multiplied: the next tap may be written over this one
    }
  const int row = t % 32 / 4, column = t % 4;  // where a lane's sums lie in those of its warp
#pragma unroll
  for (int f = 0; f < TILE_K / 8; ++f)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int h = i0 + warp, v = j0 + row + e / 2 * 8, k = k0 + 8 * f + 2 * column + e % 2;
      if (h < P && v < Q && k < K) {
        float s = sum[4 * f + e] + b[k];
        if (relu && s < 0.0f) s = 0.0f;  // NaN stays NaN
        y[(((long long)n * P + h) * Q + v) * K + k] = s;
      }
    }
}
