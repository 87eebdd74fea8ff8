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
// Threads  256, two warpgroups, own 16 x 16 pixels x TILE_M channels of what is made; each four
//          rows of 8 x 8 pixels: 2 products of 64 x TILE_M, TILE_M sums a thread.
// Shared   rows of 128 bytes, 64 numbers, swizzled. x: strips of 18 x 16 pixels, one for each column
//          of taps; a tap is another row to start at. Three strips, and FILTERS taps of w, 128 TILE_M
//          bytes each: while one of each is used the others are filled by cp.async. The strips of a
//          tile are 2.7 times its pixels; one patch for all taps would be 1.3 times, but then factors
//          begin at rows that are no multiple of eight, of which NVIDIA's documents say nothing.
// Cost     (wide) a tap is 4.2 MFLOP for 16 KB of w and 12 of x: 150 FLOP for each byte from L2, of
//          which an H200 gives a multiprocessor about 40 a clock, where its tensor cores want 27. A
//          product of 64 x 128 x 16 reads 6 KB of shared memory in the 64 clocks it takes: 96 of 128
//          bytes a clock. Compute-bound, if copies stay ahead. (No time was measured yet.)
//
// Launched by unetcu/ops/conv3x3.py. Tested by tests/ops/test_conv3x3_mma.py.
#include "common.cuh"
#include "fours.cuh"
#include "mma.cuh"
#include "pair.cuh"
#include "pool.cuh"
#include "real.cuh"

constexpr int THREADS = 256;
constexpr int TILE = 16;  // pixels, high and wide
constexpr int WIDE_M = 128;
constexpr int NARROW_M = 64;
constexpr int STRIPS = 3;
constexpr int FILTERS = 4;
constexpr int ROW_PIECES = 8;  // of 16 bytes, in a row
constexpr int CHUNK = 64;      // numbers in a row
constexpr int STRIP = (TILE + 2) * TILE * ROW_PIECES;

#ifdef FORMAT_BF16
#define MULTIPLY wgmma_bf16
#else
#define MULTIPLY wgmma_f16
#endif

// Where piece j of a row lies: swizzled as wgmma wants it.
__device__ __forceinline__ int in_rows(int row, int j) { return row * ROW_PIECES + (j ^ row % 8); }

