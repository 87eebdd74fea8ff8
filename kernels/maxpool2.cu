// maxpool2.cu: 2x2 max-pool with stride 2, forward and backward.
//
//   y[n,i,j,c] = max over (a,e) in {0,1}^2 of x[n, 2i+a, 2j+e, c]
//   dx         = so_far + (dy where x was that maximum, in row order the first of equals, else 0)
//
// so_far is the gradient that x has got from elsewhere (in the network from the skip connection, of
// its centre: what is not there counts as 0); gated: x was made by a ReLU, and dx is 0 where not
// x > 0. Both may be absent.
//
// Shapes   x, dx (N,2H,2W,C)   so_far (N,Hs,Ws,C), the centre of such a map   y, dy, winner
//          (N,H,W,C), C fastest. winner is 2 a + e, a byte.
// Threads  one for each four channels of y; neighbours read neighbours. Windows do not overlap:
//          each element of dx has one writer, and dx needs no zeros before.
// Cost     of fp32 21 bytes an element of y forward; backward 21, with so_far and gate 53; of 16
//          bits half as much: memory-bound. The byte spares backward the comparisons.
//
// Launched by unetcu/ops/maxpool2.py. Tested by tests/ops/test_maxpool2.py.
#include "common.cuh"
#include "fours.cuh"
#include "real.cuh"

// What a thread has: channels c..c+3 of a window.
struct Window {
  int c, left;     // left: of its four channels so many are there
  bool fours;      // as fours.cuh wants it
  long long at;    // in y: element of channel c
  long long corner, row, column;  // in x: of the window's first pixel, and the steps to the others

  __device__ __forceinline__ Window(unsigned i, int W, int C) {
    const unsigned groups = (C + 3) / 4, pixel = i / groups, j = pixel % W;
    c = i % groups * 4;
    left = C - c;
    fours = C % 4 == 0;
    at = static_cast<long long>(pixel) * C + c;
    // In row 2 r of x, if r = n H + i is the row in y: (2 r) 2W + 2 j = 4 (r W + j) - 2 j pixels.
    corner = (4LL * pixel - 2LL * j) * C + c;
    row = 2LL * W * C;
    column = C;
  }
  __device__ __forceinline__ long long place(int k) const {
    return corner + k / 2 * row + k % 2 * column;
  }
};

__device__ __forceinline__ void load_fours(float* to, const real* x, long long at, const Window& w) {
  unpack(to, load4(x + at, w.left, w.fours));
}

extern "C" __global__ void maxpool2_forward(const real* __restrict__ x, real* __restrict__ y,
                                            unsigned char* __restrict__ winner, unsigned count,
                                            int W, int C) {
  const long long i = thread_index();
  if (i >= count) return;
  const Window w(i, W, C);
  float best[4], v[4];
  int first[4] = {};
  load_fours(best, x, w.place(0), w);
  for (int k = 1; k < 4; ++k) {
    load_fours(v, x, w.place(k), w);
    for (int j = 0; j < 4; ++j)
      if (!(v[j] <= best[j]) && best[j] == best[j]) {  // v is larger, or the first NaN
        best[j] = v[j];
        first[j] = k;
      }
  }
  store4(y + w.at, best, w.left, w.fours);
  for (int j = 0; j < 4; ++j)
    if (j < w.left) winner[w.at + j] = first[j];
}

// so_far is read only if it has a size (Hs), x only if `gated`.
extern "C" __global__ void maxpool2_backward(const real* __restrict__ dy,
                                             const unsigned char* __restrict__ winner,
                                             const real* __restrict__ so_far,
                                             const real* __restrict__ x, real* __restrict__ dx,
                                             unsigned count, int H, int W, int C, int Hs, int Ws,
                                             int gated) {
  const long long i = thread_index();
  if (i >= count) return;
  const Window w(i, W, C);
  float g[4], v[4], open[4];
  int first[4] = {};
  load_fours(g, dy, w.at, w);
  for (int j = 0; j < 4; ++j)
    if (j < w.left) first[j] = winner[w.at + j];
  const unsigned pixel = static_cast<unsigned>(i) / ((C + 3) / 4), line = pixel / W;
  const int i_of = line % H, j_of = pixel % W;
  const long long image = line / H;
  for (int k = 0; k < 4; ++k) {
    for (int j = 0; j < 4; ++j) v[j] = open[j] = 0.0f;
    const int row = 2 * i_of + k / 2 - (2 * H - Hs) / 2, column = 2 * j_of + k % 2 - (2 * W - Ws) / 2;
    if (0 <= row && row < Hs && 0 <= column && column < Ws)
      load_fours(v, so_far, ((image * Hs + row) * Ws + column) * C + w.c, w);
    if (gated) load_fours(open, x, w.place(k), w);
    for (int j = 0; j < 4; ++j) {
      if (first[j] == k) v[j] += g[j];
      if (gated && !(open[j] > 0.0f)) v[j] = 0.0f;
    }
    store4(dx + w.place(k), v, w.left, w.fours);
  }
}
