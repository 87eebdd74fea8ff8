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

// Inputs: d (6) -> Bt d (6), in place; `s` from one to the next.
static inline void input_transform(vec* d, int s) {
  const vec d0 = d[0], d1 = d[s], d2 = d[2 * s], d3 = d[3 * s], d4 = d[4 * s], d5 = d[5 * s];
  const vec a = d4 - 2 * d2, b = HALF_R2 * d3 - R2 * d1;
  const vec c = d4 - 0.5f * d2, e = R2 * d3 - HALF_R2 * d1;
  d[0] = d0 - 2.5f * d2 + d4;
  d[s] = a + b;
  d[2 * s] = a - b;
  d[3 * s] = c + e;
  d[4 * s] = c - e;
  d[5 * s] = d1 - 2.5f * d3 + d5;
}

// Filters: g (3) -> G g (6); from g with stride o to u with stride s.
static inline void filter_transform(const vec* g, int o, vec* u, int s) {
  const vec g0 = g[0], g1 = g[o], g2 = g[2 * o];
  const vec a = -2 * THIRD * g0 - THIRD * g2, b = (-2 * THIRD * HALF_R2) * g1;
  const vec c = (THIRD / 2) * g0 + THIRD * g2, e = (R2 * THIRD / 2) * g1;
  u[0] = g0;
  u[s] = a + b;
  u[2 * s] = a - b;
  u[3 * s] = c + e;
  u[4 * s] = c - e;
  u[5 * s] = g2;
}

// Outputs: m (6) -> At m (4).
static inline void output_transform(const vec* m, int s, vec* y, int o) {
  const vec p = m[s] + m[2 * s], q = HALF_R2 * (m[s] - m[2 * s]);
  const vec u = m[3 * s] + m[4 * s], v = R2 * (m[3 * s] - m[4 * s]);
  y[0] = m[0] + p + u;
  y[o] = q + v;
  y[2 * o] = 0.5f * p + 2 * u;
  y[3 * o] = 0.5f * q + 2 * v + m[5 * s];
}

// The adjoint of output_transform: gradients of outputs (4) -> A dy (6).
static inline void output_adjoint(const vec* y, int o, vec* m, int s) {
  const vec y0 = y[0], y1 = y[o], y2 = y[2 * o], y3 = y[3 * o];
  const vec a = y0 + 0.5f * y2, b = HALF_R2 * (y1 + 0.5f * y3);
  const vec c = y0 + 2 * y2, e = R2 * (y1 + 2 * y3);
  m[0] = y0;
  m[s] = a + b;
  m[2 * s] = a - b;
  m[3 * s] = c + e;
  m[4 * s] = c - e;
  m[5 * s] = y3;
}

// The adjoint of filter_transform: du (6) -> Gt du (3).
static inline void filter_adjoint(const vec* u, int s, vec* g, int o) {
  const vec p = u[s] + u[2 * s], q = u[s] - u[2 * s];
  const vec r = u[3 * s] + u[4 * s], t = u[3 * s] - u[4 * s];
  g[0] = u[0] - 2 * THIRD * p + (THIRD / 2) * r;
  g[o] = (R2 * THIRD / 2) * t - (2 * THIRD * HALF_R2) * q;
  g[2 * o] = THIRD * (r - p) + u[5 * s];
}

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

// SIZE x SIZE pixels x LANES channels from pixel (y, x) and channel c on; 0 outside the array,
// and where there is a gate and it is not above 0.
template <int SIZE>
static inline void load_patch(const View& v, const View* closes, int n, int y, int x, int c,
                              vec* d) {
  const int channels = v.C - c;
  const bool inner = x >= 0 && x + SIZE <= v.W && channels >= LANES;
  for (int i = 0; i < SIZE; i++, d += SIZE) {
    if (y + i < 0 || y + i >= v.H) {
      for (int j = 0; j < SIZE; j++) d[j] = vec{};
      continue;
    }
    const float* p = v.at(n, y + i, x) + c;
    const float* q = closes ? closes->at(n, y + i, x) + c : nullptr;
    if (inner && !closes) {
      for (int j = 0; j < SIZE; j++) d[j] = load(p + j * v.w);
    } else if (inner) {
      for (int j = 0; j < SIZE; j++)
        d[j] = gate(load(p + j * v.w), load(q + j * closes->w) > vec{});
    } else {
      for (int j = 0; j < SIZE; j++) {
        d[j] = vec{};
        if (x + j < 0 || x + j >= v.W) continue;
        d[j] = load(p + j * v.w, channels);
        if (closes) d[j] = gate(d[j], load(q + j * closes->w, channels) > vec{});
      }
    }
  }
}

// The 6 x 6 inputs of a tile, transformed, to V[0..35], planes `stride` floats apart.
static inline void transform_inputs(const View& x, const View* closes, int n, int y, int column,
                                    int c, float* V, long stride) {
  vec d[36];
  load_patch<6>(x, closes, n, y, column, c, d);
  for (int j = 0; j < 6; j++) input_transform(d + j, 6);
  for (int i = 0; i < 6; i++) input_transform(d + 6 * i, 1);
  for (int k = 0; k < 36; k++) store(V + k * stride, d[k]);
}

}  // namespace unetcu::UNETCU_ISA
