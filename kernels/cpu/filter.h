// filter.h: y = act(b + filters times what each pixel sees), with one order of additions.
//
// A pixel sees `rows` x `steps` runs of n floats of the image, and a filter has as many numbers:
//
//   3x3 convolution    3 x 1 runs of 3C (three neighbours lie side by side), or 3 x 3 of C
//   1x1 convolution    1 x 1 of C
//   gradient of x of the up-convolution    2 x 1 of 2K: a row of the patch
//
// Sixteen filters are a panel; ROWS pixels of an image row times a panel is one block of sums in
// registers. No matrix of what pixels see is ever made: the micro-kernel walks over the image.
//
// Order    A sum is cut into chains of at most CHAIN terms, which begin at 0; the bias, then the
//          chains are added up. A long chain of like signs would round too much (each addition by
//          half a unit of the sum so far). Where the cuts fall depends on rows, steps and n alone.
//          So a pixel has the same bits wherever it stands, in whichever tile, for whichever
//          width, block or number of threads, and what it does not see, a NaN say, it cannot feel.
// Parts    some rows of an image and a panel, or all panels if they are small.
#pragma once

#include "micro.h"
#include "pool.h"
#include "view.h"

namespace unetcu::UNETCU_ISA {

constexpr long CHAIN = 256;
constexpr long NEAR = 32768;  // floats: 128 kB
constexpr long SOON = 36;  // rows of filters that are brought near ahead: they lie far apart
constexpr long WORTH = 2000000;  // multiply-adds that are worth a part of their own

struct Reach {
  int rows, steps;
  long row, step, n;  // row, step: floats to the next run
  long piece;  // a run is gone through in pieces; the last may be shorter
  bool cut_row, cut_piece;  // where chains end (and at the end of all)
};

// Of `rows` x `steps` pixels of C channels of this image. Runs that touch are taken as one; the
// chains are the same for both forms.
static inline Reach reach(const View& x, int rows, int steps) {
  const long C = x.C, across = steps * C;
  Reach r{rows, steps, x.h, x.w, C, C, rows * across > CHAIN, across > CHAIN};
  if (r.cut_piece) r.piece = ceil_div(C, ceil_div(C, CHAIN)), r.cut_row = false;
  if (!r.cut_piece && x.w == C) r.steps = 1, r.n = r.piece = across;
  return r;
}

// The channels of a map, 16 at a time. Those of a patch of the up-convolution are two sets, the rows
// of the patch, `fold` floats apart.
struct Columns {
  View map;
  int sets = 1;
  long fold = 0;

