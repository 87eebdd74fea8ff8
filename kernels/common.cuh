// common.cuh: the few words that kernel files share. Nothing here is an algorithm of a network.
#pragma once

// How many pieces of b cover a things.
__host__ __device__ constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }

// This thread's number in a one-dimensional launch. 64 bits: an arena may hold more than 2^31.
__device__ inline long long thread_index() {
  return blockIdx.x * static_cast<long long>(blockDim.x) + threadIdx.x;
}

// x[first] + x[first + stride] + ... as long as the index is below count, added in this order.
template <class T>
__device__ inline float strided_sum(const T* x, long long first, long long stride,
                                    long long count) {
  float sum = 0;
  for (long long i = first; i < count; i += stride) sum += x[i];
  return sum;
}

// The sum of what each of the BLOCK threads brings, BLOCK a power of two; for thread 0 alone, and
// once a kernel. Halves are added pairwise, an order that depends on nothing.
template <int BLOCK>
__device__ double block_sum(double mine) {
  __shared__ double part[BLOCK];
  part[threadIdx.x] = mine;
  for (int half = BLOCK / 2; half > 0; half /= 2) {
    __syncthreads();  // waits for the round before: a thread reads below what another has added
    if (threadIdx.x < half) part[threadIdx.x] += part[threadIdx.x + half];
  }
  return part[threadIdx.x];
}
