// conv3x3_mma_w.cu: the weight and bias gradients of the valid 3x3 convolution on tensor cores.
//
//   dw[r,s,c,k] = sum_{n,i,j} x[n,i+r,j+s,c] dy[n,i,j,k]        db[k] = sum_{n,i,j} dy[n,i,j,k]
//
// "9C by pixels" times "pixels by K"; dy is what the ReLU behind let through already. db is the
// product of a row of ones with dy.
//
// Shapes   x (N,H,W,C)   dy (N,H-2,W-2,K)   parts_w (slabs,3,3,C,K)   parts_b (slabs,K), last index
//          fastest. C and K are multiples of PIECE (8, or 4 floats).
// Formats: tf32 tf32x3 bf16 fp16
// Needs: sm_80
// Threads  12 warps own BLOCK channels x BLOCK filters x 9 taps; a warp a row of taps, 16 channels
//          and WARP_K filters: 96 sums a thread (24 of floats), for the whole of its slab.
// Shared   TILE_H x 16 pixels of dy and what they see of x, 128 bytes of each pixel: 16 + 22.5 KiB,
//          twice: the next tile is under way while one is used. Both lie with channels fastest, as
//          in memory; ldmatrix turns them. Pieces of 16 bytes are placed so that those of 8
//          pixels lie in 8 groups of banks, and single floats of 4 pixels x 8 channels in 32 banks.
// Cost     (bf16) a row of 16 pixels is 3 + 4 ldmatrix for 24 mma: 28 FLOP for each byte of shared
//          memory, 92 of its 128 bytes a clock at the rate mma has on an H200. A tile is 9.4 MFLOP
//          for 39 KB: 240 FLOP for each byte from L2. Compute-bound.
// Slabs    Tiles are dealt out in slabs, whose number depends on the shape only; their sums are
//          added in order by conv3x3_sum_slabs: no atomics, the same bits every time.
// NaN      Beyond the right and the lower edge dy is 0 and x is what is there: a NaN of x at those
//          edges reaches all taps, not just those that see it.
//
// Launched by unetcu/ops/conv3x3.py. Tested by tests/ops/test_conv3x3_mma.py.
#include "common.cuh"
#include "mma.cuh"
#include "pair.cuh"
#include "real.cuh"

constexpr int W_TILE_H = 8;
constexpr int W_TILE_W = 16;
constexpr int W_PIECES = 8;  // of a pixel: 128 bytes
// A pixel's room in shared memory: the pieces of 8 pixels that ldmatrix takes at once lie in all 32
// banks, and so do single floats of 4 pixels by 8 channels.
constexpr int W_PITCH = W_PIECES + LONGER;
constexpr int W_THREADS = 384;
constexpr int W_PIXELS = W_TILE_H * W_TILE_W;
constexpr int W_PATCH_W = W_TILE_W + 2;
constexpr int W_PATCH = (W_TILE_H + 2) * W_PATCH_W;
constexpr int BLOCK = W_PIECES * PIECE;
constexpr int WARPS_C = BLOCK / 16;
constexpr int WARPS_K = W_THREADS / 96 / WARPS_C;
constexpr int WARP_K = BLOCK / WARPS_K;

