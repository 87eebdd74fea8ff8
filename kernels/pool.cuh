// pool.cuh: the 2x2 max-pool of what a tensor-core kernel makes, in passing: as maxpool2.cu makes it.
#pragma once
#include "fours.cuh"
#include "real.cuh"

struct Pool {
  real* y;                // (N,P/2,Q/2,M), or null: no pool
  unsigned char* winner;  // the place of the largest: 0 to 3, in row order

  // above, below: four channels m.. of the pixels (p, q) and (p + 1, q), p even, as they are stored;
  // lane + 4 (or - 4) has those of the pixel beside it. For all lanes of a warp together.
  __device__ __forceinline__ void put(const float (&above)[4], const float (&below)[4], int n, int p,
                                      int q, int m, int P, int Q, int M) const {
    float most[4];
    int first[4] = {};
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const float a = real(above[e]), c = real(below[e]);
      const float v[] = {a, __shfl_xor_sync(~0u, a, 4), c, __shfl_xor_sync(~0u, c, 4)};
      most[e] = a;
#pragma unroll
      for (int place = 1; place < 4; ++place)
        if (!(v[place] <= most[e]) && most[e] == most[e]) {  // larger, or the first NaN
          most[e] = v[place];
          first[e] = place;
        }
    }
    if (q % 2 || p >= P || q >= Q || m >= M) return;
    const long long at = (((long long)n * (P / 2) + p / 2) * (Q / 2) + q / 2) * M + m;
    store4(y + at, most, 4, true);
    *reinterpret_cast<uchar4*>(winner + at) = make_uchar4(first[0], first[1], first[2], first[3]);
  }
};
