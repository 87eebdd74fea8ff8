// pool.cuh: the 2x2 max-pool of what a tensor-core kernel makes, in passing: as maxpool2.cu makes it.
#pragma once
#include "fours.cuh"
#include "real.cuh"

struct Pool {
  real* y;                // (N,P/2,Q/2,M), or null: no pool
  unsigned char* winner;  // the place of the largest: 0 to 3, in row order

  // Four channels m.. of the pixels (p, q), (p, q + 1), (p + 1, q), (p + 1, q + 1), not yet
  // rounded; p and q are even.
  __device__ __forceinline__ void put(const float (&v)[4][4], int n, int p, int q, int m, int P,
                                      int Q, int M) const {
    float most[4];
    int first[4] = {};
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      most[e] = real(v[0][e]);
#pragma unroll
      for (int place = 1; place < 4; ++place) {
        const float value = real(v[place][e]);
        if (!(value <= most[e]) && most[e] == most[e]) {  // larger, or the first NaN
          most[e] = value;
          first[e] = place;
        }
      }
    }
    if (p + 1 >= P || q + 1 >= Q || m >= M) return;
    const long long at = (((long long)n * (P / 2) + p / 2) * (Q / 2) + q / 2) * M + m;
    store4(y + at, most, 4, true);
    *reinterpret_cast<uchar4*>(winner + at) = make_uchar4(first[0], first[1], first[2], first[3]);
  }
  // The same of the pixels above, (p, q), and below it; lane + 4 (or - 4) has those beside them. For
  // all lanes of a warp together.
  __device__ __forceinline__ void put_beside(const float (&above)[4], const float (&below)[4], int n,
                                             int p, int q, int m, int P, int Q, int M) const {
    float v[4][4];
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      v[0][e] = above[e];
      v[1][e] = __shfl_xor_sync(~0u, above[e], 4);
      v[2][e] = below[e];
      v[3][e] = __shfl_xor_sync(~0u, below[e], 4);
    }
    if (q % 2 == 0) put(v, n, p, q, m, P, Q, M);
  }
};
