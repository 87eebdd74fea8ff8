// planted_bugs.cu: kernels with one mistake each, for tests/test_checker.py. "// here" marks the
// line that checked mode must name; of a race it names both lines, whichever comes first.
#include "common.cuh"
#include "ptx.cuh"

// ---------------------------------------------------------------- outside of arrays
extern "C" __global__ void reads_before(const float* x, float* y, int n) {
  const int t = threadIdx.x;
  y[t] = x[t] - x[t - 1];  // here
}

extern "C" __global__ void reads_past(const float* x, float* y, int n) {
  const int t = threadIdx.x;
  y[t] = x[t + 1] - x[t];  // here
}

extern "C" __global__ void writes_before(const float* x, float* y, int n) {
  const int t = threadIdx.x;
  y[t - 1] = x[t];  // here
}

extern "C" __global__ void writes_past(const float* x, float* y, int n) {
  const int t = threadIdx.x;
  y[t + 1] = x[t];  // here
}

extern "C" __global__ void reads_four_past(const float* x, float* y, int n) {
  const int t = threadIdx.x;
  const float4 v = *reinterpret_cast<const float4*>(x + 4 * t);  // here
  y[t] = v.x + v.y + v.z + v.w;
}

extern "C" __global__ void reads_half_of_four_past(const float* x, float* y, int n) {
  const int t = threadIdx.x;
  const float4 v = *reinterpret_cast<const float4*>(x + 4 * t);  // here
  y[t] = v.x + v.y + v.z + v.w;
}

extern "C" __global__ void reads_far_away(const float* x, float* y, int n) {
  const int t = threadIdx.x;
  y[t] = x[t + 200000000ll];  // here
}

extern "C" __global__ void index_of_a_shared_row(const float* x, float* y, int n) {
  __shared__ float tile[4][16];
  const int t = threadIdx.x;
  tile[t / 16][t % 16] = x[t];
  __syncthreads();
  y[t] = tile[t / 16][t % 16 + 1];  // here
}

extern "C" __global__ void dynamic_shared_past(const float* x, float* y, int n) {
  float* tile = dynamic_shared<float>();
  const int t = threadIdx.x;
  tile[t + 1] = x[t];  // here
  __syncthreads();
  y[t] = tile[t + 1];
}

extern "C" __global__ void index_overflows(const float* x, float* y, int n) {
  const int t = threadIdx.x;
  const int row = n * 1000000;  // here
  y[t] = row > 0 ? x[t] : 0.0f;
}

// ---------------------------------------------------------------- what nobody has written
extern "C" __global__ void shared_not_written(const float* x, float* y, int n) {
  __shared__ float part[32];
  const int t = threadIdx.x;
  if (t % 32 == 0) part[t / 32] = x[t];
  __syncthreads();
  if (t < 32) y[t] = part[t];  // here
}

extern "C" __global__ void dynamic_shared_not_written(const float* x, float* y, int n) {
  float* part = dynamic_shared<float>();
  const int t = threadIdx.x;
  if (t > 0) part[t] = x[t];
  __syncthreads();
  y[t] = part[t];  // here
}

extern "C" __global__ void adds_to_poison(const float* x, float* y, int n) {
  const int t = threadIdx.x;
  y[t] += x[t];  // here
}

extern "C" __global__ void counts_from_nothing(const float* x, int* y, int n) {
  const int t = threadIdx.x;
  y[t] += static_cast<int>(x[t]);  // here
}

// ---------------------------------------------------------------- global memory
extern "C" __global__ void two_blocks_write_one_element(const float* x, float* y, int n) {
  y[threadIdx.x] = x[blockIdx.x];  // here
}

extern "C" __global__ void reads_what_a_block_writes(const float* x, float* y, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  const float left = i > 0 ? y[i - 1] : 0.0f;  // here
  y[i] = left + x[i];  // here
}

extern "C" __global__ void writes_what_a_block_has_read(const float* x, float* y, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  const float right = i + 1 < n ? y[i + 1] : 0.0f;  // here
  __syncthreads();
  y[i] = right + x[i];  // here
}

extern "C" __global__ void two_warps_through_an_array(const float* x, float* y, int n) {
  const int t = threadIdx.x;
  y[t] = x[t];  // here
  y[64 + t] = y[(t + 32) % 64];  // here
}

extern "C" __global__ void one_warp_through_an_array(const float* x, float* y, int n) {
  const int t = threadIdx.x;
  y[t] = x[t];  // here
  y[32 + t] = y[31 - t];  // here
}

extern "C" __global__ void sums_into_one_element(const float* x, float* y, int n) {
  y[0] += x[threadIdx.x];  // here
}

extern "C" __global__ void reads_among_atomics(const int* x, int* y, int n) {
  const int t = threadIdx.x;
  atomicAdd(y, x[t]);  // here
  y[1 + t] = y[0];  // here
}

extern "C" __global__ void reads_among_atomics_of_two_warps(const int* x, int* y, int n) {
  __shared__ int count;
  const int t = threadIdx.x;
  if (t == 0) count = 0;
  __syncthreads();
  atomicAdd(&count, x[t]);  // here
  __syncwarp();
  if (t >= 32) y[t] = count;  // here
}

extern "C" __global__ void one_lane_reads_among_atomics(const int* x, int* y, int n) {
  __shared__ int count;
  const int t = threadIdx.x;
  if (t == 0) count = 0;
  __syncwarp();
  atomicAdd(&count, x[t]);  // here
  if (t == 30) y[t] = count;  // here
}

extern "C" __global__ void writes_through_const(const float* x, float* y, int n) {
  const int t = threadIdx.x;
  const_cast<float*>(x)[t] = 0;  // here
  y[t] = 1;
}

extern "C" __global__ void overlapping(const float* x, float* y, int n) {
  y[threadIdx.x] = x[threadIdx.x + n];  // here
}

// ---------------------------------------------------------------- alignment
extern "C" __global__ void misaligned_load(const float* x, float* y, int n) {
  const int t = threadIdx.x;
  const float4 v = *reinterpret_cast<const float4*>(x + 4 * t + 1);  // here
  y[t] = v.x + v.y + v.z + v.w;
}

extern "C" __global__ void misaligned_in_shared(const float* x, float* y, int n) {
  __shared__ __align__(16) float tile[4][33];
  const int t = threadIdx.x;
  for (int i = 0; i < 4; ++i) tile[i][t] = x[t];
  __syncwarp();
  if (t < 4) {
    const float2 v = *reinterpret_cast<const float2*>(&tile[t][0]);  // here
    y[t] = v.x + v.y;
  }
}
