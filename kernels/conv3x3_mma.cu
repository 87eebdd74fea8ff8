// conv3x3_mma.cu: the valid 3x3 convolution on tensor cores, forward and input gradient.
//
//   y[n,i,j,k]  = act( b[k] + sum_{r,s,c} x[n,i+r,j+s,c] w[r,s,c,k] )
//   dx[n,i,j,c] = sum_{r,s,k} dy[n,i-r,j-s,k] w[r,s,c,k]      gated: 0 where not x[n,i,j,c] > 0
//
// Both are one correlation, "pixels by 9D" times "9D by M": D channels in, M out. For dx, dy is
// padded by 2 and w turned by 180 degrees, in place. dy is what the ReLU behind let through
// already. gated: x was made by a ReLU, and what it stops is stopped here.
//
// Shapes   x, dx (N,H,W,C)   w (3,3,C,K)   b (K)   y, dy (N,H-2,W-2,K), last index fastest; sizes
//          are those of x, w and y. C and K are multiples of PIECE (8, or 4 floats).
//          parts (splits,N,P,Q,M): sums over a share of the channels each, if gridDim.z > 1.
// Formats: tf32 tf32x3 bf16 fp16
// Needs: sm_80
// Threads  a block owns TILE_H x 16 pixels x TILE_M channels of what is made, a warp 4 x 16 x 64:
//          4 x 8 tiles of mma, 128 sums a thread.
// Shared   64 bytes of each pixel of the tile with its border, loaded once for nine taps (a tile
//          per tap would be 7 times the traffic); a tap is another start address of ldmatrix. Two
//          such patches, and FILTERS taps of w, 64 TILE_M bytes each, filled by cp.async while the
//          ones before are used. Pieces of 16 bytes are placed so that the 8 that ldmatrix takes at
//          once lie in 8 different groups of banks.
// Cost     (bf16) wide: a tap moves 8 KB of w and 2.3 of x for 4.2 MFLOP: 410 FLOP for each byte
//          from L2. A warp's step is 4 + 4 ldmatrix for 32 mma: 32 FLOP for each byte of shared
//          memory, 80 of its 128 bytes a clock at the rate mma has on an H200. Compute-bound.
//
// Launched by unetcu/ops/conv3x3.py. Tested by tests/ops/test_conv3x3_mma.py.
#include "common.cuh"
#include "fours.cuh"
#include "mma.cuh"
#include "pair.cuh"
#include "pool.cuh"
#include "real.cuh"

constexpr int TILE_W = 16;
constexpr int WARP_H = 4;
constexpr int WARP_M = 64;
constexpr int WIDE_H = 16;
constexpr int WIDE_M = 128;
constexpr int NARROW_H = 16;
constexpr int NARROW_M = 64;
constexpr int FILTERS = 4;  // taps of w in shared memory
constexpr int PATCH_W = TILE_W + 2;
#ifdef FORMAT_TF32X3
constexpr int UNROLL = 1;  // taps, where filters are turned: sm_80 has no register to spare
#else
constexpr int UNROLL = 3;
#endif

