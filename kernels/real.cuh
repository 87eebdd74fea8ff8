// real.cuh: the numbers that images and filters are stored as. A kernel file that includes this is
// compiled once for each format:
//
//   fp32   real is float
//   bf16   16 bits, 8 of them the exponent: as large as a float may be, 3 decimal digits
//   fp16   16 bits, 5 of them the exponent: up to 65504, below 6e-5 with ever fewer digits
//
// Products and sums are of floats in every format; a result is rounded once, to the nearest (of two
// the even one), when it is stored. Read a real and it is a float, assign a float and it is rounded.
#pragma once
#include "ptx.cuh"

#if defined FORMAT_BF16 || defined FORMAT_FP16
struct real {
  unsigned short bits;
  real() = default;
#ifdef FORMAT_BF16
  __device__ __forceinline__ real(float v) : bits(bf16_of(v)) {}
  __device__ __forceinline__ operator float() const {
    return __uint_as_float(static_cast<unsigned>(bits) << 16);
  }
#else
  __device__ __forceinline__ real(float v) : bits(f16_of(v)) {}
  __device__ __forceinline__ operator float() const { return float_of_f16(bits); }
#endif
};
#ifdef SIMT_HOST
namespace simt {
template <>
struct Type<real> {
#ifdef FORMAT_BF16
  static constexpr char letter = 'H';  // NumPy has no bfloat16: its bits travel as uint16
#else
  static constexpr char letter = 'e';
#endif
};
}  // namespace simt
#endif
#else
typedef float real;
#endif
