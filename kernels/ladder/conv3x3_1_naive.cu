// conv3x3_1_naive.cu: valid 3x3 convolution, rung 1 of the ladder: one thread computes one output.
//
//   y[n,i,j,k] = act( b[k] + sum_{r,s,c} x[n,i+r,j+s,c] w[r,s,c,k] )
//
// Shapes   x (N,H,W,C)   w (3,3,C,K)   b (K)   y (N,H-2,W-2,K); last index fastest.
// Threads  one an element of y, filters fastest: a warp reads 32 neighbours of w, and (if K is 32
//          or more) one number of x that all its lanes share. All requests are coalesced already.
// Shared   none: every factor of every product is fetched from global memory.
// Cost     18 C FLOP an output, for 72 C bytes asked for: a quarter of a FLOP a byte. Caches
//          serve most of them, but a cache answers one request at a time, and each multiplication
//          has made two.
//
// Launched by unetcu/provers/ladder.py. Tested by tests/test_ladder.py.
#include "common.cuh"

constexpr int THREADS = 256;

extern "C" __global__ void __launch_bounds__(THREADS, 4) conv3x3_1_naive(
    const float* __restrict__ x, const float* __restrict__ w, const float* __restrict__ b,
    float* __restrict__ y, int N, int H, int W, int C, int K, int relu) {
  const int P = H - 2, Q = W - 2;
  const long long at = thread_index(), pixel = at / K;
  if (pixel >= (long long)N * P * Q) return;  // the last block reaches beyond the end
  const int k = at % K, j = pixel % Q, i = pixel / Q % P, n = pixel / Q / P;
  float sum = 0.0f;
  for (int r = 0; r < 3; ++r)
    for (int s = 0; s < 3; ++s) {
      const float* seen = x + (((long long)n * H + i + r) * W + j + s) * C;
      const float* filter = w + (3 * r + s) * (long long)C * K + k;
      for (int c = 0; c < C; ++c) sum += seen[c] * filter[(long long)c * K];
    }
  sum += b[k];
  if (relu && sum < 0.0f) sum = 0.0f;  // NaN stays NaN
  y[at] = sum;
}
