// planted_races.cu: kernels with one mistake each, in how threads wait for each other,
// for tests/test_checker.py. See planted_bugs.cu.
#include "common.cuh"
#include "ptx.cuh"

// ---------------------------------------------------------------- barriers that are not there
extern "C" __global__ void no_barrier_after_fill(const float* x, float* y, int n) {
  __shared__ float tile[64];
  const int t = threadIdx.x;
  tile[t] = x[t];  // here
  y[t] = tile[63 - t];  // here
}

extern "C" __global__ void no_barrier_before_refill(const float* x, float* y, int n) {
  __shared__ float tile[64];
  const int t = threadIdx.x;
  float sum = 0;
  for (int i = 0; i < n; i += 64) {
    tile[t] = x[i + t];  // here
    __syncthreads();
    sum += tile[63 - t];  // here
  }
  y[t] = sum;
}

extern "C" __global__ void no_barrier_between_rounds(const float* x, float* y, int n) {
  __shared__ float part[128];
  const int t = threadIdx.x;
  part[t] = x[t];
  __syncthreads();
  for (int half = 64; half > 0; half /= 2) {
    if (t < half) part[t] += part[t + half];  // here
  }
  __syncthreads();
  y[t] = part[0];
}

extern "C" __global__ void no_barrier_before_result(const float* x, float* y, int n) {
  __shared__ float part[64];
  const int t = threadIdx.x;
  part[t] = x[t];
  for (int half = 32; half > 0; half /= 2) {
    __syncthreads();
    if (t < half) part[t] += part[t + half];  // here
  }
  y[t] = part[0];  // here
}

extern "C" __global__ void no_barrier_before_reuse(const float* x, float* y, int n) {
  __shared__ float part[64];
  const int t = threadIdx.x;
  part[t] = x[t];
  __syncthreads();
  y[t] = part[(t + 40) % 64];  // here
  part[t] = y[t] + 1;  // here
  __syncthreads();
  y[t] += part[63 - t];
}

extern "C" __global__ void no_syncwarp(const float* x, float* y, int n) {
  __shared__ float part[32];
  const int t = threadIdx.x;
  part[t] = x[t];  // here
  y[t] = part[t ^ 1];  // here
}

extern "C" __global__ void no_syncwarp_before_rewrite(const float* x, float* y, int n) {
  __shared__ float part[32];
  const int t = threadIdx.x;
  part[t] = x[t];
  __syncwarp();
  const float other = part[t ^ 1];  // here
  part[t] = other + 1;  // here
  __syncwarp();
  y[t] = part[t ^ 2];
}

extern "C" __global__ void syncwarp_of_each_half(const float* x, float* y, int n) {
  __shared__ float part[32];
  const int t = threadIdx.x;
  part[t] = x[t];  // here
  __syncwarp(t < 16 ? 0x0000ffffu : 0xffff0000u);
  y[t] = part[t ^ 16];  // here
}

extern "C" __global__ void syncwarps_of_both_halves(const float* x, float* y, int n) {
  __shared__ float part[32];
  const int t = threadIdx.x;
  part[t] = 0;
  __syncwarp();
  part[t] = x[t];  // here
  __syncwarp(t < 16 ? 0x0000ffffu : 0xffff0000u);
  if (t < 16) y[t] = part[t ^ 16];  // here
}

extern "C" __global__ void one_warp_writes_what_two_have_read(const float* x, float* y, int n) {
  __shared__ float word;
  const int t = threadIdx.x;
  if (t == 0) word = x[0];
  __syncthreads();
  y[t] = word;  // here
  __syncwarp();
  if (t == 32) word = 1;  // here
}

extern "C" __global__ void shuffle_is_no_barrier(const float* x, float* y, int n) {
  __shared__ float part[32];
  const int t = threadIdx.x;
  part[t] = x[t];  // here
  const float v = __shfl_xor_sync(0xffffffffu, x[t], 1);
  y[t] = v + part[t ^ 1];  // here
}

extern "C" __global__ void syncwarp_between_warps(const float* x, float* y, int n) {
  __shared__ float part[64];
  const int t = threadIdx.x;
  part[t] = x[t];  // here
  __syncwarp();
  y[t] = part[(t + 32) % 64];  // here
}

