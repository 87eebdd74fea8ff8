// correlate.cuh: tiles of a 3x3 correlation. conv3x3's y and dx are made of it.
//
//   out[n,p,q,m] = act( b[m] + sum_{r,s,d} x[n,p+r,q+s,d] w[r,s,d,m] )
//
// The matrix product "pixels by 9D" times "9D by M", whose first factor is never built: that is
// called implicit GEMM.
//
// Threads  128 a block own TILE_H x TILE_W pixels x TILE_K filters, and each of them 8 pixels, one
//          below the other, and 8 filters, 4 and 4: 64 sums in registers, so that whatever comes
//          from shared memory is used 8 times. Lanes go over filters first: at TILE_K = 64 they
//          write 128 bytes of a pixel of out.
// Shared   DEPTH channels of the tile with its border of 2, loaded once for all nine taps (a tile
//          per tap would be 6.4 times the traffic), and the same channels of w. Per 256 fused
//          multiply-adds a thread fetches 16 times 16 bytes: 2 FLOP a byte; but 8 lanes ask for the
//          same piece of x, 4 for the same of w, so that is 10 FLOP for each byte that the memory
//          sends, and a multiprocessor needs 2. Four channels of a pixel lie side by side and
//          pixels 16 bytes apart, so no bank is met twice. Rows of w have 4 floats more where it is
//          turned while it is stored: they keep its lanes apart.
// Order    channels four at a time, for each the nine taps: the same for every pixel, so a pixel
//          gets the same bits in a tile of an image and in the whole image.
// Cost     92 % of the inner loop's SASS (sm_90) is FFMA. 168 registers: 3 blocks a
//          multiprocessor, which hide each other's loads.
#pragma once
#include "common.cuh"
#include "fours.cuh"

constexpr int DEPTH = 8;  // channels summed between two loads

