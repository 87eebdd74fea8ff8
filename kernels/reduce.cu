// reduce.cu: all elements to one number, and its gradient back to all of them.
//
//   y = sum_i x[i] / divisor       dx[i] = dy / divisor          divisor 1: sum, count: mean
//
// Shapes   x, dx (count)   part (slabs), double   y, dy ()
// Threads  reduce_partial: a block takes a slab of SLAB elements, a thread every BLOCK-th of it, so
//          that a warp reads neighbours. reduce_total: one block adds the parts. The order of the
//          sum depends on count alone.
// Shared   2048 bytes: a double a thread.
// Cost     4 bytes an element, memory-bound. Sums are doubles, one rounding at the end: n floats
//          added one by one would lose up to log2(n) bits.
//
// Launched by unetcu/ops/reduce.py. Tested by tests/ops/test_reduce.py.
#include "common.cuh"

constexpr int BLOCK = 256;
constexpr int SLAB = 1024;

// Grid: slabs.
extern "C" __global__ void reduce_partial(const float* __restrict__ x, double* __restrict__ part,
                                          long long count) {
  const long long from = blockIdx.x * static_cast<long long>(SLAB), to = min(from + SLAB, count);
  double sum = 0;
  for (long long i = from + threadIdx.x; i < to; i += BLOCK) sum += x[i];
  sum = block_sum<BLOCK>(sum);
  if (threadIdx.x == 0) part[blockIdx.x] = sum;
}

// One block.
extern "C" __global__ void reduce_total(const double* __restrict__ part, float* __restrict__ y,
                                        int slabs, double divisor) {
  double sum = 0;
  for (int i = threadIdx.x; i < slabs; i += BLOCK) sum += part[i];
  sum = block_sum<BLOCK>(sum);
  if (threadIdx.x == 0) y[0] = static_cast<float>(sum / divisor);
}

extern "C" __global__ void reduce_backward(const float* __restrict__ dy, float* __restrict__ dx,
                                           long long count, double divisor) {
  const long long i = thread_index();
  if (i < count) dx[i] = static_cast<float>(dy[0] / divisor);
}
