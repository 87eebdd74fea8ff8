// winograd_tiles.h: the five linear maps of Winograd F(4x4,3x3), and the tiles they work on.
//
// In one dimension, F(4,3) makes 4 outputs of a correlation with 3 taps from 6 inputs by 6
// multiplications instead of 12:  y = At ((G g) . (Bt d)).  Products of polynomials of degree 3
// and 2, evaluated at six points and interpolated: kernels/cpu/README.md derives it. The points
// are 0, +-1/sqrt 2, +-sqrt 2 and infinity, which halves the rounding error of 0, +-1, +-2,
// infinity. In two dimensions each map is applied along columns, then along rows.
//
// Each function works on vectors of LANES channels at once. A 0 in a matrix is a term left out,
// not a product: so a NaN at one pixel reaches 25 outputs at most, and the borders of a patch
// only the outputs that see them.
#pragma once

#include "vec.h"
#include "view.h"

namespace unetcu::UNETCU_ISA {

constexpr float R2 = 1.41421356f, HALF_R2 = 0.70710678f, THIRD = 1.f / 3;  // sqrt 2, its half

// The loops below have few, constant turns: unrolled, their arrays are registers.
#ifdef __clang__
#define UNETCU_UNROLL _Pragma("unroll")
#else
#define UNETCU_UNROLL _Pragma("GCC unroll 6")
#endif

// A map of N numbers to M, N x N vectors: along columns, then along rows. in(i, j) gives row i,
// column j, once; out(i, j, value) takes the results. What lies between stays in registers, as far
// as there are any: storing it would take longer than computing it.
template <class Map, class In, class Out>
static inline __attribute__((always_inline)) void both_ways(const In& in, const Out& out) {
  constexpr int N = Map::N, M = Map::M;
  vec half[M][N];
  UNETCU_UNROLL for (int j = 0; j < N; j++) {
    vec column[N], mapped[M];
    UNETCU_UNROLL for (int i = 0; i < N; i++) column[i] = in(i, j);
    Map::map(column, mapped);
    UNETCU_UNROLL for (int i = 0; i < M; i++) half[i][j] = mapped[i];
  }
  UNETCU_UNROLL for (int i = 0; i < M; i++) {
    vec mapped[M];
    Map::map(half[i], mapped);
    UNETCU_UNROLL for (int j = 0; j < M; j++) out(i, j, mapped[j]);
  }
}

struct InputMap {  // d -> Bt d
  static constexpr int N = 6, M = 6;
  static inline void map(const vec* d, vec* v) {
    const vec a = d[4] - 2 * d[2], b = HALF_R2 * d[3] - R2 * d[1];
    const vec c = d[4] - 0.5f * d[2], e = R2 * d[3] - HALF_R2 * d[1];
    v[0] = d[0] - 2.5f * d[2] + d[4];
    v[1] = a + b;
    v[2] = a - b;
    v[3] = c + e;
    v[4] = c - e;
    v[5] = d[1] - 2.5f * d[3] + d[5];
  }
};

struct FilterMap {  // g -> G g
  static constexpr int N = 3, M = 6;
  static inline void map(const vec* g, vec* u) {
    const vec a = -2 * THIRD * g[0] - THIRD * g[2], b = (-2 * THIRD * HALF_R2) * g[1];
    const vec c = (THIRD / 2) * g[0] + THIRD * g[2], e = (R2 * THIRD / 2) * g[1];
    u[0] = g[0];
    u[1] = a + b;
    u[2] = a - b;
    u[3] = c + e;
    u[4] = c - e;
    u[5] = g[2];
  }
};

struct OutputMap {  // m -> At m
  static constexpr int N = 6, M = 4;
  static inline void map(const vec* m, vec* y) {
    const vec p = m[1] + m[2], q = HALF_R2 * (m[1] - m[2]);
    const vec u = m[3] + m[4], v = R2 * (m[3] - m[4]);
    y[0] = m[0] + p + u;
    y[1] = q + v;
    y[2] = 0.5f * p + 2 * u;
    y[3] = 0.5f * q + 2 * v + m[5];
  }
};

struct OutputAdjoint {  // gradients of outputs: dy -> A dy
  static constexpr int N = 4, M = 6;
  static inline void map(const vec* y, vec* m) {
    const vec a = y[0] + 0.5f * y[2], b = HALF_R2 * (y[1] + 0.5f * y[3]);
    const vec c = y[0] + 2 * y[2], e = R2 * (y[1] + 2 * y[3]);
    m[0] = y[0];
    m[1] = a + b;
    m[2] = a - b;
    m[3] = c + e;
    m[4] = c - e;
    m[5] = y[3];
  }
};

struct FilterAdjoint {  // gradients of U: du -> Gt du
  static constexpr int N = 6, M = 3;
  static inline void map(const vec* u, vec* g) {
    const vec p = u[1] + u[2], q = u[1] - u[2];
    const vec r = u[3] + u[4], t = u[3] - u[4];
    g[0] = u[0] - 2 * THIRD * p + (THIRD / 2) * r;
    g[1] = (R2 * THIRD / 2) * t - (2 * THIRD * HALF_R2) * q;
    g[2] = THIRD * (r - p) + u[5];
  }
};

// The 4 x 4 tiles of an array (N,H,W,.), numbered image by image, row by row.
struct Tiles {
  int high, wide;
  long total;

