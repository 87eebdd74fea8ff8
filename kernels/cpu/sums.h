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

// sums[i][:] (+)= sum over H rows of W pixels of x[row, pixel][i] * g[row * W + pixel][:], M rows i.
template <int M>
static inline void sum_block(const float* x, long row, long next, const float* g, long H, long W,
                             float* to, bool add) {
  Sums<M> sums;
  for (int i = 0; i < M; i++)
    for (int v = 0; v < VECS; v++) sums.at[i][v] = vec{};
  for (long h = 0; h < H; h++)
    multiply_add<M>(sums, x + h * row, 1, next, g + h * W * PANEL, PANEL, W);
  for (int i = 0; i < M; i++)
    for (int v = 0; v < VECS; v++) {
      float* at = to + i * PANEL + v * LANES;
      store(at, add ? load(at) + sums.at[i][v] : sums.at[i][v]);
    }
}

template <int M>
static inline void sum_some(long m, const float* x, long row, long next, const float* g, long H,
                            long W, float* to, bool add) {
  if (m == M) return sum_block<M>(x, row, next, g, H, W, to, add);
  if constexpr (M > 1) sum_some<M - 1>(m, x, row, next, g, H, W, to, add);
}

// Pixels whose products make one chain: `rows` rows of `wide` pixels.
struct Chain {
  int image, top, left;
  long rows, wide;
};

// Of a chain and a panel of 16 columns; y: the gate of g, or no data. place(i) is where the sums go of
// the numbers from i on, ROWS of them or what is left of a run; done(i, m) follows. The last, i =
// terms, are those for db.
template <class Place, class Done>
static inline void sum_chain(const Reach& r, const View& x, const Columns& g, const View& y, long p,
                             const Chain& c, bool add, const Place& place, const Done& done) {
  float* columns = scratch(6, std::size_t(PIXELS * PANEL));
  vec sum[VECS] = {};
  for (int h = 0; h < c.rows; h++)
    pack_columns(g.at(c.image, c.top + h, c.left, p),
                 y.data ? y.at(c.image, c.top + h, c.left) + g.channel(p) : nullptr, g.map.w, y.w,
                 c.wide, g.width(p), columns + h * c.wide * PANEL, sum);
  long first = 0;
  for (int row = 0; row < r.rows; row++)
    for (int step = 0; step < r.steps; step++, first += r.n)
      for (long i = 0; i < r.n; i += ROWS) {
        const long m = smaller<long>(ROWS, r.n - i);
        sum_some<ROWS>(m, x.at(c.image, c.top, c.left) + row * r.row + step * r.step + i, x.h, x.w,
                       columns, c.rows, c.wide, place(first + i), add);
        done(first + i, m);
      }
  for (int v = 0; v < VECS; v++) {
    float* at = place(first) + v * LANES;
    store(at, add ? load(at) + sum[v] : sum[v]);
  }
  done(first, 1);
}

// The sums of one part, (terms + 1) x 16: of the rows from ... end - 1 of all images' rows.
static inline void sum_slab(const Reach& r, const View& x, const Columns& g, const View& y, long p,
                            long from, long end, float* to) {
  const long W = g.map.W, high = larger(PIXELS / W, 1L), wide = smaller<long>(PIXELS, W);
  if (from >= end)
    std::memset(to, 0, std::size_t(r.rows * r.steps * r.n + 1) * PANEL * sizeof(float));
  for (long q = from, rows; q < end; q += rows) {
    const int image = int(q / g.map.H), top = int(q % g.map.H);
    rows = smaller(smaller(high, end - q), long(g.map.H - top));
    for (long left = 0; left < W; left += wide)
      sum_chain(r, x, g, y, p, {image, top, int(left), rows, smaller(wide, W - left)},
                q > from || left > 0, [&](long i) { return to + i * PANEL; }, [](long, long) {});
  }
}

// put(p, i, sums): of the 16 columns of panel p, the sums for number i of what a pixel sees; for
// i = terms, those for db.
template <class Put>
static inline void sum_pixels(const Reach& r, const View& x, const Columns& g, const View& y,
                              const Put& put) {
  const long terms = r.rows * r.steps * r.n, size = (terms + 1) * PANEL;
  const long panels = g.panels(), all = long(g.map.N) * g.map.H;
  long count = smaller(ceil_div(PARTS, panels), MOST / (panels * size));
  count = smaller(count, ceil_div(all * g.map.W * size, WORTH));
  const long rows = larger(ceil_div(all, larger(count, 1L)), 1L);
  count = ceil_div(all, rows);
  if (g.map.N == 1 && all > 0 && all * g.map.W <= PIXELS)  // one chain: nothing to add
    return parallel(panels, [&](long p, int) {
      float sums[ROWS * PANEL];
      sum_chain(
          r, x, g, y, p, {0, 0, 0, all, g.map.W}, false, [&](long) { return sums; },
          [&](long i, long m) {
            for (long j = 0; j < m; j++) put(p, i + j, sums + j * PANEL);
          });
    });
  if (count <= 1)
    return parallel(panels, [&](long p, int) {
      float* sums = scratch(0, std::size_t(size));
      sum_slab(r, x, g, y, p, 0, all, sums);
      for (long i = 0; i <= terms; i++) put(p, i, sums + i * PANEL);
    });
  float* room = scratch(0, std::size_t(count * panels * size));
  parallel(count * panels, [&](long part, int) {
    const long from = part / panels * rows;
    sum_slab(r, x, g, y, part % panels, from, smaller(from + rows, all), room + part * size);
  });
  constexpr long some = 128;
  parallel(panels * ceil_div(terms + 1, some), [&](long part, int) {
    const long p = part % panels, first = part / panels * some;
    for (long i = first; i < smaller(first + some, terms + 1); i++) {
      float total[PANEL];
      for (int v = 0; v < VECS; v++) {
        const float* at = room + p * size + i * PANEL + v * LANES;
        vec sum = load(at);
        for (long slab = 1; slab < count; slab++) sum += load(at + slab * panels * size);
        store(total + v * LANES, sum);
      }
      put(p, i, total);
    }
  });
}

// The same, to where the gradients of a convolution lie: dw (terms, K), db (K).
static inline void sum_filters(const Reach& r, const View& x, const View& g, const View& y, float* dw,
                               float* db) {
  const long terms = r.rows * r.steps * r.n, K = g.C;
  const Columns columns{g};
  sum_pixels(r, x, columns, y, [&](long p, long i, const float* sums) {
    float* to = (i < terms ? dw + i * K : db) + p * PANEL;
    if (i + SOON < terms) __builtin_prefetch(to + SOON * K, 1, 2);
    std::memcpy(to, sums, std::size_t(columns.width(p)) * sizeof(float));
  });
}

}  // namespace unetcu::UNETCU_ISA
