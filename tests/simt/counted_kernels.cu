// counted_kernels.cu: kernels whose cost can be counted by hand, for tests/test_profiler.py, which
// finds each line by the comment at its end.
#include "common.cuh"
#include "ptx.cuh"

// The sum of 32 loads a warp, `stride` floats apart, and one store of neighbours.
extern "C" __global__ void strided(const float* x, float* y, int stride) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  const float v = x[i * stride];  // load
  y[i] = v;                       // store
}

extern "C" __global__ void broadcast(const float* x, float* y, int n) {
  const float v = x[n];   // load
  y[threadIdx.x] = v;     // store
}

extern "C" __global__ void two_arrays(const float* x, const float* w, float* y, int n) {
  const int i = threadIdx.x;
  float sum = 0;
  for (int k = 0; k < n; ++k) sum += x[i + k] * w[k];  // both
  y[i] = sum;
}

extern "C" __global__ void fours(const float* x, float* y, int n) {
  const int i = threadIdx.x;
  float4 v = *reinterpret_cast<const float4*>(x + 4 * i);  // load
  v.x += 1;                                                // add
  *reinterpret_cast<float4*>(y + 4 * i) = v;               // store
}

extern "C" __global__ void half_of_a_warp(const float* x, float* y, int n) {
  const int i = threadIdx.x;
  if (i < n) y[i] = x[i] + 1;  // all
}

extern "C" __global__ void bytes(const unsigned char* x, unsigned char* y, int n) {
  y[threadIdx.x] = x[threadIdx.x];  // copy
}

// ---------------------------------------------------------------- shared memory
extern "C" __global__ void shared_stride(const float* x, float* y, int stride) {
  __shared__ float tile[32 * 33];
  const int t = threadIdx.x;
  tile[t * stride] = x[t];       // store
  __syncthreads();
  y[t] = tile[t * stride];       // load
}

extern "C" __global__ void shared_column(const float* x, float* y, int n) {
  __shared__ float square[32][32];
  __shared__ float padded[32][33];
  const int t = threadIdx.x;
  square[t][0] = x[t];           // square
  padded[t][0] = x[t];           // padded
  __syncthreads();
  y[t] = square[t][0] + padded[t][0];
}

extern "C" __global__ void shared_same_word(const float* x, float* y, int n) {
  __shared__ float word[1];
  if (threadIdx.x == 0) word[0] = x[0];
  __syncthreads();
  y[threadIdx.x] = word[0];      // load
}

extern "C" __global__ void shared_fours(const float* x, float* y, int stride) {
  float4* tile = dynamic_shared<float4>();
  const int t = threadIdx.x;
  tile[t * stride] = make_float4(x[t], 0, 0, 0);  // store
  __syncwarp();
  y[t] = tile[t * stride].x;                      // load
}

extern "C" __global__ void shared_twos(const float* x, float* y, int stride) {
  __shared__ __align__(16) float2 pairs[32 * 32];
  const int t = threadIdx.x;
  pairs[t * stride] = make_float2(x[t], x[t]);    // store
  __syncwarp();
  y[t] = pairs[t * stride].y;
}

extern "C" __global__ void shared_bytes(const float* x, float* y, int n) {
  __shared__ unsigned char mask[32];
  const int t = threadIdx.x;
  mask[t] = x[t] > 0;            // store
  __syncwarp();
  y[t] = mask[31 - t];
}

// ---------------------------------------------------------------- arithmetic
extern "C" __global__ void operations(const float* x, float* y, int n) {
  const int t = threadIdx.x;
  const float a = x[t], b = x[t + 1];
  float sum = 0;
  for (int k = 0; k < n; ++k) sum += a * b;  // loop
  const float fused = fmaf(a, b, sum);       // fused
  const float root = sqrtf(fused);           // root
  const float larger = fmaxf(root, -a);      // none
  const float picked = larger > 0 ? larger : 0.0f;
  const double wide = picked;
  const double square = wide * wide;         // double
  y[t] = static_cast<float>(square) / 2;     // half
}

extern "C" __global__ void some_lanes(const float* x, float* y, int n) {
  const int t = threadIdx.x;
  float sum = 0;
  for (int k = 0; k <= t % n; ++k) sum += x[k];  // loop
  __syncthreads();
  y[t] = sum;
}

__device__ __forceinline__ float twice(const float* p) {
  return *p * 2;  // inner
}

extern "C" __global__ void in_a_helper(const float* x, float* y, int n) {
  y[threadIdx.x] = twice(x + threadIdx.x);  // outer
}

// ---------------------------------------------------------------- asynchronous copies
extern "C" __global__ void copied(const float* x, float* y, int n) {
  __shared__ __align__(16) float tile[128];
  const int t = threadIdx.x;
  cp_async<16>(tile + 4 * t, x + 4 * t);  // copy
  cp_async_commit();
  cp_async_wait<0>();
  __syncwarp();
  y[t] = tile[t];                         // load
}

extern "C" __global__ void chosen(const float* x, float* y, int n) {
  const int t = threadIdx.x;
  y[t] = x[t] > n ? x[t] : 0.0f;  // choice
}

// Lanes go step by step, each waiting for the other.
extern "C" __global__ void in_step(const float* x, float* y, int n) {
  const int t = threadIdx.x;
  float sum = 0;
  for (int k = 0; k < n; ++k)
    sum += __shfl_xor_sync(0xffffffffu, x[32 * k + t], 1);  // step
  y[t] = sum;
}
