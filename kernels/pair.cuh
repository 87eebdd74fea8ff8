// pair.cuh: an image whose first S channels are the centre of a skip map and the others those of
// another image: what crop_concat makes, read and written where it lies. S = 0: one image.
#pragma once

template <class T>
struct Pair {
  T* skip;  // (N,Hs,Ws,S)
  T* x;     // (N,H,W,C-S)
  int S, Hs, Ws, H, W, C;

  // Where channel c of pixel (n, h, v) lies. Pieces must not cross S: it is a multiple of PIECE.
  __device__ __forceinline__ T* at(int n, int h, int v, int c) const {
    if (c >= S) return x + (((long long)n * H + h) * W + v) * (C - S) + c - S;
    const int top = (Hs - H) / 2, left = (Ws - W) / 2;
    return skip + (((long long)n * Hs + h + top) * Ws + v + left) * S + c;
  }
  // From there to the same channel of the pixel below.
  __device__ __forceinline__ long long row(int c) const {
    return c < S ? (long long)Ws * S : (long long)W * (C - S);
  }
};
