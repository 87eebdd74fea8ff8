// upconv2.cu: 2x2 up-convolution with stride 2, forward and backward.
//
//   y[n, 2i+a, 2j+e, k] = b[k] + sum_c x[n,i,j,c] w[a,e,c,k]        a, e in {0,1}
//
// With p = (n,i,j), q = (a,e,k) and g[p,q] = dy[n, 2i+a, 2j+e, k], three matrix products:
//
//   y[p,q] = b[k] + sum_c x[p,c] w[c,q]
//   dx[p,c] = sum_q g[p,q] w[c,q]      dw[c,q] = sum_p x[p,c] g[p,q]      db[k] = sum of dy[...,k]
//
// Shapes   x, dx (P,C)   w, dw (2,2,C,K)   b, db (K)   y, dy (N,2H,2W,K) with P = N H W, the last
//          index fastest.   part (slabs,2,2,C,K): sums over SLAB pixels each, whose sum is dw.
// Threads  256 a block, a block a TILE x TILE tile of the product: see product.cuh. Nothing is
//          rearranged in memory: the loads and the store deal the patches out ("pixel shuffle").
// Shared   8704 bytes: see product.cuh.
// Cost     8 P C K FLOP a product; TILE / 4 = 16 FLOP a byte read, bound by the FFMA rate.
//          db reads dy once more: memory-bound, 1 / (2 C) of the FLOPs.
//
// Launched by unetcu/ops/upconv2.py. Tested by tests/ops/test_upconv2.py.
#include "common.cuh"
#include "product.cuh"
#include "real.cuh"

constexpr int BLOCK = 256;
constexpr int TILE = 64;
constexpr int SLAB = 1024;
static_assert(BLOCK == SIDE * SIDE, "the square of threads of product.cuh");

// Where element q of pixel p's patch lies in y. With p = row W + j, row counted through all images,
// the patch begins at pixel (2 row) 2W + 2 j = 4 p - 2 j of y.
__device__ inline long long in_patch(int p, int q, int W, int K) {
  const int place = q / K;  // 2 a + e
  const long long pixel = 4LL * p - 2 * (p % W) + place / 2 * 2LL * W + place % 2;
  return pixel * K + q % K;
}

// Where w[c,q] lies: q = (a,e,k), and c stands between e and k.
__device__ inline long long in_weights(int c, int q, int C, int K) {
  return (static_cast<long long>(q / K) * C + c) * K + q % K;
}

// Grid: x tiles of P, y tiles of 4K.
extern "C" __global__ void __launch_bounds__(BLOCK)
upconv2_forward(const real* __restrict__ x, const real* __restrict__ w,
                const float* __restrict__ b, real* __restrict__ y, int P, int W, int C, int K) {
  tile_product<TILE, R_NEAREST, ROW_NEAREST>(
      blockIdx.x * TILE, P, blockIdx.y * TILE, 4 * K, 0, C,
      [=](int p, int c) { return x[static_cast<long long>(p) * C + c]; },
      [=](int c, int q) { return w[in_weights(c, q, C, K)]; },
      [=](int p, int q, float sum) { y[in_patch(p, q, W, K)] = sum + b[q % K]; });
}

// Grid: x tiles of P, y tiles of C.
extern "C" __global__ void __launch_bounds__(BLOCK)
upconv2_backward_x(const real* __restrict__ dy, const real* __restrict__ w,
                   real* __restrict__ dx, int P, int W, int C, int K) {
  tile_product<TILE, R_NEAREST, R_NEAREST>(
      blockIdx.x * TILE, P, blockIdx.y * TILE, C, 0, 4 * K,
      [=](int p, int q) { return dy[in_patch(p, q, W, K)]; },
      [=](int q, int c) { return w[in_weights(c, q, C, K)]; },
      [=](int p, int c, float sum) { dx[static_cast<long long>(p) * C + c] = sum; });
}

// Grid: x slabs, y tiles of C, z tiles of 4K.
extern "C" __global__ void __launch_bounds__(BLOCK)
upconv2_backward_w(const real* __restrict__ x, const real* __restrict__ dy,
                   float* __restrict__ part, int P, int W, int C, int K) {
  const int from = blockIdx.x * SLAB, to = from + min(SLAB, P - from);
  float* slab = part + blockIdx.x * (4LL * C * K);
  tile_product<TILE, ROW_NEAREST, ROW_NEAREST>(
      blockIdx.y * TILE, C, blockIdx.z * TILE, 4 * K, from, to,
      [=](int c, int p) { return x[static_cast<long long>(p) * C + c]; },
      [=](int p, int q) { return dy[in_patch(p, q, W, K)]; },
      [=](int c, int q, float sum) { slab[in_weights(c, q, C, K)] = sum; });
}

// out[i] = in[i] + in[i + size] + ... below count, one thread for each i < size: adds up the slabs
// of dw and, in two rounds so that enough threads have work, the pixels of dy for db.
extern "C" __global__ void upconv2_sum(const float* __restrict__ in, float* __restrict__ out,
                                       long long count, long long size) {
  const long long i = thread_index();
  if (i < size) out[i] = strided_sum(in, i, size, count);
}
extern "C" __global__ void upconv2_sum_dy(const real* __restrict__ in, float* __restrict__ out,
                                          long long count, long long size) {
  const long long i = thread_index();
  if (i < size) out[i] = strided_sum(in, i, size, count);
}