extern "C" __global__ void same_value_from_two_warps(const float* x, float* y, int n) {
  __shared__ int found;
  if (x[threadIdx.x] > 0) found = 1;  // here
  __syncthreads();
  y[threadIdx.x] = found;
}

extern "C" __global__ void bytes_of_two_warps(const float* x, float* y, int n) {
  __shared__ unsigned char mask[64];
  const int t = threadIdx.x;
  mask[t] = x[t] > 0;  // here
  y[t] = mask[63 - t];  // here
}

// ---------------------------------------------------------------- barriers in the wrong place
extern "C" __global__ void divergent_barrier(const float* x, float* y, int n) {
  if (threadIdx.x < 32)
    __syncthreads();  // here
  else
    __syncthreads();  // here
  y[threadIdx.x] = x[threadIdx.x];
}

extern "C" __global__ void syncwarp_in_half_a_warp(const float* x, float* y, int n) {
  if (threadIdx.x < 16) __syncwarp();  // here
  y[threadIdx.x] = x[threadIdx.x];
  __syncwarp();  // here
}

extern "C" __global__ void shuffle_from_a_lane_outside(const float* x, float* y, int n) {
  const int t = threadIdx.x;
  float v = x[t];
  if (t < 16) v = __shfl_sync(0x0000ffffu, v, 20);  // here
  y[t] = v;
}

// ---------------------------------------------------------------- asynchronous copies
extern "C" __global__ void no_wait(const float* x, float* y, int n) {
  __shared__ __align__(16) float tile[64];
  const int t = threadIdx.x;
  if (t < 16) cp_async<16>(tile + 4 * t, x + 4 * t);  // here
  cp_async_commit();
  __syncthreads();
  y[t] = tile[t];  // here
}

extern "C" __global__ void waits_for_too_few(const float* x, float* y, int n) {
  __shared__ __align__(16) float tile[2][128];
  const int t = threadIdx.x;
  cp_async<16>(&tile[0][4 * t], x + 4 * t);
  cp_async_commit();
  cp_async<16>(&tile[1][4 * t], x + 4 * t);  // here
  cp_async_commit();
  cp_async_wait<1>();
  __syncthreads();
  y[t] = tile[0][t] + tile[1][t];  // here
}

extern "C" __global__ void waits_for_its_own_only(const float* x, float* y, int n) {
  __shared__ __align__(16) float tile[256];
  const int t = threadIdx.x;
  cp_async<16>(tile + 4 * t, x + 4 * t);  // here
  cp_async_commit();
  cp_async_wait<0>();
  y[t] = tile[4 * ((t + 63) % 64)];  // here
}

extern "C" __global__ void writes_under_a_copy(const float* x, float* y, int n) {
  __shared__ __align__(16) float tile[128];
  const int t = threadIdx.x;
  cp_async<16>(tile + 4 * t, x + 4 * t);  // here
  cp_async_commit();
  tile[4 * t] = 0;  // here
  cp_async_wait<0>();
  __syncthreads();
  y[t] = tile[t];
}

extern "C" __global__ void changes_the_source_of_a_copy(const float* x, float* y, int n) {
  __shared__ __align__(16) float tile[128];
  const int t = threadIdx.x;
  cp_async<16>(tile + 4 * t, y + 4 * t);  // here
  cp_async_commit();
  y[(4 * t + 8) % 128] = x[t];  // here
  cp_async_wait<0>();
  __syncthreads();
  y[t] = tile[t];
}

extern "C" __global__ void changes_the_source_behind_a_barrier(const float* x, float* y, int n) {
  __shared__ __align__(16) float tile[128];
  const int t = threadIdx.x;
  cp_async<16>(tile + 4 * t, y + 4 * t);  // here
  cp_async_commit();
  __syncthreads();
  y[(4 * t + 8) % 128] = x[t];  // here
  cp_async_wait<0>();
  __syncthreads();
  y[t] = tile[t];
}

extern "C" __global__ void barrier_before_the_wait(const float* x, float* y, int n) {
  __shared__ __align__(16) float tile[128];
  const int t = threadIdx.x;
  cp_async<16>(tile + 4 * t, x + 4 * t);  // here
  cp_async_commit();
  __syncthreads();
  cp_async_wait<0>();
  if (t == 16) y[t] = tile[4 * t - 4];  // here
}
