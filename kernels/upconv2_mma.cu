// upconv2_mma.cu: the 2x2 up-convolution on tensor cores.
//
//   y[p,q]  = b[k] + sum_c x[p,c] w[c,q]        p = (n,i,j), q = (a,e,k), y[p,q] = y[n,2i+a,2j+e,k]
//   dx[p,c] = sum_q dy[p,q] w[c,q]              gated: 0 where not x[p,c] > 0
//   dw[c,q] = sum_p x[p,c] dy[p,q]              db[k] = the sum over p, a, e of dy[p,q]
//
// Shapes   x, dx (P,C)   w, dw (2,2,C,K)   b, db (K)   y, dy (N,2H,2W,K) with P = N H W, the last
//          index fastest. C and K are multiples of PIECE (8, or 4 floats), so that a piece of q lies
//          in one place of the patch. parts (slabs,2,2,C,K), parts_b (slabs,4K): sums over SLAB
//          pixels each, added in order by upconv2_sum: no atomics.
// Formats: tf32 tf32x3 bf16 fp16
// Needs: sm_80
// Threads  128, a warp 64 x 64 of a block's 128 x 128: 4 x 8 tiles of mma.
// Shared   DEPTH numbers of 128 rows and of 128 columns, STAGES times: while one is used the others
//          are under way. For dw SLAB_STEP pixels of 128 channels and of 128 q. Rows are longer by a
//          piece: see mma.cuh. Nothing is rearranged in memory: loads and stores deal the patches out.
// Cost     8 P C K FLOP a product; 64 FLOP for each byte from L2 (bf16), 32 for each byte of shared
//          memory. y is written once, 4 K numbers a pixel: at the top of the network memory-bound.
//
// Launched by unetcu/ops/upconv2.py. Tested by tests/ops/test_upconv2_mma.py.
#include "common.cuh"
#include "mma.cuh"
#include "real.cuh"

constexpr int BLOCK = 128;  // threads
constexpr int TILE = 128;   // rows and columns of the result
constexpr int WARP = 64;
constexpr int STAGES = 4;
constexpr int W_TILE = 64;  // channels of dw

// Where the patch of pixel p begins in y: with p = row W + j, row counted through all images, at
// pixel (2 row) 2W + 2 j = 4 p - 2 j. Where q = (a,e,k) lies from there.
__device__ __forceinline__ long long patch(int p, int W, int K) {
  return (4LL * p - 2 * (p % W)) * K;
}
__device__ __forceinline__ long long in_patch(int q, int W, int K) {
  const int place = q / K;  // 2 a + e
  return (place / 2 * 2LL * W + place % 2) * K + q % K;
}

// Where w[c,q] lies from w[c,0]: q = (a,e,k), and c stands between e and k.
__device__ __forceinline__ long long in_weights(int q, int C, int K) {
  return static_cast<long long>(q / K) * C * K + q % K;
}

