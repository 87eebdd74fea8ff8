// cast.cu: floats rounded to 16 bits, and back.
//
//   y[i] = x[i], rounded to the nearest; dx[i] = dy[i]
//
// Shapes   x, dx floats, y, dy reals, of any shape.
// Formats: bf16 fp16
// Needs: sm_80
// Threads  one an element: neighbours read and write neighbours.
// Cost     6 bytes an element: memory-bound.
//
// Launched by unetcu/ops/cast.py and unetcu/parameters.py. Tested by tests/ops/test_cast.py.
#include "common.cuh"
#include "real.cuh"

extern "C" __global__ void cast_forward(const float* __restrict__ x, real* __restrict__ y,
                                        long long count) {
  const long long i = thread_index();
  if (i < count) y[i] = x[i];
}

extern "C" __global__ void cast_backward(const real* __restrict__ dy, float* __restrict__ dx,
                                         long long count) {
  const long long i = thread_index();
  if (i < count) dx[i] = dy[i];
}