// out (N,P,Q,M) of x (N,H,W,D). gated: by `gate`, which lies as out does.
template <int TILE_H, int TILE_M, bool TURNED>
__device__ __forceinline__ void correlate_mma(const Pair<const real>& x, const real* w,
                                              const float* b, const real* gate,
                                              const Pair<real>& out, float* parts, int relu,
                                              const Pool& pool = {}) {
  constexpr int WARPS_M = TILE_M / WARP_M, THREADS = TILE_H / WARP_H * WARPS_M * 32;
  constexpr int PAD = TURNED ? 2 : 0, PATCH_H = TILE_H + 2, PATCH = PATCH_H * PATCH_W * PITCH;
  constexpr int ROW = TURNED ? PITCH : TILE_M / PIECE + LONGER;  // of filters: in pieces
  constexpr int TAP = (TURNED ? TILE_M : DEPTH) * ROW;
  uint4* xs = dynamic_shared<uint4>();  // [2][pixel][piece]
  uint4* ws = xs + 2 * PATCH;           // [FILTERS][m][piece of d] if turned, else [d][piece of m]

  const int D = x.C, M = out.C, P = out.H, Q = out.W;
  const int across = ceil_div(Q, TILE_W), blocks_m = ceil_div(M, TILE_M);
  // Channels go fastest over blocks: those that run together read the same pixels, from L2.
  const int m0 = blockIdx.x % blocks_m * TILE_M, tile = blockIdx.x / blocks_m, n = blockIdx.y;
  const int p0 = tile / across * TILE_H, q0 = tile % across * TILE_W;
  const int t = threadIdx.x, lane = t % 32, warp = t / 32;
  const int top = warp / WARPS_M * WARP_H, m_warp = warp % WARPS_M * WARP_M;
  const int chunks = ceil_div(D, DEPTH);
  const int first = chunks * blockIdx.z / gridDim.z, last = chunks * (blockIdx.z + 1) / gridDim.z;

  // A patch: a thread copies one piece of one column, of every ROWS-th row; with the addresses only
  // stepped on, a copy is a handful of instructions.
  constexpr int ROWS = THREADS / (PATCH_W * PIECES), LOADS = PATCH_H / ROWS;
  constexpr int LOADS_A_TAP = ceil_div(LOADS, 10 - FILTERS);  // then FILTERS - 1 taps follow
  static_assert(PATCH_H % ROWS == 0, "a patch is loaded in whole rounds");
  const int row = t / (PATCH_W * PIECES), column = t / PIECES % PATCH_W, piece = t % PIECES;
  const int v = q0 - PAD + column;
  const bool loads = row < ROWS && v >= 0 && v < x.W;
  const real* pixels = x.x;
  long long pixels_on = 0;
  int h = 0, left = 0;
  uint4* pixels_to = xs;
  auto begin_pixels = [&](int chunk) {
    const int d = chunk * DEPTH + piece * PIECE;
    h = p0 - PAD + row;
    left = row < ROWS ? LOADS : 0;
    pixels_to = xs + chunk % 2 * PATCH + (row * PATCH_W + column) * PITCH + piece;
    pixels = loads && d < D ? x.at(n, h, v, d) : nullptr;
    pixels_on = ROWS * x.row(d);
  };
  auto load_pixels = [&]() {  // the next of LOADS
    if (left-- <= 0) return;
    const bool there = pixels && static_cast<unsigned>(h) < static_cast<unsigned>(x.H);
    cp_async<16>(pixels_to, there ? pixels : x.x, there ? 16 : 0);
    h += ROWS;
    pixels_to += ROWS * PATCH_W * PITCH;
    if (pixels) pixels += pixels_on;
  };

  // Filters, a tap at a time: a thread copies a piece of every f_rows-th row.
  constexpr int ACROSS = TURNED ? PIECES : TILE_M / PIECE, F_ROWS = THREADS / ACROSS;
  constexpr int F_LOADS = TILE_M * PIECES / THREADS;
  const int f_row = t / ACROSS, f_piece = t % ACROSS * PIECE;
  const long long a_tap = (long long)D * M, f_step = F_ROWS * static_cast<long long>(TURNED ? D : M);
  const real* filters = TURNED ? w + 8 * a_tap + (long long)(m0 + f_row) * D + f_piece + first * DEPTH
                               : w + (long long)(first * DEPTH + f_row) * M + m0 + f_piece;
  int f_tap = 0, f_chunk = first, f_stage = 0;
  auto load_filters = [&]() {  // the next tap
    uint4* to = ws + f_stage * TAP + f_row * ROW + t % ACROSS;
#pragma unroll
    for (int i = 0; i < F_LOADS; ++i) {
      const int d = f_chunk * DEPTH + (TURNED ? f_piece : f_row + i * F_ROWS);
      const int m = m0 + (TURNED ? f_row + i * F_ROWS : f_piece);
      const bool there = d < D && m < M;
      cp_async<16>(to + i * F_ROWS * ROW, there ? filters + i * f_step : w, there ? 16 : 0);
    }
    f_stage = f_stage + 1 < FILTERS ? f_stage + 1 : 0;
    filters += TURNED ? -a_tap : a_tap;
    if (++f_tap == 9) {
      f_tap = 0;
      ++f_chunk;
      filters += TURNED ? 9 * a_tap + DEPTH : (long long)DEPTH * M - 9 * a_tap;
    }
  };

  begin_pixels(first);
  for (int i = 0; i < LOADS; ++i) load_pixels();
#pragma unroll
  for (int i = 0; i < FILTERS - 1; ++i) {
    load_filters();
    cp_async_commit();
  }

  float sum[WARP_H][WARP_M / 8][4] = {};
  constexpr int TAPS = TURNED ? UNROLL : 3;
  int stage = 0;
  for (int chunk = first; chunk < last; ++chunk) {
    begin_pixels(chunk + 1);
    if (chunk + 1 == last) left = 0;
    const uint4* rows = xs + chunk % 2 * PATCH + (top * PATCH_W + lane % 16) * PITCH;
#pragma unroll 1
    for (int r = 0; r < 3; ++r, rows += PATCH_W * PITCH) {
#pragma unroll TAPS
      for (int s = 0; s < 3; ++s) {
        cp_async_wait<FILTERS - 2>();
        __syncthreads();  // this tap is there for all, and all are done with the one before
#pragma unroll
        for (int i = 0; i < LOADS_A_TAP; ++i) load_pixels();
        if (f_chunk < last) load_filters();
        cp_async_commit();
        const uint4* tap = ws + stage * TAP + (TURNED ? m_warp * PITCH : m_warp / PIECE);
        add_chunk<TURNED>(sum, rows + s * PITCH, PATCH_W * PITCH, tap, ROW);
        stage = stage + 1 < FILTERS ? stage + 1 : 0;
      }
    }
  }

  const long long count = (long long)gridDim.y * P * Q * M;
  auto put = [&](int i, int column, int k, float (&v)[4]) {
    const int p = p0 + top + i, q = q0 + column, m = m0 + m_warp + k;
    if (p >= P || q >= Q || m >= M) return;
    const long long at = (((long long)n * P + p) * Q + q) * M + m;
    if (gridDim.z > 1)
      store4(parts + blockIdx.z * count + at, v, 4, true);
    else
      finish(out.at(n, p, q, m), v, b ? b + m : nullptr, gate ? gate + at : nullptr, relu);
  };
  if (!pool.y) {
    each_four(sum, put);
    return;
  }
#pragma unroll
  for (int i = 0; i < WARP_H; i += 2)
#pragma unroll
    for (int right = 0; right < 4; right += 2)
#pragma unroll
      for (int j = 0; j < WARP_M / 8; j += 2) {
        const int column = lane / 4 + 4 * right, k = 8 * (j + lane % 2) + lane % 4 / 2 * 4;
        float above[4], below[4];
        exchange(above, sum[i], right, j);
        exchange(below, sum[i + 1], right, j);
        put(i, column, k, above);
        put(i + 1, column, k, below);
        pool.put_beside(above, below, n, p0 + top + i, q0 + column, m0 + m_warp + k, P, Q, M);
      }
}

