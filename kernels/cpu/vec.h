// vec.h: the vector type of the instruction set, and the few things done with it everywhere.
//
// Only GCC's and Clang's vector extensions, no intrinsics: the same source for every set. A product
// that is added, s * b + t, becomes one fused multiply-add where the set has it
// (-ffp-contract=fast).
//
//   vec     LANES floats: 4 portable, 8 avx2, 16 avx512
//   ivec    LANES ints, what a comparison of two vec gives: -1 true, 0 false
//   PANEL   16: filters, and whatever else the micro-kernel has as columns, go 16 at a time
//   VECS    vectors in a panel
//   ROWS    rows of the micro-kernel's block (micro.h): ROWS * VECS accumulators fill the registers
#pragma once

#include <cstring>

namespace unetcu::UNETCU_ISA {

#if defined(__AVX512F__)
constexpr int LANES = 16, ROWS = 12;  // 12 of 32 registers: more rows would not be faster
#elif defined(__AVX2__)
constexpr int LANES = 8, ROWS = 6;  // 12 accumulators of 16 registers
#elif defined(__aarch64__)
constexpr int LANES = 4, ROWS = 6;  // 24 of 32
#else
constexpr int LANES = 4, ROWS = 3;  // 12 of 16
#endif
constexpr int PANEL = 16, VECS = PANEL / LANES;

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int ivec __attribute__((vector_size(4 * LANES)));
typedef float unaligned_vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

// Not std::min and std::max: see isa.h.
template <class T>
static inline constexpr T smaller(T a, T b) {
  return a < b ? a : b;
}
template <class T>
static inline constexpr T larger(T a, T b) {
  return a > b ? a : b;
}
static inline constexpr long ceil_div(long a, long b) { return (a + b - 1) / b; }
static inline constexpr long round_up(long a, long b) { return ceil_div(a, b) * b; }

static inline vec all(float value) { return vec{} + value; }
static inline vec load(const float* p) { return *(const unaligned_vec*)p; }
static inline void store(float* p, vec v) { *(unaligned_vec*)p = v; }

// The first n lanes only (all if n >= LANES, none if n <= 0); those not read are 0.
static inline vec load(const float* p, int n) {
  if (n >= LANES) return load(p);
  vec v{};
  for (int i = 0; i < n; i++) v[i] = p[i];
  return v;
}
static inline void store(float* p, vec v, int n) {
  if (n >= LANES) return store(p, v);
  for (int i = 0; i < n; i++) p[i] = v[i];
}

// v where the mask is true, else +0: on the bits, so that a NaN in v cannot pass a closed gate.
static inline vec gate(vec v, ivec mask) { return (vec)((ivec)v & mask); }

// ReLU: 0 where v <= 0, so that relu(NaN) is NaN.
static inline vec relu(vec v) { return gate(v, ~(ivec)(v <= vec{})); }

typedef float vec4 __attribute__((vector_size(16)));
typedef float unaligned_vec4 __attribute__((vector_size(16), aligned(4), may_alias));
typedef int ivec4 __attribute__((vector_size(16)));

#ifdef __clang__
#define UNETCU_MIX(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
#define UNETCU_MIX(a, b, i, j, k, l) __builtin_shuffle(a, b, ivec4{i, j, k, l})
#endif

// b[j][i] = a[i][j] of 4 x 4 numbers.
static inline void transpose4(const float* a, long lda, float* b, long ldb) {
  const auto row = [&](int i) -> vec4 { return *(const unaligned_vec4*)(a + i * lda); };
  const vec4 a0 = row(0), a1 = row(1), a2 = row(2), a3 = row(3);
  const vec4 p = UNETCU_MIX(a0, a1, 0, 4, 1, 5), q = UNETCU_MIX(a2, a3, 0, 4, 1, 5);
  const vec4 r = UNETCU_MIX(a0, a1, 2, 6, 3, 7), s = UNETCU_MIX(a2, a3, 2, 6, 3, 7);
  const auto put = [&](int j, vec4 v) { *(unaligned_vec4*)(b + j * ldb) = v; };
  put(0, UNETCU_MIX(p, q, 0, 1, 4, 5));
  put(1, UNETCU_MIX(p, q, 2, 3, 6, 7));
  put(2, UNETCU_MIX(r, s, 0, 1, 4, 5));
  put(3, UNETCU_MIX(r, s, 2, 3, 6, 7));
}

}  // namespace unetcu::UNETCU_ISA