  long panels_of_set() const { return ceil_div(map.C, PANEL); }
  long panels() const { return sets * panels_of_set(); }
  int set(long p) const { return int(p / panels_of_set()); }
  long channel(long p) const { return p % panels_of_set() * PANEL; }
  int width(long p) const { return int(smaller<long>(PANEL, map.C - channel(p))); }
  float* at(int image, int row, int column, long p) const {
    return map.at(image, row, column) + set(p) * fold + channel(p);
  }
};

// Where a row of 16 channels of y goes.
struct Row {
  float* data;
  long pixel;  // floats to the next pixel
  long ahead;  // floats to what is written after this row: brought near meanwhile
  int width;  // so many of the 16 are real
};

// Not inlined: where GCC knew more of the arguments, it kept more in registers than there are.
template <int M>
static __attribute__((noinline)) void filter_block(const Reach& r, const float* x, long next,
                                                   const float* w, const float* bias, bool act,
                                                   const Row& y, float* to) {
  Sums<M> total, sums;
  for (int i = 0; i < M; i++) {
    __builtin_prefetch(to + i * y.pixel + y.ahead, 1, 2);
    for (int v = 0; v < VECS; v++) {
      total.at[i][v] = bias ? load(bias + v * LANES) : vec{};
      sums.at[i][v] = vec{};
    }
  }
  const auto end_of_chain = [&] {
    for (int i = 0; i < M; i++)
      for (int v = 0; v < VECS; v++) total.at[i][v] += sums.at[i][v], sums.at[i][v] = vec{};
  };
  for (int row = 0; row < r.rows; row++) {
    for (int step = 0; step < r.steps; step++)
      for (long i = 0; i < r.n; i += r.piece) {
        const long n = smaller(r.piece, r.n - i);
        multiply_add<M>(sums, x + row * r.row + step * r.step + i, next, 1, w, PANEL, n);
        w += n * PANEL;
        if (r.cut_piece) end_of_chain();
      }
    if (r.cut_row) end_of_chain();
  }
  if (!r.cut_piece && !r.cut_row) end_of_chain();
  for (int i = 0; i < M; i++)
    for (int v = 0; v < VECS; v++) {
      const vec sum = act ? relu(total.at[i][v]) : total.at[i][v];
      store(to + i * y.pixel + v * LANES, sum, y.width - v * LANES);
    }
}

template <int M>
static inline void filter_some(int m, const Reach& r, const float* x, long next, const float* w,
                               const float* bias, bool act, const Row& y, float* to) {
  if (m == M) return filter_block<M>(r, x, next, w, bias, act, y, to);
  if constexpr (M > 1) filter_some<M - 1>(m, r, x, next, w, bias, act, y, to);
}

// A row of W pixels, in blocks of nearly equal size: a last block of one pixel would be slow.
static inline void filter_row(const Reach& r, const float* x, long next, const float* w,
                              const float* bias, bool act, const Row& y, long W) {
  const long blocks = ceil_div(W, ROWS);
  for (long b = 0, from = 0; b < blocks; b++) {
    const long to = W * (b + 1) / blocks;
    filter_some<ROWS>(int(to - from), r, x + from * next, next, w, bias, act, y,
                      y.data + from * y.pixel);
    from = to;
  }
}

// How many rows of how many pixels, each `cost` multiply-adds, are worth a part.
static inline long rows_a_part(long rows, long pixels, long cost) {
  return smaller(larger(WORTH / larger(pixels * cost, 1L), 1L), larger(rows, 1L));
}

// y from x; pixel (i, j) of y sees what begins at pixel (i, j) of x. pack(p, to) makes the filters of
// panel p ready: number i of filter j at to[i * PANEL + j], 0 for filters that are not there. bias:
// whole panels, or none.
template <class Pack>
static inline void filter_image(const Reach& r, const View& x, const Columns& y, const float* bias,
                                bool act, const Pack& pack) {
  const long panels = y.panels(), size = r.rows * r.steps * r.n * PANEL;
  const View& map = y.map;
  const auto row_of = [&](int image, int row, long p, const float* w) {
    const Row to{y.at(image, row, 0, p), map.w, row + 1 < map.H ? map.h : 0, y.width(p)};
    filter_row(r, x.at(image, row, 0), x.w, w, bias ? bias + p * PANEL : nullptr, act, to, map.W);
  };
  // What is larger, filters or image, is gone through once, the other again and again.
  if (panels * size > long(x.N) * x.H * x.W * x.C)
    return parallel(panels, [&](long p, int) {
      float* w = scratch(1, std::size_t(size));
      pack(p, w);
      for (int image = 0; image < map.N; image++)
        for (int row = 0; row < map.H; row++) row_of(image, row, p, w);
    });
  float* packed = scratch(1, std::size_t(panels * size));
  parallel(panels, [&](long p, int) { pack(p, packed + p * size); });
  // Filters that fit a core's cache are applied row by row, all of them; else a part has one panel.
  const long bunch = panels * size <= NEAR ? panels : 1, bunches = ceil_div(panels, bunch);
  const long high = rows_a_part(map.H, map.W, bunch * size), groups = ceil_div(map.H, high);
  parallel(bunches * map.N * groups, [&](long part, int) {
    const long first = part % bunches * bunch, group = part / bunches;
    const long top = group % groups * high, end = smaller<long>(top + high, map.H);
    for (long row = top; row < end; row++)
      for (long p = first; p < first + bunch; p++)
        row_of(int(group / groups), int(row), p, packed + p * size);
  });
}

// panel[i][j] = w[i * row + j * column], i < n, j < 16; 0 for j >= width.
static inline void pack(const float* w, long row, long column, long n, int width, float* panel) {
  if (column == 1 && width == PANEL) {
    for (long i = 0; i < n; i++) {
      if (i + SOON < n) __builtin_prefetch(w + (i + SOON) * row, 0, 2);
      std::memcpy(panel + i * PANEL, w + i * row, PANEL * sizeof(float));
    }
    return;
  }
  long i = 0;
  if (row == 1 && width == PANEL)
    for (; i + 4 <= n; i += 4)
      for (int j = 0; j < PANEL; j += 4)
        transpose4(w + j * column + i, column, panel + i * PANEL + j, PANEL);
  for (; i < n; i++)
    for (int j = 0; j < PANEL; j++)
      panel[i * PANEL + j] = j < width ? w[i * row + j * column] : 0.0f;
}

// The bias of K filters in whole panels.
static inline const float* padded(const float* b, long K, float* room) {
  for (long k = 0; k < round_up(K, PANEL); k++) room[k] = k < K ? b[k] : 0.0f;
  return room;
}

}  // namespace unetcu::UNETCU_ISA
