// right_kernels.cu: kernels without a mistake, of kinds that a checker may take for one.
#include "common.cuh"
#include "ptx.cuh"

__device__ const float WEIGHTS[4] = {0.125f, 0.25f, 0.5f, 1.0f};

extern "C" __global__ void transpose(const float* __restrict__ x, float* __restrict__ y, int n) {
  __shared__ float tile[16][17];
  const int tx = threadIdx.x, ty = threadIdx.y, x0 = blockIdx.x * 16, y0 = blockIdx.y * 16;
  if (x0 + tx < n && y0 + ty < n) tile[ty][tx] = x[(y0 + ty) * n + x0 + tx];
  __syncthreads();
  if (y0 + tx < n && x0 + ty < n) y[(x0 + ty) * n + y0 + tx] = tile[tx][ty];
}

extern "C" __global__ void block_reduction(const float* x, float* y, int n) {
  __shared__ float part[128];
  const int t = threadIdx.x, i = blockIdx.x * 128 + t;
  part[t] = i < n ? x[i] : 0.0f;
  for (int half = 64; half > 0; half /= 2) {
    __syncthreads();
    if (t < half) part[t] += part[t + half];
  }
  if (t == 0) y[blockIdx.x] = part[0];
}

extern "C" __global__ void warp_reduction(const float* x, float* y, int n) {
  __shared__ float part[4][32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  part[warp][lane] = x[threadIdx.x];
  for (int half = 16; half > 0; half /= 2) {
    __syncwarp();
    if (lane < half) part[warp][lane] += part[warp][lane + half];
  }
  __syncwarp();
  y[threadIdx.x] = part[warp][0];
}

// Each half of the warp for itself, with a mask of its own.
extern "C" __global__ void half_warps(const float* x, float* y, int n) {
  __shared__ float part[32];
  const int t = threadIdx.x;
  const unsigned mine = t < 16 ? 0x0000ffffu : 0xffff0000u;
  part[t] = x[t];
  __syncwarp(mine);
  const float other = part[t ^ 1];
  __syncwarp(mine);
  part[t] = other * 2;
  __syncwarp(mine);
  y[t] = part[t ^ 8];
}

// Lane 0's number reaches lane 2 through two barriers of two lanes each.
extern "C" __global__ void chain_of_lanes(const float* x, float* y, int n) {
  __shared__ float word[2];
  const int t = threadIdx.x;
  if (t == 0) word[0] = x[0];
  if (t < 2) __syncwarp(0x3u);
  if (t == 1) word[1] = 1;
  if (t == 1 || t == 2) __syncwarp(0x6u);
  if (t == 2) {
    word[0] += word[1];
    y[0] = word[0];
  }
}

extern "C" __global__ void double_buffer(const float* x, float* y, int n) {
  __shared__ float tile[2][64];
  const int t = threadIdx.x;
  float sum = 0;
  tile[0][t] = x[t];
  for (int i = 0; i < n; i += 64) {
    const int now = i / 64 % 2;
    __syncthreads();  // one is enough: the other buffer was read before the barrier before
    if (i + 64 < n) tile[1 - now][t] = x[i + 64 + t];
    for (int k = 0; k < 64; ++k) sum += tile[now][k];
  }
  y[t] = sum;
}

extern "C" __global__ void pipeline(const float* x, float* y, int n) {
  constexpr int STAGES = 3;
  float* ring = dynamic_shared<float>();  // STAGES x 128
  const int t = threadIdx.x, steps = n / 128;
  for (int s = 0; s < STAGES - 1; ++s) {
    if (s < steps && t < 32) cp_async<16>(ring + s * 128 + 4 * t, x + s * 128 + 4 * t);
    cp_async_commit();
  }
  float sum = 0;
  for (int s = 0; s < steps; ++s) {
    cp_async_wait<STAGES - 2>();
    __syncthreads();
    const int next = s + STAGES - 1;
    if (next < steps && t < 32)
      cp_async<16>(ring + next % STAGES * 128 + 4 * t, x + next * 128 + 4 * t);
    cp_async_commit();
    sum += ring[s % STAGES * 128 + 63 - t] + ring[s % STAGES * 128 + 64 + t];
  }
  y[t] = sum;
}

extern "C" __global__ void everybody_reads(const float* x, float* y, int n) {
  __shared__ float weights[9];
  const int t = threadIdx.x;
  if (t < 9) weights[t] = x[t];
  __syncthreads();
  float sum = 0;
  for (int i = 0; i < 9; ++i) sum += weights[i] * x[i] * WEIGHTS[i % 4];
  __syncthreads();
  if (t < 9) weights[t] += sum;
  __syncthreads();
  y[blockIdx.x * blockDim.x + t] = weights[8];
  __syncthreads();
  if (t < 9) weights[t] = 0;
}

// Neighbouring bytes and halves of a word belong to different threads.
extern "C" __global__ void small_elements(const unsigned char* x, unsigned char* y, int n) {
  __shared__ unsigned char bytes[64];
  __shared__ unsigned short halves[64];
  const int t = threadIdx.x, i = blockIdx.x * 64 + t;
  bytes[t] = x[i];
  halves[t] = static_cast<unsigned short>(bytes[t] * 2);
  y[i] = static_cast<unsigned char>(halves[t] + bytes[t]);
  __syncthreads();
  y[i] = static_cast<unsigned char>(y[i] + bytes[63 - t] + halves[63 - t]);
}

extern "C" __global__ void in_place(const float* x, float* y, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = y[i] * 0.5f + x[i];
}

extern "C" __global__ void atomics(const int* x, int* y, int n) {
  __shared__ int count[4];
  const int t = threadIdx.x;
  if (t < 4) count[t] = 0;
  __syncthreads();
  atomicAdd(&count[x[t] & 3], 1);
  __syncthreads();
  if (t < 4) atomicAdd(&y[t], count[t]);
}

// Lanes of a warp count together, and read the sum behind a __syncwarp.
extern "C" __global__ void atomics_of_a_warp(const int* x, int* y, int n) {
  __shared__ int count[2];
  const int t = threadIdx.x, warp = t / 32;
  if (t % 32 == 0) count[warp] = 0;
  __syncwarp();
  atomicAdd(&count[warp], x[t]);
  __syncwarp();
  y[t] = count[warp];
}

extern "C" __global__ void fours(const float* x, float* y, int n) {
  __shared__ __align__(16) float tile[128];
  const int t = threadIdx.x;
  *reinterpret_cast<float4*>(tile + 4 * t) = *reinterpret_cast<const float4*>(x + 4 * t);
  __syncwarp();
  const float4 v = *reinterpret_cast<const float4*>(tile + 4 * (31 - t));
  *reinterpret_cast<float4*>(y + 4 * t) = make_float4(v.w, v.z, v.y, v.x);
}

extern "C" __global__ void local_array(const float* x, float* y, int n) {
  float mine[8];
  const int t = threadIdx.x;
  for (int i = 0; i < 8; ++i) mine[i] = x[t] * i;
  float* last = mine + (t & 7);
  *last += 1;
  float sum = 0;
  for (int i = 0; i < 8; ++i) sum += mine[(i + t) & 7];
  y[t] = sum;
}

extern "C" __global__ void shuffles(const float* x, float* y, int n) {
  const int t = threadIdx.x;
  float v = x[t];
  for (int d = 16; d > 0; d /= 2) v += __shfl_xor_sync(0xffffffffu, v, d);
  if (t % 32 == 0) y[t / 32] = v;
  __syncthreads();
  if (t < 2) y[2 + t] = y[1 - t];
}

// Threads past the end leave early; the others go on without a barrier.
extern "C" __global__ void early_return(const float* x, float* y, int n) {
  const long long i = thread_index();
  if (i >= n) return;
  float sum = 0;
  for (int k = 0; k <= i; ++k) sum += x[k];
  y[i] = sum;
}

// The block first writes its piece of the array, then all of it read it again.
extern "C" __global__ void through_the_array(const float* x, float* y, int n) {
  const int t = threadIdx.x, first = blockIdx.x * 64;
  y[first + t] = x[first + t];
  __syncthreads();
  const float other = y[first + 63 - t];
  __syncthreads();
  y[first + t] = other;
}
