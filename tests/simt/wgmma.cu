// What test_simt_wgmma.py runs: products of a warpgroup, right and wrong.
#include "ptx.cuh"

// d (64,N) = a (64,16) b (16,N), each in rows of 128 bytes, swizzled; turned: a as (16,64), b as
// given (16,N), else b as (N,16). fault: what goes wrong, 0 nothing.
template <int N, bool A_TURNED, bool B_TURNED>
__device__ inline void product(const unsigned short* a, const unsigned short* b, float* d, int f16,
                               int fault) {
  unsigned short* as = dynamic_shared<unsigned short>();
  unsigned short* bs = as + 64 * 64;
  const int t = threadIdx.x;
  for (int i = t; i < 64 * 16; i += 128) {
    const int m = i / 16, k = i % 16, row = A_TURNED ? k : m, at = A_TURNED ? m : k;
    as[row * 64 + (at / 8 ^ row % 8) * 8 + at % 8] = a[i];
  }
  for (int i = t; i < N * 16; i += 128) {
    const int k = i / N, n = i % N, row = B_TURNED ? n / 64 * 16 + k : n, at = B_TURNED ? n % 64 : k;
    bs[row * 64 + (at / 8 ^ row % 8) * 8 + at % 8] = b[i];
  }
  show_to_wgmma();
  __syncthreads();
  float sum[N / 2];
  for (int i = 0; i < N / 2; ++i) sum[i] = i;
  wgmma_begin();
  const auto fa = wgmma_factor(as, 0, 1024) | (fault == 1 ? 1ull << 49 : 0);
  const auto fb = wgmma_factor(fault == 2 ? bs + 16 * 64 : bs, 2048, 1024);
  for (int twice = 0; twice < 2; ++twice)
    if (f16)
      wgmma_f16<A_TURNED, B_TURNED>(sum, fa, fb);
    else
      wgmma_bf16<A_TURNED, B_TURNED>(sum, fa, fb);
  wgmma_commit();
  if (fault == 3) as[t] = 0;  // still being read
  if (fault == 4)
    wgmma_wait<1>();
  else
    wgmma_wait<0>();
  const int row = t / 32 * 16 + t % 32 / 4;
  for (int j = 0; j < N / 8; ++j)
    for (int e = 0; e < 4; ++e)
      d[(row + e / 2 * 8) * N + 8 * j + t % 4 * 2 + e % 2] = sum[4 * j + e];
}

extern "C" __global__ void plain_64(const unsigned short* a, const unsigned short* b, float* d, int f16, int fault) {
  product<64, false, false>(a, b, d, f16, fault);
}

extern "C" __global__ void plain_128(const unsigned short* a, const unsigned short* b, float* d, int f16, int fault) {
  product<128, false, false>(a, b, d, f16, fault);
}

extern "C" __global__ void turned_192(const unsigned short* a, const unsigned short* b, float* d, int f16, int fault) {
  product<192, true, true>(a, b, d, f16, fault);
}

extern "C" __global__ void mixed_128(const unsigned short* a, const unsigned short* b, float* d, int f16, int fault) {
  product<128, false, true>(a, b, d, f16, fault);
}
