// What test_simt.py runs: each kernel shows one thing that the SIMT runtime does.
#include "ptx.cuh"

extern "C" __global__ void turned(const float* x, float* y, int stride) {
  __shared__ float part[256];
  for (int i = 0; i < 3; ++i) {
    __syncthreads();
    part[threadIdx.x] = x[blockIdx.x * blockDim.x + threadIdx.x] + i;
    __syncthreads();
    y[blockIdx.x * blockDim.x + threadIdx.x] = part[(threadIdx.x + stride) % blockDim.x];
  }
}

extern "C" __global__ void some_leave(int* y, int stay) {
  if (static_cast<int>(threadIdx.x) >= stay) return;
  __shared__ int part[256];
  part[threadIdx.x] = threadIdx.x;
  __syncthreads();
  y[threadIdx.x] = part[stay - 1 - threadIdx.x];
}

extern "C" __global__ void block_votes(const int* x, int* y) {
  const int count = __syncthreads_count(x[threadIdx.x]);
  const int both = __syncthreads_and(x[threadIdx.x]);
  const int any = __syncthreads_or(x[threadIdx.x]);
  y[threadIdx.x] = count * 100 + both * 10 + any;
}

extern "C" __global__ void divergent(int* y) {
  if (threadIdx.x < 32)
    __syncthreads();
  else
    __syncthreads();  // here
  y[threadIdx.x] = 1;
}

extern "C" __global__ void stuck(int* y) {
  if (threadIdx.y < 4)
    __syncwarp();  // here
  else
    __syncthreads();
  y[threadIdx.x] = 1;
}

extern "C" __global__ void wrong_mask(int* y) {
  if (threadIdx.x % 2) __syncwarp(0x55555555u);  // here
  y[threadIdx.x] = 1;
}

extern "C" __global__ void different_masks(int* y) {
  if (threadIdx.x < 2) __syncwarp(threadIdx.x ? 3u : 7u);  // here
  y[threadIdx.x] = 1;
}

extern "C" __global__ void two_collectives(int* y) {
  if (threadIdx.x < 16)
    y[threadIdx.x] = __any_sync(~0u, 1);
  else
    y[threadIdx.x] = __all_sync(~0u, 1);  // here
}

extern "C" __global__ void shuffle(const float* x, float* y, int kind, int by, int width) {
  const float v = x[threadIdx.x];
  float got = 0;
  if (kind == 0) got = __shfl_sync(~0u, v, by, width);
  if (kind == 1) got = __shfl_up_sync(~0u, v, by, width);
  if (kind == 2) got = __shfl_down_sync(~0u, v, by, width);
  if (kind == 3) got = __shfl_xor_sync(~0u, v, by, width);
  y[threadIdx.x] = got;
}

extern "C" __global__ void shuffle_wide(const double* x, double* y) {
  y[threadIdx.x] = __shfl_xor_sync(~0u, x[threadIdx.x], 9);
}

extern "C" __global__ void shuffle_halves(int* y, int from) {
  const unsigned mask = threadIdx.x < 16 ? 0xffffu : 0xffff0000u;
  y[threadIdx.x] = __shfl_sync(mask, static_cast<int>(threadIdx.x), from + threadIdx.x / 16 * 16);
}

extern "C" __global__ void warp_votes(const int* x, unsigned* y, int leave) {
  if (static_cast<int>(threadIdx.x) < leave) return;
  y[threadIdx.x * 3] = __ballot_sync(~0u, x[threadIdx.x]);
  y[threadIdx.x * 3 + 1] = __any_sync(~0u, x[threadIdx.x]);
  y[threadIdx.x * 3 + 2] = __all_sync(~0u, x[threadIdx.x]);
}

// Each lane sums over its warp by __syncwarp alone.
extern "C" __global__ void warp_sums(const int* x, int* y) {
  __shared__ int part[64];
  part[threadIdx.x] = x[threadIdx.x];
  for (int half = 16; half; half /= 2) {
    __syncwarp();
    const int other = part[threadIdx.x ^ half];
    __syncwarp();
    part[threadIdx.x] += other;
  }
  y[threadIdx.x] = part[threadIdx.x];
}

