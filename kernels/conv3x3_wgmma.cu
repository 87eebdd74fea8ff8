// conv3x3_wgmma.cu: the valid 3x3 convolution on Hopper's tensor cores, forward and input gradient.
//
//   y[n,i,j,k]  = act( b[k] + sum_{r,s,c} x[n,i+r,j+s,c] w[r,s,c,k] )
//   dx[n,i,j,c] = sum_{r,s,k} dy[n,i-r,j-s,k] w[r,s,c,k]      gated: 0 where not x[n,i,j,c] > 0
//
// What conv3x3_mma.cu does, which explains the rest; but factors are read from shared memory by
// wgmma itself, in the background: no ldmatrix, no registers for them, and while it multiplies the
// threads copy what comes next.
//
// Shapes   as in conv3x3_mma.cu.
// Formats: bf16 fp16
// Needs: sm_90a
// Threads  256, two warpgroups, own 16 x 16 pixels x TILE_M channels of what is made; each two of the
//          four rows of every band: 2 products of 64 x TILE_M, TILE_M sums a thread.
// Shared   a patch of x (bands.cuh), of which every tap is another group to start at: 60 KiB, twice;
//          and FILTERS taps of w, in swizzled rows of 128 bytes: 128 TILE_M bytes each. While some
//          are used the others are filled by cp.async.
// Cost     (wide) nine taps are 37.7 MFLOP for 144 KiB of w and 60 of x: 181 FLOP for each byte from
//          L2, of which an H200 gives a multiprocessor about 40 a clock, where its tensor cores want
//          23. A product of 64 x 128 x 16 reads 6 KiB of shared memory in the 64 clocks it takes: 96
//          of 128 bytes a clock. Compute-bound, if copies stay ahead. (No time was measured yet.)
//
// Launched by unetcu/ops/conv3x3.py. Tested by tests/ops/test_conv3x3_mma.py.
#include "bands.cuh"
#include "common.cuh"
#include "mma.cuh"
#include "pair.cuh"
#include "pool.cuh"
#include "real.cuh"

constexpr int THREADS = 256;
constexpr int WIDE_M = 128;
constexpr int NARROW_M = 64;
constexpr int FILTERS = 4;

// out (N,P,Q,M) of x (N,H,W,D). gated: by `gate`, which lies as out does.
template <int TILE_M, bool TURNED>
__device__ __forceinline__ void correlate_wgmma(const Pair<const real>& x, const real* w,
                                                const float* b, const real* gate,
                                                const Pair<real>& out, float* parts, int relu,
                                                const Pool& pool = {}) {
  constexpr int PAD = TURNED ? 2 : 0, TAP = TILE_M * ROW_PIECES;
  uint4* xs = dynamic_shared<uint4>();  // [2][group][band][piece]
  uint4* ws = xs + 2 * PATCH;           // [FILTERS][m][piece of d] if turned, else [64 m][d][piece]
  const int D = x.C, M = out.C, P = out.H, Q = out.W;
  const int across = ceil_div(Q, TILE), blocks_m = ceil_div(M, TILE_M);
  const int m0 = blockIdx.x % blocks_m * TILE_M, tile = blockIdx.x / blocks_m, n = blockIdx.y;
  const int p0 = tile / across * TILE, q0 = tile % across * TILE;
  const int t = threadIdx.x, lane = t % 32, group = t / 128;
  const int chunks = ceil_div(D, CHUNK);
  const int first = chunks * blockIdx.z / gridDim.z, last = chunks * (blockIdx.z + 1) / gridDim.z;

  using Pixels = Bands<2, THREADS>;
  constexpr int ROUNDS = ceil_div(Pixels::ROUNDS, 5);  // a tap, over five taps
  Pixels pixels(x);
  auto begin_pixels = [&](int chunk) {
    pixels.begin(xs + chunk % 2 * PATCH, n, p0 - PAD, q0 - PAD, chunk * CHUNK);
  };
  // A tap of w.
  int f_chunk = first, f_tap = 0, f_stage = 0;
  auto load_filters = [&]() {
    uint4* to = ws + f_stage * TAP;
#pragma unroll
    for (int i = 0; i < TAP / THREADS; ++i) {
      const int e = i * THREADS + t, j = e % ROW_PIECES;
      // Turned, rows are channels m of 64 d; else channels d of 64 m, and TILE_M / 64 such blocks.
      const int row = TURNED ? e / ROW_PIECES : e / ROW_PIECES % CHUNK;
      const int m = m0 + (TURNED ? row : e / (ROW_PIECES * CHUNK) * 64 + j * PIECE);
      const int d = f_chunk * CHUNK + (TURNED ? j * PIECE : row);
      const bool there = m < M && d < D;
      const long long at =
          TURNED ? ((8LL - f_tap) * M + m) * D + d : ((long long)f_tap * D + d) * M + m;
      cp_async<16>(to + in_rows(e / ROW_PIECES, j), there ? w + at : w, there ? 16 : 0);
    }
    f_stage = f_stage + 1 < FILTERS ? f_stage + 1 : 0;
    if (++f_tap == 9) {
      f_tap = 0;
      ++f_chunk;
    }
  };

  // Taps are copied two ahead, pixels a chunk ahead; products run one behind: what a copy overwrites
  // was last read two products ago, so copies of pixels begin with the second tap of a chunk.
  begin_pixels(first);
  for (int i = 0; i < Pixels::ROUNDS; ++i) pixels.next();
  load_filters();
  cp_async_commit();
  load_filters();
  cp_async_commit();
  float sum[2][TILE_M / 2] = {};
  int stage = 0;
  for (int chunk = first; chunk < last; ++chunk) {
    const uint4* patch = xs + chunk % 2 * PATCH + 2 * group * PATCH_W * GROUP;
#pragma unroll 1
    for (int tap = 0; tap < 9; ++tap) {
      cp_async_wait<1>();
      show_to_wgmma();
      __syncthreads();  // this tap is there for all, and no product but the last is under way
      wgmma_begin();
      const uint4* rows = patch + (tap / 3 * PATCH_W + tap % 3) * GROUP;
      const uint4* filters = ws + stage * TAP;
#pragma unroll
      for (int k = 0; k < CHUNK / 16; ++k)
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const auto a = wgmma_factor(rows + i * PATCH_W * GROUP + 2 * k, 0, 16 * GROUP);
          const auto f = TURNED ? wgmma_factor(filters + 2 * k, 0, 16 * GROUP)
                                : wgmma_factor(filters + 2 * k * GROUP, CHUNK * 128, 16 * GROUP);
          MULTIPLY<false, !TURNED>(sum[i], a, f);
        }
      wgmma_commit();
      if (tap == 1 && chunk + 1 < last) begin_pixels(chunk + 1);
      if (tap >= 1)
#pragma unroll
        for (int i = 0; i < ROUNDS; ++i) pixels.next();
      if (f_chunk < last) load_filters();
      cp_async_commit();
      stage = stage + 1 < FILTERS ? stage + 1 : 0;
      // Turned, ptxas would wait for each product if any were under way across the loop's end.
      wgmma_wait<TURNED ? 0 : 1>();
    }
  }
  wgmma_wait<0>();
  wgmma_end(sum[0]);
  wgmma_end(sum[1]);

  const long long count = (long long)gridDim.y * P * Q * M;
  // A lane holds of a product two neighbouring pixels of one band.
  const int band = lane / 4, p1 = p0 + band / 2 * BAND_H + 2 * group;
  const int q1 = q0 + band % 2 * BAND_W + t / 32 % 4 * 2;
  auto put = [&](int p, int q, int m, float (&v)[4]) {
    if (p >= P || q >= Q || m >= M) return;
    const long long at = (((long long)n * P + p) * Q + q) * M + m;
    if (gridDim.z > 1)
      store4(parts + blockIdx.z * count + at, v, 4, true);
    else
      finish(out.at(n, p, q, m), v, b ? b + m : nullptr, gate ? gate + at : nullptr, relu);
  };
