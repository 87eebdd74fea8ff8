// micro.h: the one micro-kernel, which does nearly all multiplications of the CPU's ops.
//
//   C[i][j] (+)= sum_k A[i * ai + k * ak] * B[k * bk + j]         i < m, k < n, j < PANEL
//
// ROWS x PANEL sums stay in registers while k runs: each step loads one row of B, and each number
// of A once, as the same value in all lanes. General strides make it serve products with A, with
// A transposed, and with pixels of an image as rows.
//
// One chain of additions for each sum, k ascending, from 0; then, if asked, what C held is added: the
// bits do not depend on m, on how rows are grouped, or on what stands in other rows.
#pragma once

#include "vec.h"

namespace unetcu::UNETCU_ISA {

// M rows of sums, in registers.
template <int M>
struct Sums {
  vec at[M][VECS];
};

// Goes on with the chains in `sums` by n steps. Always inlined: else the sums were in memory.
template <int M>
static inline __attribute__((always_inline)) void multiply_add(Sums<M>& sums, const float* A,
                                                               long ai, long ak, const float* B,
                                                               long bk, long n) {
  for (long k = 0; k < n; k++, A += ak, B += bk) {
    vec b[VECS];
    for (int v = 0; v < VECS; v++) b[v] = load(B + v * LANES);
    for (int i = 0; i < M; i++) {
      const float a = A[i * ai];
      for (int v = 0; v < VECS; v++) sums.at[i][v] += a * b[v];
    }
  }
}

template <int M>
static inline void block(const float* A, long ai, long ak, const float* B, long bk, long n,
                         float* C, long ldc, bool add) {
  Sums<M> sums;
  for (int i = 0; i < M; i++)
    for (int v = 0; v < VECS; v++) sums.at[i][v] = vec{};
  multiply_add<M>(sums, A, ai, ak, B, bk, n);
  for (int i = 0; i < M; i++)
    for (int v = 0; v < VECS; v++) {
      float* to = C + i * ldc + v * LANES;
      store(to, add ? load(to) + sums.at[i][v] : sums.at[i][v]);
    }
}

template <int M>
static inline void blocks_of(long m, const float* A, long ai, long ak, const float* B, long bk,
                             long n, float* C, long ldc, bool add) {
  if (m == M) return block<M>(A, ai, ak, B, bk, n, C, ldc, add);
  if constexpr (M > 1) blocks_of<M - 1>(m, A, ai, ak, B, bk, n, C, ldc, add);
}

// C (m, PANEL) = or += A (m, n) times B (n, PANEL): blocks of nearly the same number of rows, as one of
// a single row would be slow.
static inline void product(long m, const float* A, long ai, long ak, const float* B, long bk,
                           long n, float* C, long ldc, bool add) {
  const long blocks = ceil_div(m, ROWS);
  for (long b = 0, from = 0, to; b < blocks; b++, from = to) {
    to = m * (b + 1) / blocks;
    blocks_of<ROWS>(to - from, A + from * ai, ai, ak, B, bk, n, C + from * ldc, ldc, add);
  }
}

}  // namespace unetcu::UNETCU_ISA