extern "C" __global__ void load_matrices(const unsigned short* x, unsigned* y, int trans) {
  __shared__ __align__(16) unsigned short part[32 * 8];
  for (int i = threadIdx.x; i < 32 * 8; i += 32) part[i] = x[i];
  __syncwarp();
  unsigned four[4], two[2], one[1];
  const unsigned short* row = part + 8 * threadIdx.x;
  if (trans) {
    ldmatrix_x4_trans(four, row);
    ldmatrix_x2_trans(two, row);
    ldmatrix_x1_trans(one, row);
  } else {
    ldmatrix_x4(four, row);
    ldmatrix_x2(two, row);
    ldmatrix_x1(one, row);
  }
  unsigned* to = y + threadIdx.x * 7;
  for (int i = 0; i < 4; ++i) to[i] = four[i];
  for (int i = 0; i < 2; ++i) to[4 + i] = two[i];
  to[6] = one[0];
}

extern "C" __global__ void load_badly(const unsigned short* x, unsigned* y, int shift) {
  __shared__ __align__(16) unsigned short part[32 * 8 + 8];
  part[threadIdx.x] = 0;
  unsigned one[1];
  ldmatrix_x1(one, shift < 0 ? x : part + shift);  // here
  y[threadIdx.x] = one[0];
}

extern "C" __global__ void multiply(const unsigned* a, const unsigned* b, float* d, int format) {
  unsigned as[4], bs[2];
  float ds[4];
  for (int i = 0; i < 4; ++i) as[i] = a[threadIdx.x * 4 + i];
  for (int i = 0; i < 2; ++i) bs[i] = b[threadIdx.x * 2 + i];
  for (int i = 0; i < 4; ++i) ds[i] = d[threadIdx.x * 4 + i];
  if (format == 0) mma_bf16(ds, as, bs);
  if (format == 1) mma_f16(ds, as, bs);
  if (format == 2) mma_tf32(ds, as, bs);
  for (int i = 0; i < 4; ++i) d[threadIdx.x * 4 + i] = ds[i];
}

// d (16,8) = a (16,16) b (16,8), as kernels do it: tiles in shared memory, ldmatrix, mma.
extern "C" __global__ void multiply_tiles(const unsigned short* a, const unsigned short* b,
                                          float* d) {
  unsigned short* as = dynamic_shared<unsigned short>();
  unsigned short* bs = as + 256;
  for (int i = threadIdx.x; i < 256; i += 32) as[i] = a[i];
  for (int i = threadIdx.x; i < 128; i += 32) bs[i] = b[i];
  __syncwarp();
  unsigned fragment_a[4], fragment_b[2];
  ldmatrix_x4(fragment_a, as + threadIdx.x % 16 * 16 + threadIdx.x / 16 * 8);
  ldmatrix_x2_trans(fragment_b, bs + threadIdx.x % 16 * 8);
  float sum[4] = {};
  mma_bf16(sum, fragment_a, fragment_b);
  for (int i = 0; i < 4; ++i)
    d[(threadIdx.x / 4 + i / 2 * 8) * 8 + threadIdx.x % 4 * 2 + i % 2] = sum[i];
}

extern "C" __global__ void multiply_by_some(float* d) {
  float ds[4] = {};
  const unsigned as[4] = {}, bs[2] = {};
  if (threadIdx.x > 2) mma_tf32(ds, as, bs);  // here
  d[threadIdx.x] = ds[0];
}

// y: what is seen of two groups of copies at issue, behind a wait for one, behind a wait for all.
extern "C" __global__ void copies(float* x, float* y) {
  float* part = dynamic_shared<float>();
  for (int i = 0; i < 8; ++i) part[i] = 50.0f;
  cp_async<16>(part, x);
  cp_async_commit();
  cp_async<8>(part + 4, x + 4, 4);
  cp_async<4>(part + 6, x + 6, 0);
  cp_async<4>(part + 7, x + 7);
  cp_async_commit();
  for (int i = 0; i < 8; ++i) y[i] = part[i];
  x[1] = 77.0f;  // the copy may read this late
  cp_async_wait<1>();
  for (int i = 0; i < 8; ++i) y[8 + i] = part[i];
  cp_async_wait<0>();
  for (int i = 0; i < 8; ++i) y[16 + i] = part[i];
}

extern "C" __global__ void copy_badly(const float* x, float* y, int to, int from, int valid) {
  float* part = dynamic_shared<float>();
  cp_async<8>(to < 0 ? y : part + to, x + from, valid);  // here
  cp_async_commit();
  cp_async_wait<0>();
  y[0] = part[0];
}

extern "C" __global__ void reach(const float* x, float* y, long long from, long long to) {
  if (threadIdx.x == 3 && blockIdx.x == 1) y[to] = x[from];
}

extern "C" __global__ void reach_shared(float* y, int at) {
  float* part = dynamic_shared<float>();
  part[threadIdx.x] = threadIdx.x;
  if (threadIdx.x == 1) part[at] = 1.0f;
  y[threadIdx.x] = part[threadIdx.x];
}