// use(m, n, v): v[0..3] = sum_d a[m,d] b[n,d] for rows m < M and columns n, n+1, n+2, n+3 < N.
// a[m,d] lies at a_row(m) + a_on(d), b[n,d] at b_row(n) + b_on(d); a thread asks for the rows once.
// TURNED: d is fastest in b, too; else n is.
template <bool TURNED, class ARow, class AOn, class BRow, class BOn, class Use>
__device__ __forceinline__ void tile_product_mma(int m0, int M, int n0, int N, int D, ARow a_row,
                                                 AOn a_on, BRow b_row, BOn b_on, Use use) {
  constexpr int ROW = TURNED ? PITCH : TILE / PIECE + LONGER;
  constexpr int B_SIZE = (TURNED ? TILE : DEPTH) * ROW, STAGE = TILE * PITCH + B_SIZE;
  constexpr int LOADS = TILE * PIECES / BLOCK, A_ROWS = BLOCK / PIECES;
  constexpr int ACROSS = TURNED ? PIECES : TILE / PIECE, B_ROWS = BLOCK / ACROSS;
  uint4* shared = dynamic_shared<uint4>();
  const int t = threadIdx.x, lane = t % 32, warp = t / 32;
  const int m_warp = warp / 2 * WARP, n_warp = warp % 2 * WARP, steps = ceil_div(D, DEPTH);

  const int a_first = t / PIECES, a_piece = t % PIECES * PIECE;
  const int b_first = t / ACROSS, b_piece = t % ACROSS * PIECE;
  const real *a[LOADS], *b[LOADS];  // null: there is none
#pragma unroll
  for (int i = 0; i < LOADS; ++i) {
    const int m = m0 + a_first + i * A_ROWS, n = n0 + (TURNED ? b_first + i * B_ROWS : b_piece);
    a[i] = m < M ? a_row(m) : nullptr;
    b[i] = n < N ? b_row(n) : nullptr;
  }
  auto load = [&](int step) {
    uint4* to = shared + step % STAGES * STAGE;
    const int a_d = step * DEPTH + a_piece, b_d = step * DEPTH + (TURNED ? b_piece : b_first);
    const long long on = a_on(a_d), b_next = b_on(b_d);
#pragma unroll
    for (int i = 0; i < LOADS; ++i) {
      const bool there = a[i] && a_d < D;
      cp_async<16>(to + (a_first + i * A_ROWS) * PITCH + t % PIECES, there ? a[i] + on : a_row(0),
                   there ? 16 : 0);
    }
#pragma unroll
    for (int i = 0; i < LOADS; ++i) {
      const int further = TURNED ? 0 : i * B_ROWS;
      const bool there = b[i] && b_d + further < D;
      const real* from = TURNED ? b[i] + b_next : b[i] + b_on(b_d + further);
      cp_async<16>(to + TILE * PITCH + (b_first + i * B_ROWS) * ROW + t % ACROSS,
                   there ? from : b_row(0), there ? 16 : 0);
    }
  };
#pragma unroll
  for (int i = 0; i < STAGES - 1; ++i) {
    if (i < steps) load(i);
    cp_async_commit();
  }
  float sum[WARP / 16][WARP / 8][4] = {};
  for (int step = 0; step < steps; ++step) {
    cp_async_wait<STAGES - 2>();
    __syncthreads();  // this step's numbers are there for all, and all are done with the last one's
    if (step + STAGES - 1 < steps) load(step + STAGES - 1);
    cp_async_commit();
    const uint4* rows = shared + step % STAGES * STAGE;
    const uint4* columns = rows + TILE * PITCH + (TURNED ? n_warp * PITCH : n_warp / PIECE);
    add_chunk<TURNED>(sum, rows + (m_warp + lane % 16) * PITCH, 16 * PITCH, columns, ROW);
  }
  each_four(sum, [&](int i, int row, int column, float (&v)[4]) {
    const int m = m0 + m_warp + 16 * i + row, n = n0 + n_warp + column;
    if (m < M && n < N) use(m, n, v);
  });
}

// Grid: x tiles of 4K, y tiles of P: blocks that run together share pixels.
extern "C" __global__ void __launch_bounds__(BLOCK, 2) upconv2_mma_forward(
    const real* __restrict__ x, const real* __restrict__ w, const float* __restrict__ b,
    real* __restrict__ y, int P, int W, int C, int K) {
  tile_product_mma<false>(
      blockIdx.y * TILE, P, blockIdx.x * TILE, 4 * K, C,
      [=](int p) { return x + static_cast<long long>(p) * C; }, [=](int c) { return c; },
      [=](int q) { return w + in_weights(q, C, K); },
      [=](int c) { return static_cast<long long>(c) * K; },
      [=](int p, int q, float (&v)[4]) {
        finish(y + patch(p, W, K) + in_patch(q, W, K), v, b + q % K, nullptr, 0);
      });
}

// Grid: x tiles of C, y tiles of P.
extern "C" __global__ void __launch_bounds__(BLOCK, 2) upconv2_mma_backward_x(
    const real* __restrict__ dy, const real* __restrict__ x, const real* __restrict__ w,
    real* __restrict__ dx, int P, int W, int C, int K, int gated) {
  tile_product_mma<true>(
      blockIdx.y * TILE, P, blockIdx.x * TILE, C, 4 * K,
      [=](int p) { return dy + patch(p, W, K); }, [=](int q) { return in_patch(q, W, K); },
      [=](int c) { return w + static_cast<long long>(c) * K; },
      [=](int q) { return in_weights(q, C, K); },
      [=](int p, int c, float (&v)[4]) {
        const long long at = static_cast<long long>(p) * C + c;
        finish(dx + at, v, nullptr, gated ? x + at : nullptr, 0);
      });
}

