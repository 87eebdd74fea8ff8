// numbers.h: CUDA's vector types and the functions on numbers that C++ does not have. Included by
// simt.h where `float` already means what a kernel means by it.
#pragma once

#ifndef SIMT_WHOLE
#define SIMT_WHOLE(NAME, PARAMETERS, ...)  // profile mode: how they are copied, see counted.h
#endif
#define SIMT_VECTORS(T, NAME, ALIGN2, ALIGN4)                                                \
  struct alignas(ALIGN2) NAME##2 {                                                           \
    T x, y;                                                                                  \
    SIMT_WHOLE(NAME##2, (T a, T b), x(a), y(b))                                              \
  };                                                                                         \
  struct alignas(ALIGN4) NAME##4 {                                                           \
    T x, y, z, w;                                                                            \
    SIMT_WHOLE(NAME##4, (T a, T b, T c, T d), x(a), y(b), z(c), w(d))                        \
  };                                                                                         \
  SIMT_DEVICE NAME##2 make_##NAME##2(T x, T y) { return NAME##2{x, y}; }                     \
  SIMT_DEVICE NAME##4 make_##NAME##4(T x, T y, T z, T w) { return NAME##4{x, y, z, w}; }
#define SIMT_TRIPLE(T, NAME) \
  struct NAME##3 {           \
    T x, y, z;               \
  };                         \
  SIMT_DEVICE NAME##3 make_##NAME##3(T x, T y, T z) { return NAME##3{x, y, z}; }
SIMT_VECTORS(float, float, 8, 16) SIMT_TRIPLE(float, float)
SIMT_VECTORS(int, int, 8, 16) SIMT_TRIPLE(int, int)
SIMT_VECTORS(unsigned, uint, 8, 16)  // uint3 is in api.h
SIMT_VECTORS(unsigned char, uchar, 2, 4)
SIMT_VECTORS(unsigned short, ushort, 4, 8)
SIMT_VECTORS(double, double, 16, 16)
SIMT_VECTORS(long long, longlong, 16, 16)
SIMT_DEVICE uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return uint3{x, y, z}; }
#undef SIMT_VECTORS
#undef SIMT_TRIPLE

// The overloads that CUDA has, for mixed signs too.
#define SIMT_MIN_MAX(T, A, B)                                                       \
  SIMT_DEVICE T min(A a, B b) {                                                     \
    return static_cast<T>(a) < static_cast<T>(b) ? static_cast<T>(a) : static_cast<T>(b); \
  }                                                                                 \
  SIMT_DEVICE T max(A a, B b) {                                                     \
    return static_cast<T>(a) > static_cast<T>(b) ? static_cast<T>(a) : static_cast<T>(b); \
  }
#define SIMT_MIN_MAX_OF(I, U) \
  SIMT_MIN_MAX(I, I, I) SIMT_MIN_MAX(U, U, U) SIMT_MIN_MAX(U, I, U) SIMT_MIN_MAX(U, U, I)
SIMT_MIN_MAX_OF(int, unsigned)
SIMT_MIN_MAX_OF(long, unsigned long)
SIMT_MIN_MAX_OF(long long, unsigned long long)
#undef SIMT_MIN_MAX_OF
#undef SIMT_MIN_MAX
SIMT_DEVICE float min(float a, float b) { return fminf(a, b); }  // of a NaN and a number, the
SIMT_DEVICE float max(float a, float b) { return fmaxf(a, b); }  // number
SIMT_DEVICE double min(double a, double b) { return fmin(a, b); }
SIMT_DEVICE double max(double a, double b) { return fmax(a, b); }

namespace simt {
template <class To, class From>
SIMT_DEVICE To same_bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "as many bits");
  To to;
  memcpy(static_cast<void*>(&to), &from, sizeof(To));
  return to;
}
// Keeps a rounded result from being fused with the next operation.
template <class T>
SIMT_DEVICE T rounded(T value) {
  asm volatile("" : "+m"(value));
  return value;
}
}  // namespace simt
SIMT_DEVICE unsigned __float_as_uint(float f) { return simt::same_bits<unsigned>(f); }
SIMT_DEVICE int __float_as_int(float f) { return simt::same_bits<int>(f); }
SIMT_DEVICE float __uint_as_float(unsigned u) { return simt::same_bits<float>(u); }
SIMT_DEVICE float __int_as_float(int i) { return simt::same_bits<float>(i); }
SIMT_DEVICE long long __double_as_longlong(double d) { return simt::same_bits<long long>(d); }
SIMT_DEVICE double __longlong_as_double(long long i) { return simt::same_bits<double>(i); }