#pragma unroll
  for (int j = 0; j < TILE_M / 8; j += 2) {
    const int m = m0 + 8 * (j + lane % 2) + lane % 4 / 2 * 4;
    float v[4][4];
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      exchange(v[e], reinterpret_cast<float(&)[TILE_M / 8][4]>(sum[e / 2]), e % 2 * 2, j);
      put(p1 + e / 2, q1 + e % 2, m, v[e]);
    }
    if (pool.y) pool.put(v, n, p1, q1, m, P, Q, M);
  }
}

// Grid and arguments: as those of conv3x3_mma.cu, whose kernels add up the shares, too. Dynamic
// shared memory: 16 (2 PATCH + FILTERS TILE_M ROW_PIECES) bytes.
extern "C" __global__ void __launch_bounds__(THREADS, 1) conv3x3_wgmma_forward(
    const real* __restrict__ x, const real* __restrict__ skip, const real* __restrict__ w,
    const float* __restrict__ b, real* __restrict__ y, real* __restrict__ pooled,
    unsigned char* __restrict__ winner, float* __restrict__ parts, int H, int W, int C, int K,
    int S, int Hs, int Ws, int relu, int pool) {
  const Pair<const real> from = {skip, x, S, Hs, Ws, H, W, C};
  const Pair<real> to = {nullptr, y, 0, 0, 0, H - 2, W - 2, K};
  correlate_wgmma<WIDE_M, false>(from, w, b, nullptr, to, parts, relu,
                                   {pool ? pooled : nullptr, winner});
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) conv3x3_wgmma_forward_narrow(
    const real* __restrict__ x, const real* __restrict__ skip, const real* __restrict__ w,
    const float* __restrict__ b, real* __restrict__ y, real* __restrict__ pooled,
    unsigned char* __restrict__ winner, float* __restrict__ parts, int H, int W, int C, int K,
    int S, int Hs, int Ws, int relu, int pool) {
  const Pair<const real> from = {skip, x, S, Hs, Ws, H, W, C};
  const Pair<real> to = {nullptr, y, 0, 0, 0, H - 2, W - 2, K};
  correlate_wgmma<NARROW_M, false>(from, w, b, nullptr, to, parts, relu,
                                   {pool ? pooled : nullptr, winner});
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) conv3x3_wgmma_backward_x(
    const real* __restrict__ dy, const real* __restrict__ x, const real* __restrict__ w,
    real* __restrict__ dx, real* __restrict__ dskip, float* __restrict__ parts, int H, int W,
    int C, int K, int S, int Hs, int Ws, int gated) {
  const Pair<const real> from = {nullptr, dy, 0, 0, 0, H - 2, W - 2, K};
  const Pair<real> to = {dskip, dx, S, Hs, Ws, H, W, C};
  correlate_wgmma<WIDE_M, true>(from, w, nullptr, gated ? x : nullptr, to, parts, 0);
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) conv3x3_wgmma_backward_x_narrow(
    const real* __restrict__ dy, const real* __restrict__ x, const real* __restrict__ w,
    real* __restrict__ dx, real* __restrict__ dskip, float* __restrict__ parts, int H, int W,
    int C, int K, int S, int Hs, int Ws, int gated) {
  const Pair<const real> from = {nullptr, dy, 0, 0, 0, H - 2, W - 2, K};
  const Pair<real> to = {dskip, dx, S, Hs, Ws, H, W, C};
  correlate_wgmma<NARROW_M, true>(from, w, nullptr, gated ? x : nullptr, to, parts, 0);
}