// Grid: x slabs, y blocks of channels, z blocks of filters. Dynamic shared memory: 2 (W_PIXELS +
// W_PATCH) 128 bytes.
extern "C" __global__ void __launch_bounds__(W_THREADS, 1) conv3x3_mma_w_backward(
    const real* __restrict__ x, const real* __restrict__ skip, const real* __restrict__ dy,
    float* __restrict__ parts_w, float* __restrict__ parts_b, int N, int H, int W, int C, int K,
    int S, int Hs, int Ws) {
  const Pair<const real> image = {skip, x, S, Hs, Ws, H, W, C};
  uint4* gs = dynamic_shared<uint4>();  // [2][pixel][piece] of dy
  uint4* xs = gs + 2 * W_PIXELS * W_PITCH;
  const int P = H - 2, Q = W - 2, across = ceil_div(Q, W_TILE_W), down = ceil_div(P, W_TILE_H);
  const int tiles = N * down * across, share = ceil_div(tiles, gridDim.x), slab = blockIdx.x;
  const int c0 = blockIdx.y * BLOCK, k0 = blockIdx.z * BLOCK;
  const int t = threadIdx.x, lane = t % 32, warp = t / 32, owner = warp / WARPS_K;
  const int r = owner / WARPS_C, c_warp = owner % WARPS_C * 16, k_warp = warp % WARPS_K * WARP_K;

  // A thread copies one piece of one column of every X_ROWS-th (or G_ROWS-th) row: the addresses are
  // only stepped on.
  constexpr int X_ROWS = W_THREADS / (W_PATCH_W * W_PIECES), G_ROWS = W_THREADS / (W_TILE_W * W_PIECES);
  const int piece = t % W_PIECES, c = c0 + piece * PIECE, k = k0 + piece * PIECE;
  const int x_row = t / (W_PATCH_W * W_PIECES), x_column = t / W_PIECES % W_PATCH_W;
  const int g_row = t / (W_TILE_W * W_PIECES), g_column = t / W_PIECES % W_TILE_W;
  auto load = [&](int tile) {
    const int n = tile / (down * across), p0 = tile / across % down * W_TILE_H;
    const int q0 = tile % across * W_TILE_W;
    const bool x_there = x_row < X_ROWS && q0 + x_column < W && c < C;
    const real* x_from = x_there ? image.at(n, p0 + x_row, q0 + x_column, c) : nullptr;
    const long long x_on = X_ROWS * image.row(c);
    uint4* x_to = xs + (tile % 2 * W_PATCH + x_row * W_PATCH_W + x_column) * W_PITCH + piece;
#pragma unroll
    for (int i = 0; i < ceil_div(W_TILE_H + 2, X_ROWS); ++i) {
      const bool there = x_from && p0 + x_row + i * X_ROWS < H;
      if (x_row < X_ROWS && x_row + i * X_ROWS < W_TILE_H + 2)
        cp_async<16>(x_to + i * X_ROWS * W_PATCH_W * W_PITCH, there ? x_from + i * x_on : x,
                     there ? 16 : 0);
    }
    const bool g_there = q0 + g_column < Q && k < K;
    const real* g_from = dy + (((long long)n * P + p0 + g_row) * Q + q0 + g_column) * K + k;
    const long long g_on = (long long)G_ROWS * Q * K;
    uint4* g_to = gs + (tile % 2 * W_PIXELS + g_row * W_TILE_W + g_column) * W_PITCH + piece;
#pragma unroll
    for (int i = 0; i < ceil_div(W_TILE_H, G_ROWS); ++i) {
      const bool there = g_there && p0 + g_row + i * G_ROWS < P;
      if (g_row + i * G_ROWS < W_TILE_H)
        cp_async<16>(g_to + i * G_ROWS * W_TILE_W * W_PITCH, there ? g_from + i * g_on : dy,
                     there ? 16 : 0);
    }
    cp_async_commit();
  };

  const Factor<4> ones = {{ONES, ONES, ONES, ONES}};
  const bool sums_bias = c0 == 0 && owner < WARP_K / 8;  // of 8 filters, each warp of others
  float sum[3][WARP_K / 8][4] = {}, bias[4] = {};
  const int last = min(tiles, (slab + 1) * share);
  if (slab * share < last) load(slab * share);
  for (int tile = slab * share; tile < last; ++tile) {
    cp_async_wait<0>();
    __syncthreads();  // this tile is there for all, and all are done with the one before
    if (tile + 1 < last) load(tile + 1);
    const uint4* slopes = gs + tile % 2 * W_PIXELS * W_PITCH;
    const uint4* pixels = xs + (tile % 2 * W_PATCH + r * W_PATCH_W) * W_PITCH + c_warp / PIECE;
    const int rows = min(P - tile / across % down * W_TILE_H, W_TILE_H);
#pragma unroll 1
    for (int i = 0; i < rows; ++i) {
#pragma unroll
      for (int j0 = 0; j0 < W_TILE_W; j0 += 2 * PIECE) {
        Factor<2> g[WARP_K / 8], own;
        take_columns<false>(g, slopes + j0 * W_PITCH + k_warp / PIECE, W_PITCH);
#pragma unroll
        for (int s = 0; s < 3; ++s) {
          Factor<4> a;
          take_rows_turned(a, pixels + (s + j0) * W_PITCH, W_PITCH);
#pragma unroll
          for (int j = 0; j < WARP_K / 8; ++j) add_product(sum[s][j], a, g[j]);
        }
        if (sums_bias) {
          take_column(own, slopes + j0 * W_PITCH + (k_warp + 8 * owner) / PIECE, W_PITCH);
          add_product(bias, ones, own);
        }
      }
      slopes += W_TILE_W * W_PITCH;
      pixels += W_PATCH_W * W_PITCH;
    }
  }

  // A lane holds filters 8 j + 2 (lane % 4) and the next, of the channels lane / 4 and 8 further on.
#pragma unroll
  for (int s = 0; s < 3; ++s)
#pragma unroll
    for (int j = 0; j < WARP_K / 8; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int c = c0 + c_warp + lane / 4 + e / 2 * 8;
        const int k = k0 + k_warp + 8 * j + lane % 4 * 2 + e % 2;
        if (c < C && k < K)
          parts_w[((((long long)slab * 3 + r) * 3 + s) * C + c) * K + k] = sum[s][j][e];
      }
  if (sums_bias && lane < 4)
    for (int e = 0; e < 2; ++e) {
      const int k = k0 + k_warp + 8 * owner + 2 * lane + e;
      if (k < K) parts_b[(long long)slab * K + k] = bias[e];
    }
}
