// product.cuh: a matrix product, a tile of the result at a time. matmul and upconv2 are made of it.
//
//   y[m,n] = sum over r of a(m,r) b(r,n)          m < M, n < N, from <= r < to
//
// a, b    functions that read one element; called for indices inside these limits only.
// store   a function (m, n, sum), called once for each element of the tile that exists.
//
// Threads 256 a block, 16 x 16; each holds PER x PER sums in registers, PER = TILE / 16, of
//         neighbouring rows and columns: PER + PER numbers from shared memory feed PER * PER
//         multiplications.
// Shared  a chunk of both factors, CHUNK x (TILE + PAD) floats each: 8704 bytes at TILE 64. Rows
//         are padded to 16-byte multiples that differ by 4 banks, so a transposing store by
//         16 threads meets a bank at most twice and float4 loads stay aligned.
// Order   every sum runs over r upwards, wherever its element lies in the tile: the same pixel gets
//         the same bits in a tile and in the whole image.
#pragma once

constexpr int CHUNK = 16;
constexpr int SIDE = 16;                // of the square of threads
constexpr int PAD = 4;                  // floats
enum Nearest { ROW_NEAREST, R_NEAREST };  // neighbours in memory differ in m (or n), or in r

// tile[r][m] = element(m0 + m, r0 + r), 0 outside. Neighbouring threads read neighbours in memory.
template <int TILE, Nearest NEAREST, class Element>
__device__ inline void load_tile(float (&tile)[CHUNK][TILE + PAD], Element element, int m0, int M,
                                 int r0, int to) {
  for (int step = 0; step < CHUNK * TILE; step += SIDE * SIDE) {
    const int i = step + threadIdx.x;
    const int r = NEAREST == R_NEAREST ? i % CHUNK : i / TILE;
    const int m = NEAREST == R_NEAREST ? i / CHUNK : i % TILE;
    tile[r][m] = m0 + m < M && r0 + r < to ? float(element(m0 + m, r0 + r)) : 0.0f;
  }
}

template <int TILE, Nearest A_NEAREST, Nearest B_NEAREST, class A, class B, class Store>
__device__ inline void tile_product(int m0, int M, int n0, int N, int from, int to, A a, B b,
                                    Store store) {
  constexpr int PER = TILE / SIDE;
  __shared__ __align__(16) float as[CHUNK][TILE + PAD];
  __shared__ __align__(16) float bs[CHUNK][TILE + PAD];
  const int row = threadIdx.x / SIDE * PER, column = threadIdx.x % SIDE * PER;
  float sum[PER][PER] = {};
  for (int r0 = from; r0 < to; r0 += CHUNK) {
    load_tile<TILE, A_NEAREST>(as, a, m0, M, r0, to);
    load_tile<TILE, B_NEAREST>(bs, [&](int n, int r) { return b(r, n); }, n0, N, r0, to);
    __syncthreads();  // waits for the chunk: each thread goes on to read what others have loaded
    for (int r = 0; r < CHUNK; ++r)
      for (int i = 0; i < PER; ++i)
        for (int j = 0; j < PER; ++j) sum[i][j] += as[r][row + i] * bs[r][column + j];
    __syncthreads();  // waits until all have used the chunk: the next one overwrites it
  }
  for (int i = 0; i < PER; ++i)
    for (int j = 0; j < PER; ++j) {
      const int m = m0 + row + i, n = n0 + column + j;
      if (m < M && n < N) store(m, n, sum[i][j]);
    }
}
