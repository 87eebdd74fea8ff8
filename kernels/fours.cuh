// fours.cuh: rows of numbers in global memory, four at a time where that is possible.
//
// One access of four numbers takes a quarter of the instructions of four accesses. It needs an
// address that is a multiple of their size: every array starts at a multiple of 16 bytes (launches
// are checked for it), so its rows do if their length is a multiple of 4. `fours` says that; `left`
// is how many numbers are left in the row, 0 or less if p lies behind its end.
#pragma once
#include "real.cuh"

// Four at once.
__device__ __forceinline__ float4 load_four(const float* p) {
  return *reinterpret_cast<const float4*>(p);
}
__device__ __forceinline__ void store_four(float* p, float a, float b, float c, float d) {
  *reinterpret_cast<float4*>(p) = make_float4(a, b, c, d);
}
#if defined FORMAT_BF16 || defined FORMAT_FP16
struct alignas(8) Real4 {
  real x, y, z, w;
};
__device__ __forceinline__ float4 load_four(const real* p) {
  const Real4 v = *reinterpret_cast<const Real4*>(p);
  return make_float4(v.x, v.y, v.z, v.w);
}
__device__ __forceinline__ void store_four(real* p, float a, float b, float c, float d) {
  const real v[4] = {a, b, c, d};  // packed, or the compiler would make four stores of them
  unsigned long long packed = 0;
  for (int i = 0; i < 4; ++i) packed |= static_cast<unsigned long long>(v[i].bits) << 16 * i;
  *reinterpret_cast<unsigned long long*>(p) = packed;
}
#endif

// p[0..3]; zero for what is not left. Nothing outside the row is read.
template <class T>
__device__ __forceinline__ float4 load4(const T* p, int left, bool fours) {
  float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  if (fours) {
    if (left > 0) v = load_four(p);
  } else {
    if (left > 0) v.x = p[0];
    if (left > 1) v.y = p[1];
    if (left > 2) v.z = p[2];
    if (left > 3) v.w = p[3];
  }
  return v;
}

// dy[at..at+3]; with relu only where y > 0, and a plain 0 elsewhere (also where dy or y is NaN).
__device__ __forceinline__ float4 load4_gated(const real* dy, const real* y, long long at, int left,
                                              bool fours, int relu) {
  float4 g = load4(dy + at, left, fours);
  if (relu) {
    const float4 open = load4(y + at, left, fours);
    g.x = open.x > 0.0f ? g.x : 0.0f;
    g.y = open.y > 0.0f ? g.y : 0.0f;
    g.z = open.z > 0.0f ? g.z : 0.0f;
    g.w = open.w > 0.0f ? g.w : 0.0f;
  }
  return g;
}

// p[0..3] = from[0..3], as far as they are left.
template <class T>
__device__ __forceinline__ void store4(T* p, const float* from, int left, bool fours) {
  if (fours) {
    if (left > 0) store_four(p, from[0], from[1], from[2], from[3]);
  } else {
    if (left > 0) p[0] = from[0];
    if (left > 1) p[1] = from[1];
    if (left > 2) p[2] = from[2];
    if (left > 3) p[3] = from[3];
  }
}

// to[0..3] = v, in registers.
__device__ __forceinline__ void unpack(float* to, float4 v) {
  to[0] = v.x;
  to[1] = v.y;
  to[2] = v.z;
  to[3] = v.w;
}
