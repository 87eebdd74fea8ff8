// sums.h: gradients of weights: sums over all pixels, in one order.
//
//   dw[i,k] = sum_p seen(p)[i] g[p,k]        db[k] = sum_p g[p,k]
//
// seen(p): the numbers that pixel p sees (filter.h). Here they are the rows of the micro-kernel's
// block, 16 columns of g its panel, and it walks over the pixels.
//
// Order    Chains of at most PIXELS pixels begin at 0 and are added up in their order, to the sum
//          of a slab; the slabs are added up in theirs. Chains and slabs depend on shapes alone.
// Parts    16 columns and a slab: some rows of pixels. A part's sums, 16 times what a pixel sees,
//          stay in the cache; with many columns one slab is enough to occupy all threads.
// Memory   the sums of all slabs, at most MOST floats if there is more than one.
#pragma once

#include "filter.h"

namespace unetcu::UNETCU_ISA {

constexpr long PIXELS = 64;
constexpr long PARTS = 48;  // enough to share evenly among a laptop's threads
constexpr long MOST = 4000000;

// to = g where y > 0 (all, without y), n floats.
static inline void gated(const float* g, const float* y, long n, float* to) {
  long i = 0;
  for (; i + LANES <= n; i += LANES)
    store(to + i, y ? gate(load(g + i), load(y + i) > vec{}) : load(g + i));
  for (; i < n; i++) to[i] = !y || y[i] > 0 ? g[i] : 0.0f;
}

// 16 columns of a row of g, `width` of them real, and their sum over the row added to `sum`.
static inline void pack_columns(const float* g, const float* y, long next_g, long next_y, long W,
                                int width, float* to, vec* sum) {
  for (long j = 0; j < W; j++)
    for (int v = 0; v < VECS; v++) {
      const int n = width - v * LANES;
      vec value = load(g + j * next_g + v * LANES, n);
      if (y) value = gate(value, load(y + j * next_y + v * LANES, n) > vec{});
      store(to + j * PANEL + v * LANES, value);
      sum[v] += value;
    }
}

// sums[i][:] += sum over H rows of W pixels of x[row, pixel][i] * g[row * W + pixel][:], M rows i.
template <int M>
static inline void sum_block(const float* x, long row, long next, const float* g, long H, long W,
                             float* to) {
  Sums<M> sums;
  for (int i = 0; i < M; i++)
    for (int v = 0; v < VECS; v++) sums.at[i][v] = vec{};
  for (long h = 0; h < H; h++)
    multiply_add<M>(sums, x + h * row, 1, next, g + h * W * PANEL, PANEL, W);
  for (int i = 0; i < M; i++)
    for (int v = 0; v < VECS; v++) {
      float* at = to + i * PANEL + v * LANES;
      store(at, load(at) + sums.at[i][v]);
    }
}

template <int M>
static inline void sum_some(long m, const float* x, long row, long next, const float* g, long H,
                            long W, float* to) {
  if (m == M) return sum_block<M>(x, row, next, g, H, W, to);
  if constexpr (M > 1) sum_some<M - 1>(m, x, row, next, g, H, W, to);
}

struct Slabs {
  long rows, count;  // image rows a slab, slabs
};

// Into how many slabs the pixels of g are split, if each pixel sees `terms` numbers.
static inline Slabs slabs(const View& g, long terms) {
  const long panels = ceil_div(g.C, PANEL), all = long(g.N) * g.H;
  long count = smaller(ceil_div(PARTS, panels), MOST / ((terms + 1) * panels * PANEL));
  count = smaller(count, ceil_div(all * g.W * (terms + 1) * PANEL, WORTH));
  const long rows = ceil_div(all, larger(count, 1L));
  return {larger(rows, 1L), ceil_div(all, larger(rows, 1L))};
}

static inline long slab_floats(const View& g, long terms) {
  return slabs(g, terms).count * ceil_div(g.C, PANEL) * (terms + 1) * PANEL;
}

// The sums of one part, (terms + 1) x 16, the last row for db; y: the gate of g, or no data.
static inline void sum_slab(const Reach& r, const View& x, const View& g, const View& y, long panel,
                            long from, long end, float* to) {
  const long terms = r.rows * r.steps * r.n, k = panel * PANEL;
  const long high = larger(PIXELS / g.W, 1L), wide = smaller<long>(PIXELS, g.W);
  const int width = int(smaller<long>(PANEL, g.C - k));
  float* columns = scratch(6, std::size_t(PIXELS * PANEL));
  std::memset(to, 0, std::size_t((terms + 1) * PANEL) * sizeof(float));
  for (long q = from, rows; q < end; q += rows) {
    const int image = int(q / g.H), top = int(q % g.H);
    rows = smaller(smaller(high, end - q), long(g.H - top));
    for (long left = 0; left < g.W; left += wide) {
      const long W = smaller(wide, g.W - left);
      vec sum[VECS] = {};
      for (int h = 0; h < rows; h++)
        pack_columns(g.at(image, top + h, int(left)) + k,
                     y.data ? y.at(image, top + h, int(left)) + k : nullptr, g.w, y.w, W, width,
                     columns + h * W * PANEL, sum);
      for (int row = 0; row < r.rows; row++)
        for (int step = 0; step < r.steps; step++)
          for (long i = 0; i < r.n; i += ROWS)
            sum_some<ROWS>(smaller<long>(ROWS, r.n - i),
                           x.at(image, top, int(left)) + row * r.row + step * r.step + i, x.h, x.w,
                           columns, rows, W, to + ((row * r.steps + step) * r.n + i) * PANEL);
      for (int v = 0; v < VECS; v++) {
        float* at = to + terms * PANEL + v * LANES;
        store(at, load(at) + sum[v]);
      }
    }
  }
}

// The sums of all parts, to `room` (slab_floats of them): slab by slab, panel by panel.
static inline void sum_slabs(const Reach& r, const View& x, const View& g, const View& y,
                             float* room) {
  const long terms = r.rows * r.steps * r.n, panels = ceil_div(g.C, PANEL);
  const Slabs s = slabs(g, terms);
  parallel(s.count * panels, [&](long part, int) {
    const long from = part / panels * s.rows;
    sum_slab(r, x, g, y, part % panels, from, smaller(from + s.rows, long(g.N) * g.H),
             room + part * (terms + 1) * PANEL);
  });
}

// put(i, k, sums, width): sums[0 ... width-1] are those of number i and columns k, k+1, ...
template <class Put>
static inline void add_slabs(const float* room, const View& g, long terms, const Put& put) {
  constexpr long some = 128;
  const long panels = ceil_div(g.C, PANEL), count = slabs(g, terms).count, size = terms + 1;
  parallel(panels * ceil_div(terms, some), [&](long part, int) {
    const long p = part % panels, first = part / panels * some;
    for (long i = first; i < smaller(first + some, terms); i++) {
      float total[PANEL];
      for (int v = 0; v < VECS; v++) {
        const float* at = room + (p * size + i) * PANEL + v * LANES;
        vec sum = count ? load(at) : vec{};
        for (long slab = 1; slab < count; slab++)
          sum += load(at + slab * panels * size * PANEL);
        store(total + v * LANES, sum);
      }
      put(i, p * PANEL, total, int(smaller<long>(PANEL, g.C - p * PANEL)));
    }
  });
}

// Column k's part of db.
static inline float column_sum(const float* room, const View& g, long terms, long k) {
  const long panels = ceil_div(g.C, PANEL), count = slabs(g, terms).count, size = terms + 1;
  const float* at = room + (k / PANEL * size + terms) * PANEL + k % PANEL;
  float sum = 0;
  for (long slab = 0; slab < count; slab++) sum += at[slab * panels * size * PANEL];
  return sum;
}

}  // namespace unetcu::UNETCU_ISA