// out (N,P,Q,M) of x (N,H,W,D). gated: by `gate`, which lies as out does.
template <int TILE_M, bool TURNED>
__device__ __forceinline__ void correlate_wgmma(const Pair<const real>& x, const real* w,
                                                const float* b, const real* gate,
                                                const Pair<real>& out, float* parts, int relu,
                                                const Pool& pool = {}) {
  constexpr int PAD = TURNED ? 2 : 0, TAP = TILE_M * ROW_PIECES;
  uint4* xs = dynamic_shared<uint4>();  // [STRIPS][row][column][piece]
  uint4* ws = xs + STRIPS * STRIP;      // [FILTERS][m][piece of d] if turned, else [64 m][d][piece]
  const int D = x.C, M = out.C, P = out.H, Q = out.W;
  const int across = ceil_div(Q, TILE), blocks_m = ceil_div(M, TILE_M);
  const int m0 = blockIdx.x % blocks_m * TILE_M, tile = blockIdx.x / blocks_m, n = blockIdx.y;
  const int p0 = tile / across * TILE, q0 = tile % across * TILE;
  const int t = threadIdx.x, lane = t % 32, group = t / 128;
  const int chunks = ceil_div(D, CHUNK);
  const int first = chunks * blockIdx.z / gridDim.z, last = chunks * (blockIdx.z + 1) / gridDim.z;

  // A strip: a thread copies one piece of one column, of every second row.
  const int column = t / ROW_PIECES % TILE, x_row = t / (ROW_PIECES * TILE), piece = t % ROW_PIECES;
  int x_chunk = first, x_s = 0, x_stage = 0;  // of the next strip
  auto load_strip = [&]() {
    const int d = x_chunk * CHUNK + piece * PIECE, v = q0 - PAD + column + x_s;
    const bool there = v >= 0 && v < x.W && d < D;
    const real* from = there ? x.at(n, p0 - PAD + x_row, v, d) : nullptr;
    const long long on = 2 * x.row(d);
    uint4* to = xs + x_stage * STRIP;
#pragma unroll
    for (int i = 0; i < (TILE + 2) / 2; ++i) {
      const int h = p0 - PAD + x_row + 2 * i;
      const bool here = from && h >= 0 && h < x.H;
      cp_async<16>(to + in_rows((x_row + 2 * i) * TILE + column, piece), here ? from + i * on : x.x,
                   here ? 16 : 0);
    }
    x_stage = x_stage + 1 < STRIPS ? x_stage + 1 : 0;
    if (++x_s == 3) {
      x_s = 0;
      ++x_chunk;
    }
  };
  // A tap of w; taps go down the columns, as strips do.
  int f_chunk = first, f_r = 0, f_s = 0, f_stage = 0;
  auto load_filters = [&]() {
    uint4* to = ws + f_stage * TAP;
    const int tap = 3 * f_r + f_s;
#pragma unroll
    for (int i = 0; i < TAP / THREADS; ++i) {
      const int e = i * THREADS + t, j = e % ROW_PIECES;
      // Turned, rows are channels m of 64 d; else channels d of 64 m, and TILE_M / 64 such blocks.
      const int row = TURNED ? e / ROW_PIECES : e / ROW_PIECES % CHUNK;
      const int m = m0 + (TURNED ? row : e / (ROW_PIECES * CHUNK) * 64 + j * PIECE);
      const int d = f_chunk * CHUNK + (TURNED ? j * PIECE : row);
      const bool there = m < M && d < D;
      const long long at =
          TURNED ? ((8LL - tap) * M + m) * D + d : ((long long)tap * D + d) * M + m;
      cp_async<16>(to + in_rows(e / ROW_PIECES, j), there ? w + at : w, there ? 16 : 0);
    }
    f_stage = f_stage + 1 < FILTERS ? f_stage + 1 : 0;
    if (++f_r == 3) {
      f_r = 0;
      if (++f_s == 3) {
        f_s = 0;
        ++f_chunk;
      }
    }
  };

  // Copies run two taps ahead of what is multiplied, and products one behind: what a copy overwrites
  // was last read two products ago.
  load_strip();
  load_filters();
  cp_async_commit();
  load_filters();
  cp_async_commit();
  float sum[2][TILE_M / 2] = {};
  int stage = 0, strip = 0;
  for (int chunk = first; chunk < last; ++chunk) {
#pragma unroll 1
    for (int s = 0; s < 3; ++s) {
#pragma unroll 1
      for (int r = 0; r < 3; ++r) {
        cp_async_wait<1>();
        show_to_wgmma();
        wgmma_wait<1>();
        __syncthreads();  // this tap is there for all, and no product but the last is under way
        wgmma_begin();
        const uint4* rows = xs + strip * STRIP + ((group * 8 + r) * TILE) * ROW_PIECES;
        const uint4* tap = ws + stage * TAP;
#pragma unroll
        for (int k = 0; k < CHUNK / 16; ++k)
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            const auto a = wgmma_factor(rows + 8 * i * ROW_PIECES + 2 * k, 0, TILE * 128);
            const auto f = TURNED ? wgmma_factor(tap + 2 * k, 0, 1024)
                                  : wgmma_factor(tap + 16 * k * ROW_PIECES, CHUNK * 128, 1024);
            MULTIPLY<false, !TURNED>(sum[i], a, f);
          }
        wgmma_commit();
        if (r == 0 && x_chunk < last) load_strip();
        if (f_chunk < last) load_filters();
        cp_async_commit();
        stage = stage + 1 < FILTERS ? stage + 1 : 0;
      }
      strip = strip + 1 < STRIPS ? strip + 1 : 0;
    }
  }
  wgmma_wait<0>();

  const long long count = (long long)gridDim.y * P * Q * M;
  const int warp = t / 32 % 4;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    auto& rows = reinterpret_cast<float(&)[1][TILE_M / 8][4]>(sum[i]);
    const int p1 = p0 + 8 * group + 2 * warp, q = q0 + 8 * i + lane / 4;
    auto put = [&](int below, int m, float (&v)[4]) {
      const int p = p1 + below;
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
      float above[4], below[4];
      exchange(above, rows[0], 0, j);
      exchange(below, rows[0], 2, j);
      put(0, m, above);
      put(1, m, below);
      if (pool.y) pool.put(above, below, n, p1, q, m, P, Q, M);
    }
  }
}

// Grid and arguments: as those of conv3x3_mma.cu, whose kernels add up the shares, too. Dynamic
// shared memory: 16 (STRIPS STRIP + FILTERS TILE_M ROW_PIECES) bytes.
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
