// fill.cu: x[i] = value, for each type of array that is filled. No gradient.
//
// Shapes   x (count).
// Threads  one an element: neighbours write neighbours.
// Cost     one write an element: memory-bound.
//
// Launched by the device (full, zeros). Tested by tests/test_fill.py.
#include "common.cuh"

template <class T>
__device__ inline void fill(T* x, T value, long long count) {
  const long long i = thread_index();
  if (i < count) x[i] = value;
}

extern "C" __global__ void fill_float32(float* __restrict__ x, float value, long long count) {
  fill(x, value, count);
}

extern "C" __global__ void fill_float64(double* __restrict__ x, double value, long long count) {
  fill(x, value, count);
}

extern "C" __global__ void fill_int32(int* __restrict__ x, int value, long long count) {
  fill(x, value, count);
}

extern "C" __global__ void fill_uint32(unsigned* __restrict__ x, unsigned value, long long count) {
  fill(x, value, count);
}

extern "C" __global__ void fill_uint8(unsigned char* __restrict__ x, unsigned char value,
                                      long long count) {
  fill(x, value, count);
}
