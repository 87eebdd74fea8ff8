// relu.cu: y = max(x, 0); dx = dy where y > 0, else 0.
//
// Shapes   x, y, dy, dx: the same, any.
// Threads  one an element: neighbours read and write neighbours.
// Cost     8 bytes an element forward, 12 backward: memory-bound. (Convolutions can do it, too.)
//
// Launched by unetcu/ops/relu.py. Tested by tests/ops/test_relu.py.
#include "common.cuh"
#include "real.cuh"

extern "C" __global__ void relu_forward(const real* __restrict__ x, real* __restrict__ y,
                                        long long count) {
  const long long i = thread_index();
  if (i >= count) return;
  const float v = x[i];
  y[i] = v <= 0 ? 0.0f : v;  // not fmaxf: it would swallow a NaN
}

extern "C" __global__ void relu_backward(const real* __restrict__ dy, const real* __restrict__ y,
                                         real* __restrict__ dx, long long count) {
  const long long i = thread_index();
  if (i >= count) return;
  const float v = y[i], g = dy[i];
  dx[i] = v > 0 ? g : 0.0f;
}