// out (N,P,Q,M) = act(b + x * w) of x (N,H,W,D) and w (3,3,D,M), P = H - 2.
// TURNED: x is dy, to be gated by y and padded by 2, P = H + 2; w is (3,3,M,D); no b, no act.
template <int TILE_H, int TILE_W, int TILE_K, bool TURNED>
__device__ __forceinline__ void correlate(const real* x, const real* y, const real* w,
                                          const float* b, real* out, int H, int W, int D, int M,
                                          int relu) {
  constexpr int THREADS = TILE_H * TILE_W * TILE_K / 64;
  constexpr int PAD = TURNED ? 2 : 0, PATCH_W = TILE_W + 2, PATCH = (TILE_H + 2) * PATCH_W;
  constexpr int LANES = TILE_K / 8, COLUMNS = 32 / LANES, WARPS_ACROSS = TILE_W / COLUMNS;
  constexpr int ROW = TILE_K + (TURNED ? 4 : 0);  // floats of a row of ws
  __shared__ float4 xs[2 * PATCH];                // [4 channels][row][column]
  __shared__ float4 ws[9 * DEPTH * ROW / 4];      // [tap][channel][filter]

  const int P = H - 2 + 2 * PAD, Q = W - 2 + 2 * PAD;
  const int blocks_k = ceil_div(M, TILE_K), across = ceil_div(Q, TILE_W);
  // Filters go fastest over blocks: those that run together read the same pixels, from L2.
  const int m0 = blockIdx.x % blocks_k * TILE_K, tile = blockIdx.x / blocks_k, n = blockIdx.y;
  const int p0 = tile / across * TILE_H, q0 = tile % across * TILE_W;
  const int t = threadIdx.x, lane = t % 32, warp = t / 32;
  const int top = warp / WARPS_ACROSS * 8;  // the first of this thread's 8 rows of the tile
  const int column = warp % WARPS_ACROSS * COLUMNS + lane / LANES;
  const int m = m0 + lane % LANES * 4;  // it owns filters m..m+3, and 4 more TILE_K/2 further on
  const bool mine = p0 + top < P && q0 + column < Q && m < M;
  const bool by_fours = D % 4 == 0;

  float sum[8][8] = {};
  for (int d0 = 0; d0 < D; d0 += DEPTH) {
#pragma unroll 3
    for (int e = t; e < 2 * PATCH; e += THREADS) {  // two lanes a pixel: 32 bytes, a full sector
      const int d = d0 + e % 2 * 4, pixel = e / 2;
      const int h = p0 - PAD + pixel / PATCH_W, v = q0 - PAD + pixel % PATCH_W;
      float4 four = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
      if (h >= 0 && h < H && v >= 0 && v < W) {
        const long long at = (((long long)n * H + h) * W + v) * D + d;
        if (TURNED)
          four = load4_gated(x, y, at, D - d, by_fours, relu);
        else
          four = load4(x + at, D - d, by_fours);
      }
      xs[e % 2 * PATCH + pixel] = four;
    }
    if (TURNED) {
#pragma unroll 2
      for (int e = t; e < 9 * TILE_K * 2; e += THREADS) {
        const int d = e % 2 * 4, c = e / 2 % TILE_K, tap = e / 2 / TILE_K;
        const real* from = w + ((long long)(8 - tap) * M + m0 + c) * D + d0 + d;
        const float4 four = load4(from, m0 + c < M ? D - d0 - d : 0, by_fours);
        float* to = reinterpret_cast<float*>(ws) + (tap * DEPTH + d) * ROW + c;
        to[0] = four.x;
        to[ROW] = four.y;
        to[2 * ROW] = four.z;
        to[3 * ROW] = four.w;
      }
    } else {
#pragma unroll 3
      for (int e = t; e < 9 * DEPTH * (TILE_K / 4); e += THREADS) {
        const int k = e % (TILE_K / 4), row = e / (TILE_K / 4), d = row % DEPTH, tap = row / DEPTH;
        const real* from = w + ((long long)tap * D + d0 + d) * M + m0 + 4 * k;
        // Beyond the last channel x and w are both 0: one alone would not do, 0 * NaN is NaN.
        const int left = d0 + d < D ? M - m0 - 4 * k : 0;
        ws[(tap * DEPTH + d) * ROW / 4 + k] = load4(from, left, M % 4 == 0);
      }
    }
    __syncthreads();  // xs and ws were filled by all, and are read by others than who wrote them
    const int fours = mine ? min(DEPTH / 4, ceil_div(D - d0, 4)) : 0;
#pragma unroll 1
    for (int step = 0; step < 3 * fours; ++step) {  // four channels, a row of taps
      const int f = step / 3, r = step % 3;
      const float4* from = xs + f * PATCH + (top + r) * PATCH_W + column;
      const float4* filters = ws + (3 * r * DEPTH + 4 * f) * ROW / 4 + lane % LANES;
#pragma unroll
      for (int s = 0; s < 3; ++s) {
        float a[4][8];
#pragma unroll
        for (int d = 0; d < 4; ++d) {
          unpack(a[d], filters[(s * DEPTH + d) * ROW / 4]);
          unpack(a[d] + 4, filters[(s * DEPTH + d) * ROW / 4 + LANES]);
        }
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          const float4 v = from[i * PATCH_W + s];
#pragma unroll
          for (int j = 0; j < 8; ++j) {
            sum[i][j] += v.x * a[0][j];
            sum[i][j] += v.y * a[1][j];
            sum[i][j] += v.z * a[2][j];
            sum[i][j] += v.w * a[3][j];
          }
        }
      }
    }
    __syncthreads();  // all have read: only now may xs and ws be filled anew
  }

#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int k = m + half * (TILE_K / 2), q = q0 + column;
    float bias[4] = {};
    if (!TURNED) unpack(bias, load4(b + k, M - k, M % 4 == 0));
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int p = p0 + top + i;
      float v[4];
      for (int j = 0; j < 4; ++j) {
        v[j] = sum[i][4 * half + j] + bias[j];
        if (!TURNED && relu && v[j] < 0.0f) v[j] = 0.0f;  // NaN stays NaN, as fmaxf would not
      }
      if (p < P && q < Q)
        store4(out + (((long long)n * P + p) * Q + q) * M + k, v, M - k, M % 4 == 0);
    }
  }
}
