// elementwise.cu: a + b and a * b, element by element, with b repeated, and their gradients.
//
//   y[i] = a[i] + b[i % size]       or       y[i] = a[i] b[i % size]
//   db[j] = sum over i = j, j + size, j + 2 size, ... of dy[i]   or   dy[i] a[i]
//
// da is dy, or dy * b, which is the product kernel again.
//
// Shapes   a, y, dy (count)   b, db (size), count a multiple of size   part (lanes): see below.
// Threads  one an element of what is written: neighbours read and write neighbours.
// Cost     12 bytes an element: memory-bound. A whole b, as at a fan-out, costs no division.
// db is summed in two rounds of about sqrt(repeats) terms each: in the first, thread t of lanes (a
// multiple of size) takes t, t + lanes, ...; in the second, elementwise_sum adds what the threads
// of one j have found. The order depends on the shapes alone.
//
// Launched by unetcu/ops/elementwise.py and, to add gradients, by the device.
// Tested by tests/ops/test_elementwise.py.
#include "common.cuh"
#include "real.cuh"

extern "C" __global__ void elementwise_add(const real* __restrict__ a, const real* __restrict__ b,
                                           real* __restrict__ y, long long count, long long size) {
  const long long i = thread_index();
  if (i < count) y[i] = a[i] + b[i < size ? i : i % size];
}

extern "C" __global__ void elementwise_multiply(const float* __restrict__ a,
                                                const float* __restrict__ b, float* __restrict__ y,
                                                long long count, long long size) {
  const long long i = thread_index();
  if (i < count) y[i] = a[i] * b[i < size ? i : i % size];
}

extern "C" __global__ void elementwise_sum(const float* __restrict__ x, float* __restrict__ part,
                                           long long count, long long lanes) {
  const long long t = thread_index();
  if (t < lanes) part[t] = strided_sum(x, t, lanes, count);
}

extern "C" __global__ void elementwise_sum_products(const float* __restrict__ a,
                                                    const float* __restrict__ b,
                                                    float* __restrict__ part, long long count,
                                                    long long lanes) {
  const long long t = thread_index();
  if (t >= lanes) return;
  float sum = 0;
  for (long long i = t; i < count; i += lanes) sum += a[i] * b[i];
  part[t] = sum;
}