extern "C" __global__ void cast_away(const float* x, float* y) {
  const_cast<float*>(x)[threadIdx.x] = 1.0f;
  y[threadIdx.x] = 1.0f;
}

extern "C" __global__ void all_fail(volatile int* y, int delay) {
  for (int i = 0; blockIdx.x == 0 && i < delay; ++i) y[0] = i;
  if (y[0] >= 0) __syncwarp(2u);
}

extern "C" __global__ void turns(int* y, int* count) {
  y[atomicAdd(count, 1)] = blockIdx.x * blockDim.x + threadIdx.x;
}

extern "C" __global__ void unwritten(float* y) {
  __shared__ float part[96];
  float* dynamic = dynamic_shared<float>();
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  y[2 * i] = part[threadIdx.x];
  y[2 * i + 1] = dynamic[threadIdx.x];
  __syncthreads();
  part[threadIdx.x] = dynamic[threadIdx.x] = 1.0f;
}

extern "C" __global__ void divide(int* y, int by) { y[threadIdx.x] = 100 / by; }

__device__ __attribute__((noinline)) int deep(int n, volatile int* at) {
  volatile int room[256];
  room[n % 256] = *at;
  return n <= 0 ? room[0] : deep(n - 1, room) + room[n % 256];
}

extern "C" __global__ void recurse(int* y, int n) { y[threadIdx.x] = deep(n, y); }

extern "C" __global__ void by_value(double* y, float f, double d, int i, unsigned u,
                                    signed char c, unsigned char b, short s, unsigned short h,
                                    long long l, unsigned long long v) {
  y[0] = f, y[1] = d, y[2] = i, y[3] = u, y[4] = c, y[5] = b, y[6] = s, y[7] = h, y[8] = l;
  y[9] = static_cast<double>(v);
}

extern "C" __global__ void where(unsigned* y) {
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  unsigned* to = y + (block * blockDim.x * blockDim.y * blockDim.z + thread) * 6;
  to[0] = blockIdx.x, to[1] = blockIdx.y, to[2] = blockIdx.z;
  to[3] = threadIdx.x, to[4] = threadIdx.y, to[5] = threadIdx.z;
}

extern "C" __global__ void atomics(const unsigned* x, unsigned* y, unsigned long long* z, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  atomicAdd(y + x[i] % 8, 1u);
  atomicAdd(z, static_cast<unsigned long long>(x[i]));
  atomicMin(y + 8, x[i]);
  atomicMax(y + 9, x[i]);
  atomicAnd(y + 10, x[i] | 1);
  atomicOr(y + 11, x[i]);
  atomicXor(y + 12, x[i]);
  atomicSub(y + 13, 2u);
  atomicInc(y + 14, 6u);
  if (atomicCAS(y + 15, 0u, 1u) == 0) atomicExch(y + 16, 5u);
}

extern "C" __global__ void numbers(const unsigned* x, const float* f, long long* y, float* g) {
  const unsigned u = x[threadIdx.x], v = x[threadIdx.x + 1];
  const int i = static_cast<int>(u);
  long long* to = y + threadIdx.x * 16;
  to[0] = __popc(u), to[1] = __clz(i), to[2] = __ffs(i), to[3] = __brev(u);
  to[4] = __umulhi(u, v), to[5] = __mulhi(i, static_cast<int>(v));
  to[6] = __funnelshift_l(u, v, 5), to[7] = __funnelshift_r(u, v, 5);
  to[8] = min(i, 7), to[9] = max(u, 7), to[10] = min(i, 7u), to[11] = max(i, static_cast<int>(v));
  to[12] = __float_as_uint(f[threadIdx.x]), to[13] = __float2int_rn(f[threadIdx.x]);
  to[14] = __popcll(static_cast<unsigned long long>(u) << 32 | v), to[15] = __clzll(u);
  const float4 four = make_float4(1.0f, 2.0f, 3.0f, f[threadIdx.x]);
  const uint2 two = make_uint2(u, v);
  g[threadIdx.x * 4] = rsqrtf(four.w) + __ldg(f);
  g[threadIdx.x * 4 + 1] = __uint_as_float(0x3f800000u + (two.x & 1));
  g[threadIdx.x * 4 + 2] = fmaf(four.w, four.z, -four.y);
  g[threadIdx.x * 4 + 3] = __fadd_rn(__fmul_rn(four.w, four.w), -f[threadIdx.x + 1]);
}