  explicit Tiles(const View& v)
      : high(int(ceil_div(v.H, 4))), wide(int(ceil_div(v.W, 4))), total(long(v.N) * high * wide) {}

  struct Place {
    int n, y, x;  // image, and the tile's first row and column
  };
  Place at(long tile) const {
    const long row = tile / wide;
    return {int(row / high), int(row % high) * 4, int(tile % wide) * 4};
  }
};

// Asks for the pixels of a tile: rows and columns `from` to `to` of its patch, for the L2 cache. The
// machine itself cannot guess them: six rows at a time, of which a tile takes a few pixels each.
static inline void fetch(const View& v, const Tiles& tiles, long tile, int from, int to) {
  const auto [n, y, x] = tiles.at(tile);
  const long bytes = (to - from) * v.w * long(sizeof(float));
  const int left = larger(0, smaller(x + from, v.W - (to - from)));
  for (int i = larger(0, y + from); i < smaller(v.H, y + to); i++) {
    const char* p = (const char*)v.at(n, i, left);
    for (long b = 0; b < bytes; b += 64) __builtin_prefetch(p + b, 0, 2);
  }
  asm volatile("");  // GCC drops calls of a function that does nothing else
}

// Tiles whose data will be needed soon; while other things are worked on, step i of n asks for a
// share of them.
struct Soon {
  long from, to;

  template <class Ask>
  void step(long i, long n, const Ask& ask) const {
    for (long t = from + (to - from) * i / n; t < from + (to - from) * (i + 1) / n; t++) ask(t);
  }
  Soon part(long i, long n) const {
    return {from + (to - from) * i / n, from + (to - from) * (i + 1) / n};
  }
};

// What a tile reads: SIZE x SIZE pixels x LANES channels, and their gate.
struct Patch {
  const float *data, *gate;  // no gate: none
  long h, w, gate_h, gate_w;

  vec at(int i, int j) const { return load(data + i * h + j * w); }
  vec gated(int i, int j) const {
    return UNETCU_ISA::gate(at(i, j), load(gate + i * gate_h + j * gate_w) > vec{});
  }
};

// Those from pixel (y, x) and channel c on; 0 outside the array, and where there is a gate and it
// is not above 0. Where part of it lies outside, `room` (SIZE * SIZE) holds a copy.
template <int SIZE>
static inline Patch patch(const View& v, const View* closes, int n, int y, int x, int c,
                          vec* room) {
  const int channels = v.C - c;
  const float* p = v.at(n, y, x) + c;
  const float* q = closes ? closes->at(n, y, x) + c : nullptr;
  if (y >= 0 && y + SIZE <= v.H && x >= 0 && x + SIZE <= v.W && channels >= LANES)
    return {p, q, v.h, v.w, closes ? closes->h : 0, closes ? closes->w : 0};
  for (int i = 0; i < SIZE * SIZE; i++) room[i] = vec{};
  const int top = larger(0, -y), bottom = smaller(SIZE, v.H - y);
  const int left = larger(0, -x), right = smaller(SIZE, v.W - x);
  for (int i = top; i < bottom; i++)
    for (int j = left; j < right; j++) {
      vec& d = room[i * SIZE + j];
      d = load(p + i * v.h + j * v.w, channels);
      if (q) d = gate(d, load(q + i * closes->h + j * closes->w, channels) > vec{});
    }
  return {(const float*)room, nullptr, SIZE * LANES, LANES, 0, 0};
}

// A patch, transformed by Map, to planes `stride` floats apart. Not inlined: in a loop, the compiler
// would work out all 36 addresses beforehand, and run out of registers.
template <class Map>
static __attribute__((noinline)) void transform(const float* data, long h, long w, float* to,
                                                long stride) {
  both_ways<Map>([=](int i, int j) { return load(data + i * h + j * w); },
                 [=](int i, int j, vec v) { store(to + (i * Map::M + j) * stride, v); });
}

template <class Map>
static __attribute__((noinline)) void transform_gated(const Patch& d, float* to, long stride) {
  both_ways<Map>([=](int i, int j) { return d.gated(i, j); },
                 [=](int i, int j, vec v) { store(to + (i * Map::M + j) * stride, v); });
}

template <class Map>
static inline void transform(const Patch& d, float* to, long stride) {
  d.gate ? transform_gated<Map>(d, to, stride) : transform<Map>(d.data, d.h, d.w, to, stride);
}

}  // namespace unetcu::UNETCU_ISA