// A slab is `share` pixels, a multiple of DEPTH. Grid: x slabs, y blocks of W_TILE channels, z tiles
// of 4K.
extern "C" __global__ void __launch_bounds__(BLOCK, 2) upconv2_mma_backward_w(
    const real* __restrict__ x, const real* __restrict__ dy, float* __restrict__ parts,
    float* __restrict__ parts_b, int P, int W, int C, int K, int share) {
  constexpr int X_ROW = W_TILE / PIECE + LONGER, ROW = TILE / PIECE + LONGER;
  constexpr int STAGE = DEPTH * (X_ROW + ROW);
  uint4* shared = dynamic_shared<uint4>();  // [STAGES]: x [pixel][piece], dy [pixel][piece]
  const int t = threadIdx.x, lane = t % 32, warp = t / 32;
  const int c0 = blockIdx.y * W_TILE, q0 = blockIdx.z * TILE, c_warp = warp / 2 * (W_TILE / 2);
  const int q_warp = warp % 2 * WARP, from = blockIdx.x * share, to = min(P, from + share);
  const int steps = ceil_div(to - from, DEPTH);

  constexpr int X_ACROSS = W_TILE / PIECE, X_ROWS = BLOCK / X_ACROSS;
  constexpr int ACROSS = TILE / PIECE, ROWS = BLOCK / ACROSS, LOADS = DEPTH / ROWS;
  const int x_row = t / X_ACROSS, c = c0 + t % X_ACROSS * PIECE;
  const int row = t / ACROSS, q = q0 + t % ACROSS * PIECE;
  const real* x_from = x + static_cast<long long>(from + x_row) * C + c;
  const real* dy_from = dy + (q < 4 * K ? in_patch(q, W, K) : 0);
  int columns[LOADS];  // of the pixels to be loaded next, in x: kept, because dividing takes long
#pragma unroll
  for (int i = 0; i < LOADS; ++i) columns[i] = (from + row + i * ROWS) % W;
  auto load = [&](int step) {  // in order
    uint4* xs = shared + step % STAGES * STAGE;
#pragma unroll
    for (int i = 0; i < DEPTH / X_ROWS; ++i) {
      const int ahead = step * DEPTH + i * X_ROWS;
      const bool there = from + x_row + ahead < to && c < C;
      cp_async<16>(xs + (x_row + i * X_ROWS) * X_ROW + t % X_ACROSS,
                   there ? x_from + static_cast<long long>(ahead) * C : x, there ? 16 : 0);
    }
#pragma unroll
    for (int i = 0; i < LOADS; ++i) {
      const int p = from + step * DEPTH + row + i * ROWS;
      const bool there = p < to && q < 4 * K;
      cp_async<16>(xs + DEPTH * X_ROW + (row + i * ROWS) * ROW + t % ACROSS,
                   there ? dy_from + (4LL * p - 2 * columns[i]) * K : dy, there ? 16 : 0);
      columns[i] += DEPTH;
      if (columns[i] >= W) columns[i] %= W;
    }
  };
#pragma unroll
  for (int i = 0; i < STAGES - 1; ++i) {
    if (i < steps) load(i);
    cp_async_commit();
  }
  const Factor<4> ones = {{ONES, ONES, ONES, ONES}};
  float sum[W_TILE / 32][WARP / 8][4] = {}, bias[WARP / 16][4] = {};
  for (int step = 0; step < steps; ++step) {
    cp_async_wait<STAGES - 2>();
    __syncthreads();  // this step's numbers are there for all, and all are done with the last one's
    if (step + STAGES - 1 < steps) load(step + STAGES - 1);
    cp_async_commit();
    const uint4* xs = shared + step % STAGES * STAGE + c_warp / PIECE;
    const uint4* slopes = shared + step % STAGES * STAGE + DEPTH * X_ROW + q_warp / PIECE;
#pragma unroll
    for (int half = 0; half < 2; ++half, xs += 2 * PIECE * X_ROW, slopes += 2 * PIECE * ROW) {
      Factor<2> g[WARP / 8];
      take_columns<false>(g, slopes, ROW);
#pragma unroll
      for (int i = 0; i < W_TILE / 32; ++i) {
        Factor<4> a;
        take_rows_turned(a, xs + 16 * i / PIECE, X_ROW);
#pragma unroll
        for (int j = 0; j < WARP / 8; ++j) add_product(sum[i][j], a, g[j]);
      }
      if (c0 == 0)  // the two warps of a column share its tiles of 8
#pragma unroll
        for (int j = 0; j < WARP / 16; ++j) {
          Factor<2> own;
          take_column(own, slopes + (16 * j + warp / 2 * 8) / PIECE, ROW);
          add_product(bias[j], ones, own);
        }
    }
  }
  float* slab = parts + blockIdx.x * (4LL * C * K);
  each_four(sum, [&](int i, int row, int column, float (&v)[4]) {
    const int c = c0 + c_warp + 16 * i + row, q = q0 + q_warp + column;
    if (c < C && q < 4 * K)
      store4(slab + static_cast<long long>(c) * K + in_weights(q, C, K), v, 4, true);
  });
  if (c0 == 0 && lane < 4)
#pragma unroll
    for (int j = 0; j < WARP / 16; ++j)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int q = q0 + q_warp + 16 * j + warp / 2 * 8 + 2 * lane + e;
        if (q < 4 * K) parts_b[blockIdx.x * (4LL * K) + q] = bias[j][e];
      }
}