// Skip maps lie first among the channels of x and dx: S of them, of Hs x Ws pixels, or none.
// pooled and winner are written if `pool`, in one launch with y; not if gridDim.z > 1.
//
// Grid: x tiles times blocks of channels, y images, z shares of the channels summed.
extern "C" __global__ void __launch_bounds__(WIDE_H * WIDE_M / 8, 1) conv3x3_mma_forward(
    const real* __restrict__ x, const real* __restrict__ skip, const real* __restrict__ w,
    const float* __restrict__ b, real* __restrict__ y, real* __restrict__ pooled,
    unsigned char* __restrict__ winner, float* __restrict__ parts, int H, int W, int C, int K,
    int S, int Hs, int Ws, int relu, int pool) {
  const Pair<const real> from = {skip, x, S, Hs, Ws, H, W, C};
  const Pair<real> to = {nullptr, y, 0, 0, 0, H - 2, W - 2, K};
  correlate_mma<WIDE_H, WIDE_M, false>(from, w, b, nullptr, to, parts, relu,
                                        {pool ? pooled : nullptr, winner});
}

extern "C" __global__ void __launch_bounds__(NARROW_H * NARROW_M / 8, 1) conv3x3_mma_forward_narrow(
    const real* __restrict__ x, const real* __restrict__ skip, const real* __restrict__ w,
    const float* __restrict__ b, real* __restrict__ y, real* __restrict__ pooled,
    unsigned char* __restrict__ winner, float* __restrict__ parts, int H, int W, int C, int K,
    int S, int Hs, int Ws, int relu, int pool) {
  const Pair<const real> from = {skip, x, S, Hs, Ws, H, W, C};
  const Pair<real> to = {nullptr, y, 0, 0, 0, H - 2, W - 2, K};
  correlate_mma<NARROW_H, NARROW_M, false>(from, w, b, nullptr, to, parts, relu,
                                        {pool ? pooled : nullptr, winner});
}

