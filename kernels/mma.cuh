// mma.cuh: products on tensor cores. What a warp multiplies at once, in each format:
//
//   bf16, fp16   16 x 16 by 16 x 8 numbers of 16 bits; their products are exact in float
//   tf32         16 x 8 by 8 x 8 floats, each rounded to 10 bits of fraction before: 3 digits
//   tf32x3       the same, but a float is the sum of two such numbers, high and low, and three
//                products are added (low x low is lost in rounding): 6 digits, as float has
//
// Sums are of floats. In all of them a step takes 32 bytes of a row of A, two pieces of 16 bytes,
// and so all of them move the same bytes through shared memory, in the same places.
#pragma once
#include "real.cuh"

constexpr int PIECE = 16 / sizeof(real);  // numbers in 16 bytes: what is copied at once
constexpr int PIECES = 4;                 // of a pixel, in shared memory at a time: two steps
constexpr int DEPTH = PIECES * PIECE;     // channels summed between two loads

// One factor, as it lies in the registers of a warp: COUNT registers a lane.
template <int COUNT>
struct Factor {
  unsigned v[COUNT];
#ifdef FORMAT_TF32X3
  unsigned low[COUNT];
#endif
  // Makes of what was loaded, 32 bits each, what mma takes.
  __device__ __forceinline__ void round() {
#if defined FORMAT_TF32 || defined FORMAT_TF32X3
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
      const float whole = __uint_as_float(v[i]);
      v[i] = tf32_of(whole);
#ifdef FORMAT_TF32X3
      low[i] = tf32_of(whole - __uint_as_float(v[i]));
#endif
    }
#endif
  }
};

// d (16 x 8) += a b. ONES: a register of a factor all of whose elements are 1.
#if defined FORMAT_BF16
#define ONES 0x3f803f80u
#elif defined FORMAT_FP16
#define ONES 0x3c003c00u
#else
#define ONES 0x3f800000u
#endif
__device__ __forceinline__ void add_product(float (&d)[4], const Factor<4>& a, const Factor<2>& b) {
#if defined FORMAT_BF16
  mma_bf16(d, a.v, b.v);
#elif defined FORMAT_FP16
  mma_f16(d, a.v, b.v);
#else
#ifdef FORMAT_TF32X3
  mma_tf32(d, a.low, b.v);
  mma_tf32(d, a.v, b.low);
#endif
  mma_tf32(d, a.v, b.v);
#endif
}