// ptx.cuh: float to 16 bits and back, and to tf32, as the cvt instructions round.
namespace simt {
using Plain = decltype(0.0f);  // what `float` is outside profile mode
SIMT_DEVICE unsigned short to_bf16(float v) {
  const unsigned bits = same_bits<unsigned>(v);
  if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fff;  // NaN
  return static_cast<unsigned short>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
SIMT_DEVICE unsigned short to_f16(float v) {
  return same_bits<unsigned short>(static_cast<_Float16>(same_bits<Plain>(v)));
}
SIMT_DEVICE float from_f16(unsigned short bits) {
  return static_cast<Plain>(same_bits<_Float16>(bits));
}
SIMT_DEVICE unsigned to_tf32(float v) {
  const unsigned bits = same_bits<unsigned>(v);
  return (bits & 0x7fffffff) > 0x7f800000 ? 0x7fffffff : (bits + 0x1000) & 0xffffe000;
}
}  // namespace simt

SIMT_DEVICE int __popc(unsigned u) { return __builtin_popcount(u); }
SIMT_DEVICE int __popcll(unsigned long long u) { return __builtin_popcountll(u); }
SIMT_DEVICE int __clz(int i) { return i ? __builtin_clz(i) : 32; }
SIMT_DEVICE int __clzll(long long i) { return i ? __builtin_clzll(i) : 64; }
SIMT_DEVICE int __ffs(int i) { return __builtin_ffs(i); }
SIMT_DEVICE int __ffsll(long long i) { return __builtin_ffsll(i); }
SIMT_DEVICE unsigned __brev(unsigned u) {
  unsigned reversed = 0;
  for (int i = 0; i < 32; ++i) reversed |= (u >> i & 1) << (31 - i);
  return reversed;
}
SIMT_DEVICE unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>(static_cast<unsigned long long>(a) * b >> 32);
}
SIMT_DEVICE int __mulhi(int a, int b) {
  return static_cast<int>(static_cast<long long>(a) * b >> 32);
}
SIMT_DEVICE unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return static_cast<unsigned long long>(static_cast<unsigned __int128>(a) * b >> 64);
}
SIMT_DEVICE unsigned __funnelshift_l(unsigned low, unsigned high, unsigned by) {
  const unsigned long long both = static_cast<unsigned long long>(high) << 32 | low;
  return static_cast<unsigned>(both << (by & 31) >> 32);
}
SIMT_DEVICE unsigned __funnelshift_r(unsigned low, unsigned high, unsigned by) {
  return static_cast<unsigned>((static_cast<unsigned long long>(high) << 32 | low) >> (by & 31));
}

template <class T>
SIMT_DEVICE T __ldg(const T* at) { return *at; }

// Macros, because the C library declares some of these names itself. Exact where a GPU is fast.
#define __expf expf
#define __logf logf
#define __sinf sinf
#define __cosf cosf
#define __powf powf
SIMT_DEVICE float __fdividef(float a, float b) { return a / b; }
SIMT_DEVICE float rsqrtf(float x) { return 1.0f / sqrtf(x); }
SIMT_DEVICE double rsqrt(double x) { return 1.0 / sqrt(x); }
SIMT_DEVICE float __fadd_rn(float a, float b) { return simt::rounded(a + b); }
SIMT_DEVICE float __fsub_rn(float a, float b) { return simt::rounded(a - b); }
SIMT_DEVICE float __fmul_rn(float a, float b) { return simt::rounded(a * b); }
SIMT_DEVICE float __fdiv_rn(float a, float b) { return a / b; }
SIMT_DEVICE float __fsqrt_rn(float a) { return sqrtf(a); }
SIMT_DEVICE float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
SIMT_DEVICE double __dadd_rn(double a, double b) { return simt::rounded(a + b); }
SIMT_DEVICE double __dmul_rn(double a, double b) { return simt::rounded(a * b); }
SIMT_DEVICE float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }
SIMT_DEVICE float __int2float_rn(int i) { return static_cast<float>(i); }
SIMT_DEVICE float __uint2float_rn(unsigned u) { return static_cast<float>(u); }
SIMT_DEVICE int __float2int_rn(float x) { return static_cast<int>(rintf(x)); }
SIMT_DEVICE int __float2int_rz(float x) { return static_cast<int>(x); }
SIMT_DEVICE int __float2int_rd(float x) { return static_cast<int>(floorf(x)); }
SIMT_DEVICE int __float2int_ru(float x) { return static_cast<int>(ceilf(x)); }
