// matmul.cu: the product of two matrices and its two gradients.
//
//   y[i,k] = sum_c a[i,c] b[c,k]
//   da[i,c] = sum_k dy[i,k] b[c,k]      db[c,k] = sum_i a[i,c] dy[i,k]
//
// Shapes   a, da (I,C)   b, db (C,K)   y, dy (I,K), the last index fastest; any sizes.
//          part (slabs,C,K): sums over SLAB values of i each, whose sum over the slabs is db.
// Threads  256 a block, a block a TILE x TILE tile of the result: see product.cuh. Factors are read
//          along their fastest index, 16 or 64 neighbours at a time, and turned in shared memory.
// Shared   8704 bytes: see product.cuh.
// Cost     2 I C K FLOP; every element of a factor is read once for each TILE columns (rows) of the
//          result: TILE / 4 = 16 FLOP a byte, bound by the FFMA rate from there.
// db sums over all rows, of which there may be many with little else to split: the slabs make more
// blocks, and matmul_sum adds them in their order, so that no atomics are needed.
//
// Launched by unetcu/ops/matmul.py. Tested by tests/ops/test_matmul.py.
#include "common.cuh"
#include "product.cuh"

constexpr int BLOCK = 256;
constexpr int TILE = 64;
constexpr int SLAB = 1024;
static_assert(BLOCK == SIDE * SIDE, "the square of threads of product.cuh");

// Grid: x tiles of I, y tiles of K.
extern "C" __global__ void __launch_bounds__(BLOCK)
matmul_forward(const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ y,
               int I, int C, int K) {
  tile_product<TILE, R_NEAREST, ROW_NEAREST>(
      blockIdx.x * TILE, I, blockIdx.y * TILE, K, 0, C,
      [=](int i, int c) { return a[static_cast<long long>(i) * C + c]; },
      [=](int c, int k) { return b[static_cast<long long>(c) * K + k]; },
      [=](int i, int k, float sum) { y[static_cast<long long>(i) * K + k] = sum; });
}

// Grid: x tiles of I, y tiles of C.
extern "C" __global__ void __launch_bounds__(BLOCK)
matmul_backward_a(const float* __restrict__ dy, const float* __restrict__ b,
                  float* __restrict__ da, int I, int C, int K) {
  tile_product<TILE, R_NEAREST, R_NEAREST>(
      blockIdx.x * TILE, I, blockIdx.y * TILE, C, 0, K,
      [=](int i, int k) { return dy[static_cast<long long>(i) * K + k]; },
      [=](int k, int c) { return b[static_cast<long long>(c) * K + k]; },
      [=](int i, int c, float sum) { da[static_cast<long long>(i) * C + c] = sum; });
}

// Grid: x slabs, y tiles of C, z tiles of K.
extern "C" __global__ void __launch_bounds__(BLOCK)
matmul_backward_b(const float* __restrict__ a, const float* __restrict__ dy,
                  float* __restrict__ part, int I, int C, int K) {
  const long long slab = blockIdx.x;
  const int from = blockIdx.x * SLAB, to = from + min(SLAB, I - from);
  tile_product<TILE, ROW_NEAREST, ROW_NEAREST>(
      blockIdx.y * TILE, C, blockIdx.z * TILE, K, from, to,
      [=](int c, int i) { return a[static_cast<long long>(i) * C + c]; },
      [=](int i, int k) { return dy[static_cast<long long>(i) * K + k]; },
      [=](int c, int k, float sum) { part[(slab * C + c) * K + k] = sum; });
}

// One thread an element of db, of size elements: the sum of its parts, slab after slab.
extern "C" __global__ void matmul_sum(const float* __restrict__ part, float* __restrict__ db,
                                      long long count, long long size) {
  const long long i = thread_index();
  if (i < size) db[i] = strided_sum(part, i, size, count);
}
