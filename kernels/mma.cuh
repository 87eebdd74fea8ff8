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
#include "fours.cuh"
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
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
#if defined FORMAT_TF32
      v[i] = tf32_of(__uint_as_float(v[i]));
#elif defined FORMAT_TF32X3
      // High to the nearest, by hand: cvt takes five instructions. Of NaN it may make a number, but
      // then low is NaN. mma itself ignores the last bits of low.
      const float whole = __uint_as_float(v[i]);
      v[i] = (v[i] + 0x1000) & 0xffffe000;
      low[i] = __float_as_uint(whole - __uint_as_float(v[i]));
#endif
    }
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

#ifdef FORMAT_TF32X3
constexpr int AT_ONCE = 4;  // tiles of 8 columns whose factors are in registers: twice as large
#else
constexpr int AT_ONCE = 8;
#endif

// Rows in shared memory are longer than what they hold, by so many pieces that the eight that
// ldmatrix takes from eight rows, or the floats of four rows that a load takes, lie in all 32 banks.
constexpr int PITCH = PIECES + 1;         // of a row of DEPTH numbers
constexpr int LONGER = sizeof(real) / 2;  // by as many pieces a row of 64 or 128 numbers

// The factors for COUNT tiles of 8 columns of B, over a step.
//
// b   TURNED: column 0 of B at the step's depth, a row of PITCH pieces; else the step's first row
//     of B, rows of `row_b` pieces
template <bool TURNED, int COUNT>
__device__ __forceinline__ void take_columns(Factor<2> (&f)[COUNT], const uint4* b, int row_b) {
  const int lane = threadIdx.x % 32;
  static_assert(COUNT % 2 == 0, "two tiles at a time");
#pragma unroll
  for (int j = 0; j < COUNT; j += 2) {
    unsigned four[4];
    if (TURNED) {
      ldmatrix_x4(four, b + (8 * j + lane % 8 + lane / 16 * 8) * PITCH + lane / 8 % 2);
    } else if (sizeof(real) == 2) {
      ldmatrix_x4_trans(four, b + lane % 16 * row_b + j + lane / 16);
    } else {  // there is no such instruction for floats
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const uint4* row = b + (lane % 4 + e % 2 * 4) * row_b;
        four[e] = reinterpret_cast<const unsigned*>(row)[8 * (j + e / 2) + lane / 4];
      }
    }
#pragma unroll
    for (int e = 0; e < 4; ++e) f[j + e / 2].v[e % 2] = four[e];
    f[j].round();
    f[j + 1].round();
  }
}

// The same for one tile, not TURNED.
__device__ __forceinline__ void take_column(Factor<2>& f, const uint4* b, int row_b) {
  const int lane = threadIdx.x % 32;
  if (sizeof(real) == 2) {
    ldmatrix_x2_trans(f.v, b + lane % 16 * row_b);
  } else {
#pragma unroll
    for (int e = 0; e < 2; ++e)
      f.v[e] = reinterpret_cast<const unsigned*>(b + (lane % 4 + 4 * e) * row_b)[lane / 4];
  }
  f.round();
}

// The factor for 16 rows of A, stored turned: a is the first of the step's columns of A, in rows of
// `row_a` pieces.
__device__ __forceinline__ void take_rows_turned(Factor<4>& f, const uint4* a, int row_a) {
  const int lane = threadIdx.x % 32;
  if (sizeof(real) == 2) {
    ldmatrix_x4_trans(f.v, a + (lane % 8 + lane / 16 * 8) * row_a + lane / 8 % 2);
  } else {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const uint4* column = a + (lane % 4 + e / 2 * 4) * row_a;
      f.v[e] = reinterpret_cast<const unsigned*>(column)[lane / 4 + e % 2 * 8];
    }
  }
  f.round();
}

// sum (16 ROWS by 8 COLUMNS) += A B over DEPTH numbers, by a warp.
//
// a   piece 0 of the row lane % 16 of A, and so on in steps of `next_a` pieces for the next 16 rows
// b   as above, of the first step
template <bool TURNED, int ROWS, int COLUMNS>
__device__ __forceinline__ void add_chunk(float (&sum)[ROWS][COLUMNS][4], const uint4* a,
                                          int next_a, const uint4* b, int row_b) {
#pragma unroll
  for (int half = 0; half < 2; ++half)
#pragma unroll
    for (int first = 0; first < COLUMNS; first += AT_ONCE) {
      Factor<2> f[AT_ONCE];
      if (TURNED)
        take_columns<true>(f, b + 8 * first * PITCH + 2 * half, 0);
      else
        take_columns<false>(f, b + 2 * half * PIECE * row_b + 8 * first / PIECE, row_b);
#pragma unroll
      for (int i = 0; i < ROWS; ++i) {
        Factor<4> rows;
        ldmatrix_x4(rows.v, a + i * next_a + 2 * half + threadIdx.x % 32 / 16);
        rows.round();
#pragma unroll
        for (int j = 0; j < AT_ONCE; ++j) add_product(sum[i][first + j], rows, f[j]);
      }
    }
}

// v: the four sums in row lane / 4 + 4 below of 16 rows (below 0 or 2) and 8 (j + odd) + lane % 4 / 2
// * 4 of the columns and the next three, odd = lane % 2, for even j. A lane holds two neighbouring
// columns of each tile of 8; neighbours exchange halves, so that each has four side by side, and
// four lanes 32 bytes or more of a row. For all lanes together.
template <int COLUMNS>
__device__ __forceinline__ void exchange(float (&v)[4], const float (&sum)[COLUMNS][4], int below,
                                         int j) {
  const bool odd = threadIdx.x % 2;
#pragma unroll
  for (int e = 0; e < 2; ++e) {
    const float a = sum[j][below + e], c = sum[j + 1][below + e];
    const float got = __shfl_xor_sync(~0u, odd ? a : c, 1);
    v[e] = odd ? got : a;
    v[2 + e] = odd ? c : got;
  }
}

// Hands out what a warp has summed: use(i, row, column, v) for the four sums v in row `row` of the
// i-th 16, from `column` on.
template <int ROWS, int COLUMNS, class Use>
__device__ __forceinline__ void each_four(const float (&sum)[ROWS][COLUMNS][4], Use use) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int i = 0; i < ROWS; ++i)
#pragma unroll
    for (int below = 0; below < 4; below += 2)
#pragma unroll
      for (int j = 0; j < COLUMNS; j += 2) {
        float v[4];
        exchange(v, sum[i], below, j);
        use(i, lane / 4 + 4 * below, 8 * (j + lane % 2) + lane % 4 / 2 * 4, v);
      }
}

// out[0..3] = v + b; with relu what is negative becomes 0; with a gate what it does not let through.
__device__ __forceinline__ void finish(real* out, float (&v)[4], const float* b, const real* gate,
                                       int relu) {
  float open[4] = {}, bias[4] = {};
  if (b) unpack(bias, load4(b, 4, true));
  if (gate) unpack(open, load4(gate, 4, true));
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    v[j] += bias[j];
    if ((relu && v[j] < 0.0f) || (gate && !(open[j] > 0.0f))) v[j] = 0.0f;
  }
  store4(out, v, 4, true);
}
