// reduce.cu: all elements to one number, and its gradient back to all of them.
//
//   y = sum_i x[i] / divisor       dx[i] = dy / divisor          divisor 1: sum, count: mean
//
// Shapes   x, dx (count)   part (blocks of the first launch), double   y, dy ()
// Threads  reduce_partial: thread t of the grid takes t, t + all, ..., so that a warp reads
//          neighbours; a block adds its threads' sums. reduce_total: one block adds the parts.
// Shared   2048 bytes: a double a thread.
// Cost     4 bytes an element, memory-bound. Sums are doubles, one rounding at the end: n floats
//          added one by one would lose up to log2(n) bits.
//
// Launched by unetcu/ops/reduce.py. Tested by tests/ops/test_reduce.py.
#include "common.cuh"

constexpr int BLOCK = 256;
constexpr int PARTS = 256;  // blocks, at most: fixed, whatever the GPU, so that bits do not vary
static_assert(PARTS <= BLOCK, "reduce_total adds the parts up, one a thread");

// Grid: min(PARTS, blocks of count).
extern "C" __global__ void reduce_partial(const float* __restrict__ x, double* __restrict__ part,
                                          long long count) {
  double sum = 0;
  const long long all = gridDim.x * static_cast<long long>(BLOCK);
  for (long long i = thread_index(); i < count; i += all) sum += x[i];
  sum = block_sum<BLOCK>(sum);
  if (threadIdx.x == 0) part[blockIdx.x] = sum;
}

// One block.
extern "C" __global__ void reduce_total(const double* __restrict__ part, float* __restrict__ y,
                                        int parts, double divisor) {
  const int t = threadIdx.x;
  const double sum = block_sum<BLOCK>(t < parts ? part[t] : 0);
  if (t == 0) y[0] = static_cast<float>(sum / divisor);
}

extern "C" __global__ void reduce_backward(const float* __restrict__ dy, float* __restrict__ dx,
                                           long long count, double divisor) {
  const long long i = thread_index();
  if (i < count) dx[i] = static_cast<float>(dy[0] / divisor);
}
