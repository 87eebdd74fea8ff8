// maxpool2.cu: 2x2 max-pool with stride 2, forward and backward.
//
//   y[n,i,j,c] = max over (a,e) in {0,1}^2 of x[n, 2i+a, 2j+e, c]
//   dx         = dy where x was that maximum (in row order the first of equals), 0 elsewhere
//
// Shapes   x, dx (N,2H,2W,C)   y, dy, winner (N,H,W,C), C fastest. winner is 2 a + e, one byte.
// Threads  one an element of y; neighbours differ in c, so that each of the four loads of a warp
//          reads 32 neighbours. Windows do not overlap: each element of dx has one writer.
// Cost     21 bytes an element of y, forward and backward: memory-bound. The byte spares backward
//          the second reading of x.
//
// Launched by unetcu/ops/maxpool2.py. Tested by tests/ops/test_maxpool2.py.
#include "common.cuh"
#include "real.cuh"

// Where the window of element i of y begins in x: in row 2 r of x, if r = n H + i is i's row in y.
__device__ inline long long corner(unsigned i, int W, int C) {
  const unsigned c = i % C, pixel = i / C, j = pixel % W;
  return (4LL * pixel - 2LL * j) * C + c;  // (2 r) 2W + 2 j = 4 (r W + j) - 2 j pixels
}

extern "C" __global__ void maxpool2_forward(const real* __restrict__ x, real* __restrict__ y,
                                            unsigned char* __restrict__ winner, unsigned count,
                                            int W, int C) {
  const long long i = thread_index();
  if (i >= count) return;
  const real* window = x + corner(i, W, C);
  float best = window[0];
  int first = 0;
  for (int k = 1; k < 4; ++k) {
    const float v = window[(k / 2 * 2LL * W + k % 2) * C];
    if (!(v <= best) && best == best) {  // v is larger, or the first NaN
      best = v;
      first = k;
    }
  }
  y[i] = best;
  winner[i] = first;
}

// Writes all four places of a window: dx needs no zeros before.
extern "C" __global__ void maxpool2_backward(const real* __restrict__ dy,
                                             const unsigned char* __restrict__ winner,
                                             real* __restrict__ dx, unsigned count, int W, int C) {
  const long long i = thread_index();
  if (i >= count) return;
  real* window = dx + corner(i, W, C);
  for (int k = 0; k < 4; ++k)
    window[(k / 2 * 2LL * W + k % 2) * C] = k == winner[i] ? dy[i] : real(0.0f);
}
