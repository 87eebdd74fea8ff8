// conv1x1.cu: 1x1 convolution to a few classes (the network's head), forward and backward.
//
//   y[p,k] = b[k] + sum_c x[p,c] w[c,k]
//   dx[p,c] = sum_k dy[p,k] w[c,k]   dw[c,k] = sum_p x[p,c] dy[p,k]   db[k] = sum_p dy[p,k]
//
// Shapes   x, dx (P,C)   w, dw (C,K)   b, db (K)   y, dy (P,K), P = N H W pixels, the last index
//          fastest. part (slabs, C K + K): sums over SLAB pixels each, first for dw, then for db.
// Threads  forward: one a pixel and CLASSES classes; backward_x: one an element of dx, neighbours
//          write neighbours; backward_w: one an element of a slab's dw or db; a warp reads few
//          addresses at a time, all of them used again by the next warps from the cache.
// Shared   forward: CHANNELS channels of BLOCK pixels. A thread reads along its own row, of odd
//          length, so that 32 threads meet 32 banks; 17408 bytes, and 256 bytes of weights.
// Cost     2 C K FLOP a pixel for 4 (C + K) bytes: K / 2 FLOP a byte at most, memory-bound up to
//          dozens of classes. Beyond that it is right but slow: use matmul.
//
// Launched by unetcu/ops/conv1x1.py. Tested by tests/ops/test_conv1x1.py.
#include "common.cuh"
#include "real.cuh"

constexpr int BLOCK = 256;
constexpr int CHANNELS = 16;
constexpr int CLASSES = 4;
constexpr int SLAB = 256;

// Grid: x blocks of BLOCK pixels, y groups of CLASSES classes.
extern "C" __global__ void conv1x1_forward(const real* __restrict__ x, const real* __restrict__ w,
                                           const float* __restrict__ b, float* __restrict__ y,
                                           int P, int C, int K) {
  __shared__ float xs[BLOCK][CHANNELS + 1];
  __shared__ float ws[CHANNELS][CLASSES];
  const int p0 = blockIdx.x * BLOCK, k0 = blockIdx.y * CLASSES, t = threadIdx.x;
  float sum[CLASSES] = {};
  for (int c0 = 0; c0 < C; c0 += CHANNELS) {
    for (int i = t; i < BLOCK * CHANNELS; i += BLOCK) {
      const int p = i / CHANNELS, c = i % CHANNELS;  // a row of x, 64 bytes of it, by 16 threads
      const bool inside = p0 + p < P && c0 + c < C;
      xs[p][c] = inside ? float(x[static_cast<long long>(p0 + p) * C + c0 + c]) : 0.0f;
    }
    if (t < CHANNELS * CLASSES) {
      const int c = t / CLASSES, k = t % CLASSES;
      const bool inside = c0 + c < C && k0 + k < K;
      ws[c][k] = inside ? float(w[static_cast<long long>(c0 + c) * K + k0 + k]) : 0.0f;
    }
    __syncthreads();  // waits for the chunk: threads read what others have loaded
    for (int c = 0; c < CHANNELS; ++c)
      for (int k = 0; k < CLASSES; ++k) sum[k] += xs[t][c] * ws[c][k];
    __syncthreads();  // waits until all have used the chunk: the next one overwrites it
  }
  float* pixel = y + static_cast<long long>(p0 + t) * K;
  for (int k = 0; k < CLASSES; ++k)
    if (p0 + t < P && k0 + k < K) pixel[k0 + k] = sum[k] + b[k0 + k];
}

// One thread an element of dx.
extern "C" __global__ void conv1x1_backward_x(const float* __restrict__ dy,
                                              const real* __restrict__ w, real* __restrict__ dx,
                                              unsigned count, int C, int K) {
  const long long i = thread_index();
  if (i >= count) return;
  const unsigned p = static_cast<unsigned>(i) / C, c = static_cast<unsigned>(i) % C;
  const float* g = dy + static_cast<long long>(p) * K;
  const real* row = w + static_cast<long long>(c) * K;
  float sum = 0;
  for (int k = 0; k < K; ++k) sum += g[k] * float(row[k]);
  dx[i] = sum;
}

// Grid: x slabs, y blocks of the C K + K elements. Row C of dw is that of a channel of ones: db.
extern "C" __global__ void conv1x1_backward_w(const real* __restrict__ x,
                                              const float* __restrict__ dy,
                                              float* __restrict__ part, int P, int C, int K) {
  const int i = blockIdx.y * BLOCK + threadIdx.x, size = C * K + K;
  if (i >= size) return;
  const int c = i / K, k = i % K, from = blockIdx.x * SLAB, to = from + min(SLAB, P - from);
  float sum = 0;
  for (long long p = from; p < to; ++p) sum += (c < C ? float(x[p * C + c]) : 1.0f) * dy[p * K + k];
  part[blockIdx.x * static_cast<long long>(size) + i] = sum;
}

// One thread an element of dw and db, together size: the sum of its parts, slab after slab.
extern "C" __global__ void conv1x1_sum(const float* __restrict__ part, float* __restrict__ dw,
                                       float* __restrict__ db, long long count, int size, int K) {
  const long long i = thread_index();
  if (i >= size) return;
  const float sum = strided_sum(part, i, size, count);
  const long long weights = size - K;
  if (i < weights)
    dw[i] = sum;
  else
    db[i - weights] = sum;
}