// gated: x was made by a ReLU, and there is no skip map.
extern "C" __global__ void __launch_bounds__(WIDE_H * WIDE_M / 8, 1) conv3x3_mma_backward_x(
    const real* __restrict__ dy, const real* __restrict__ x, const real* __restrict__ w,
    real* __restrict__ dx, real* __restrict__ dskip, float* __restrict__ parts, int H, int W,
    int C, int K, int S, int Hs, int Ws, int gated) {
  const Pair<const real> from = {nullptr, dy, 0, 0, 0, H - 2, W - 2, K};
  const Pair<real> to = {dskip, dx, S, Hs, Ws, H, W, C};
  correlate_mma<WIDE_H, WIDE_M, true>(from, w, nullptr, gated ? x : nullptr, to, parts, 0);
}

extern "C" __global__ void __launch_bounds__(NARROW_H * NARROW_M / 8, 1) conv3x3_mma_backward_x_narrow(
    const real* __restrict__ dy, const real* __restrict__ x, const real* __restrict__ w,
    real* __restrict__ dx, real* __restrict__ dskip, float* __restrict__ parts, int H, int W,
    int C, int K, int S, int Hs, int Ws, int gated) {
  const Pair<const real> from = {nullptr, dy, 0, 0, 0, H - 2, W - 2, K};
  const Pair<real> to = {dskip, dx, S, Hs, Ws, H, W, C};
  correlate_mma<NARROW_H, NARROW_M, true>(from, w, nullptr, gated ? x : nullptr, to, parts, 0);
}

// The shares of the channels, added in their order: four numbers a thread.
__device__ __forceinline__ void sum_parts(const float* parts, long long count, int shares,
                                          const float* b, const real* gate, const Pair<real>& out,
                                          int relu) {
  const long long i = 4 * thread_index();
  if (i >= count) return;
  float v[4] = {};
  for (int share = 0; share < shares; ++share) {
    const float4 part = load4(parts + share * count + i, 4, true);
    v[0] += part.x, v[1] += part.y, v[2] += part.z, v[3] += part.w;
  }
  const int m = i % out.C;
  const long long pixel = i / out.C, row = pixel / out.W;
  finish(out.at(row / out.H, row % out.H, pixel % out.W, m), v, b ? b + m : nullptr,
         gate ? gate + i : nullptr, relu);
}

extern "C" __global__ void conv3x3_mma_sum_forward(const float* __restrict__ parts,
                                                   const float* __restrict__ b,
                                                   real* __restrict__ y, long long count,
                                                   int shares, int P, int Q, int K, int relu) {
  sum_parts(parts, count, shares, b, nullptr, {nullptr, y, 0, 0, 0, P, Q, K}, relu);
}

extern "C" __global__ void conv3x3_mma_sum_backward_x(
    const float* __restrict__ parts, const real* __restrict__ x, real* __restrict__ dx,
    real* __restrict__ dskip, long long count, int shares, int H, int W, int C, int S, int Hs,
    int Ws, int gated) {
  const Pair<real> to = {dskip, dx, S, Hs, Ws, H, W, C};
  sum_parts(parts, count, shares, nullptr, gated ? x : nullptr, to, 0);
}
