// crop_concat.cu: the centre of a skip map and an up-sampled map side by side, and back.
//
//   y[n,i,j,:S] = skip[n, i+top, j+left, :]       y[n,i,j,S:] = x[n,i,j,:]
//   dskip = dy[..., :S] in the centre, 0 where it was cropped away       dx = dy[..., S:]
//
// Shapes   skip, dskip (N,Hs,Ws,S)   x, dx (N,H,W,C)   y, dy (N,H,W,S+C), the last index fastest;
//          top = (Hs - H) / 2, left = (Ws - W) / 2, both differences even.
// Threads  one an element that is written: neighbours read and write neighbours.
// Cost     8 bytes an element: memory-bound. (A convolution that reads two sources saves it all.)
//
// Launched by unetcu/ops/crop_concat.py. Tested by tests/ops/test_crop_concat.py.
#include "common.cuh"
#include "real.cuh"

extern "C" __global__ void crop_concat_forward(const real* __restrict__ skip,
                                               const real* __restrict__ x, real* __restrict__ y,
                                               unsigned count, int Hs, int Ws, int S, int H, int W,
                                               int C) {
  const long long i = thread_index();
  if (i >= count) return;
  const int channel = static_cast<unsigned>(i) % (S + C);
  const unsigned p = static_cast<unsigned>(i) / (S + C), j = p % W, row = p / W;
  const long long above = static_cast<long long>(row / H) * Hs + row % H + (Hs - H) / 2;
  if (channel < S)
    y[i] = skip[(above * Ws + j + (Ws - W) / 2) * S + channel];
  else
    y[i] = x[static_cast<long long>(p) * C + channel - S];
}

// One thread an element of dskip; those outside the centre write the zeros.
extern "C" __global__ void crop_concat_backward_skip(const real* __restrict__ dy,
                                                     real* __restrict__ dskip, unsigned count,
                                                     int Hs, int Ws, int S, int H, int W, int C) {
  const long long i = thread_index();
  if (i >= count) return;
  const unsigned channel = static_cast<unsigned>(i) % S, p = static_cast<unsigned>(i) / S;
  const unsigned n = p / Ws / Hs;
  const int row = p / Ws % Hs - (Hs - H) / 2, column = p % Ws - (Ws - W) / 2;
  const bool centre = 0 <= row && row < H && 0 <= column && column < W;
  const long long pixel = (static_cast<long long>(n) * H + row) * W + column;
  dskip[i] = centre ? dy[pixel * (S + C) + channel] : real(0.0f);
}

// One thread an element of dx.
extern "C" __global__ void crop_concat_backward_x(const real* __restrict__ dy,
                                                  real* __restrict__ dx, unsigned count, int S,
                                                  int C) {
  const long long i = thread_index();
  if (i >= count) return;
  const unsigned channel = static_cast<unsigned>(i) % C, p = static_cast<unsigned>(i) / C;
  dx[i] = dy[static_cast<long long>(p) * (S + C) + S + channel];
}

// One thread an element of dskip: zero outside the centre, which conv3x3_mma has written.
extern "C" __global__ void crop_concat_border(real* __restrict__ dskip, unsigned count, int Hs,
                                              int Ws, int S, int H, int W) {
  const long long i = thread_index();
  if (i >= count) return;
  const unsigned p = static_cast<unsigned>(i) / S;
  const int row = p / Ws % Hs - (Hs - H) / 2, column = p % Ws - (Ws - W) / 2;
  if (row < 0 || row >= H || column < 0 || column >= W) dskip[i] = 0.0f;
}
