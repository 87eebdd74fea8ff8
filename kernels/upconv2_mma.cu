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

// Where element q of pixel p's patch lies in y. With p = row W + j, row counted through all images,
// the patch begins at pixel (2 row) 2W + 2 j = 4 p - 2 j of y.
__device__ __forceinline__ long long in_patch(int p, int q, int W, int K) {
  const int place = q / K;  // 2 a + e
  const long long pixel = 4LL * p - 2 * (p % W) + place / 2 * 2LL * W + place % 2;
  return pixel * K + q % K;
}

// Where w[c,q] lies: q = (a,e,k), and c stands between e and k.
__device__ __forceinline__ long long in_weights(int c, int q, int C, int K) {
  return (static_cast<long long>(q / K) * C + c) * K + q % K;
}

// use(m, n, v): v[0..3] = sum_d a(m,d) b(n,d) for rows m < M and columns n, n+1, n+2, n+3 < N.
// a and b give the address of a piece that begins there. TURNED: d is fastest in b, too; else n is.
template <bool TURNED, class A, class B, class Use>
__device__ __forceinline__ void tile_product_mma(int m0, int M, int n0, int N, int D, A a, B b,
                                                 Use use) {
  constexpr int ROW = TURNED ? PITCH : TILE / PIECE + LONGER;
  constexpr int B_SIZE = (TURNED ? TILE : DEPTH) * ROW, STAGE = TILE * PITCH + B_SIZE;
  uint4* shared = dynamic_shared<uint4>();
  const int t = threadIdx.x, lane = t % 32, warp = t / 32;
  const int m_warp = warp / 2 * WARP, n_warp = warp % 2 * WARP, steps = ceil_div(D, DEPTH);
  auto load = [&](int step) {
    uint4* to = shared + step % STAGES * STAGE;
#pragma unroll
    for (int e = t; e < TILE * PIECES; e += BLOCK) {
      const int m = m0 + e / PIECES, d = step * DEPTH + e % PIECES * PIECE;
      const bool there = m < M && d < D;
      cp_async<16>(to + e / PIECES * PITCH + e % PIECES, a(there ? m : 0, there ? d : 0),
                   there ? 16 : 0);
    }
#pragma unroll
    for (int e = t; e < TILE * PIECES; e += BLOCK) {
      const int across = TURNED ? PIECES : TILE / PIECE, row = e / across, piece = e % across;
      const int d = step * DEPTH + (TURNED ? piece * PIECE : row);
      const int n = n0 + (TURNED ? row : piece * PIECE);
      const bool there = n < N && d < D;
      cp_async<16>(to + TILE * PITCH + row * ROW + piece, b(there ? n : 0, there ? d : 0),
                   there ? 16 : 0);
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
      [=](int p, int c) { return x + static_cast<long long>(p) * C + c; },
      [=](int q, int c) { return w + in_weights(c, q, C, K); },
      [=](int p, int q, float (&v)[4]) {
        finish(y + in_patch(p, q, W, K), v, b + q % K, nullptr, 0);
      });
}

// Grid: x tiles of C, y tiles of P.
extern "C" __global__ void __launch_bounds__(BLOCK, 2) upconv2_mma_backward_x(
    const real* __restrict__ dy, const real* __restrict__ x, const real* __restrict__ w,
    real* __restrict__ dx, int P, int W, int C, int K, int gated) {
  tile_product_mma<true>(
      blockIdx.y * TILE, P, blockIdx.x * TILE, C, 4 * K,
      [=](int p, int q) { return dy + in_patch(p, q, W, K); },
      [=](int c, int q) { return w + in_weights(c, q, C, K); },
      [=](int p, int c, float (&v)[4]) {
        const long long at = static_cast<long long>(p) * C + c;
        finish(dx + at, v, nullptr, gated ? x + at : nullptr, 0);
      });
}

// A slab is `share` pixels, a multiple of DEPTH. Grid: x slabs, y tiles of C, z tiles of 4K.
extern "C" __global__ void __launch_bounds__(BLOCK, 2) upconv2_mma_backward_w(
    const real* __restrict__ x, const real* __restrict__ dy, float* __restrict__ parts,
    float* __restrict__ parts_b, int P, int W, int C, int K, int share) {
  constexpr int ROW = TILE / PIECE + LONGER, STAGE = 2 * DEPTH * ROW;
  uint4* shared = dynamic_shared<uint4>();  // [STAGES][x or dy][pixel][piece]
  const int t = threadIdx.x, lane = t % 32, warp = t / 32;
  const int c0 = blockIdx.y * TILE, q0 = blockIdx.z * TILE, c_warp = warp / 2 * WARP;
  const int q_warp = warp % 2 * WARP, from = blockIdx.x * share, to = min(P, from + share);
  const int steps = ceil_div(to - from, DEPTH);
  auto load = [&](int step) {
    uint4* xs = shared + step % STAGES * STAGE;
#pragma unroll
    for (int e = t; e < DEPTH * (TILE / PIECE); e += BLOCK) {
      const int row = e / (TILE / PIECE), piece = e % (TILE / PIECE), p = from + step * DEPTH + row;
      const int c = c0 + piece * PIECE, q = q0 + piece * PIECE;
      const bool x_there = p < to && c < C, dy_there = p < to && q < 4 * K;
      cp_async<16>(xs + row * ROW + piece, x_there ? x + static_cast<long long>(p) * C + c : x,
                   x_there ? 16 : 0);
      cp_async<16>(xs + (DEPTH + row) * ROW + piece, dy_there ? dy + in_patch(p, q, W, K) : dy,
                   dy_there ? 16 : 0);
    }
  };
#pragma unroll
  for (int i = 0; i < STAGES - 1; ++i) {
    if (i < steps) load(i);
    cp_async_commit();
  }
  const Factor<4> ones = {{ONES, ONES, ONES, ONES}};
  float sum[WARP / 16][WARP / 8][4] = {}, bias[WARP / 16][4] = {};
  for (int step = 0; step < steps; ++step) {
    cp_async_wait<STAGES - 2>();
    __syncthreads();  // this step's numbers are there for all, and all are done with the last one's
    if (step + STAGES - 1 < steps) load(step + STAGES - 1);
    cp_async_commit();
    const uint4* xs = shared + step % STAGES * STAGE + c_warp / PIECE;
    const uint4* gs = shared + step % STAGES * STAGE + DEPTH * ROW + q_warp / PIECE;
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int first = 0; first < WARP / 8; first += AT_ONCE) {
        Factor<2> g[AT_ONCE];
        take_columns<false>(g, gs + 2 * half * PIECE * ROW + 8 * first / PIECE, ROW);
#pragma unroll
        for (int i = 0; i < WARP / 16; ++i) {
          Factor<4> a;
          take_rows_turned(a, xs + 2 * half * PIECE * ROW + 16 * i / PIECE, ROW);
#pragma unroll
          for (int j = 0; j < AT_ONCE; ++j) add_product(sum[i][first + j], a, g[j]);
        }
        if (c0 == 0)  // the two warps of a column share its tiles of 8
#pragma unroll
          for (int j = 0; j < AT_ONCE; ++j)
            if (j % 2 == warp / 2) add_product(bias[(first + j) / 2], ones, g[j]);
      }
  }
  float* slab = parts + blockIdx.x * (4LL * C * K);
  each_four(sum, [&](int i, int row, int column, float (&v)[4]) {
    const int c = c0 + c_warp + 16 * i + row, q = q0 + q_warp + column;
    if (c < C && q < 4 * K) store4(slab + in_weights(c, q, C, K), v, 4, true);
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
