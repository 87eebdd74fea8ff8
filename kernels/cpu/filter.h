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

// 16 filters: number i of what a pixel sees has its weights at data + i * stride.
struct Panel {
  const float* data;
  long stride;
  const float* bias;  // 16 floats, or none
};

// Not inlined: where GCC knew more of the arguments, it kept more in registers than there are.
template <int M>
static __attribute__((noinline)) void filter_block(const Reach& r, const float* x, long next,
                                                   const Panel& panel, bool act, float* y,
                                                   long ldy, int width) {
  Sums<M> total, sums;
  for (int i = 0; i < M; i++)
    for (int v = 0; v < VECS; v++) {
      total.at[i][v] = panel.bias ? load(panel.bias + v * LANES) : vec{};
      sums.at[i][v] = vec{};
    }
  const auto end_of_chain = [&] {
    for (int i = 0; i < M; i++)
      for (int v = 0; v < VECS; v++) total.at[i][v] += sums.at[i][v], sums.at[i][v] = vec{};
  };
  const float* w = panel.data;
  for (int row = 0; row < r.rows; row++) {
    for (int step = 0; step < r.steps; step++)
      for (long i = 0; i < r.n; i += r.piece) {
        const long n = smaller(r.piece, r.n - i);
        multiply_add<M>(sums, x + row * r.row + step * r.step + i, next, 1, w, panel.stride, n);
        w += n * panel.stride;
        if (r.cut_piece) end_of_chain();
      }
    if (r.cut_row) end_of_chain();
  }
  if (!r.cut_piece && !r.cut_row) end_of_chain();
  for (int i = 0; i < M; i++)
    for (int v = 0; v < VECS; v++) {
      const vec sum = act ? relu(total.at[i][v]) : total.at[i][v];
      store(y + i * ldy + v * LANES, sum, width - v * LANES);
    }
}

template <int M>
static inline void filter_some(int m, const Reach& r, const float* x, long next,
                               const Panel& panel, bool act, float* y, long ldy, int width) {
  if (m == M) return filter_block<M>(r, x, next, panel, act, y, ldy, width);
  if constexpr (M > 1) filter_some<M - 1>(m, r, x, next, panel, act, y, ldy, width);
}

// A row of W pixels, in blocks of nearly equal size: a last block of one pixel would be slow.
static inline void filter_row(const Reach& r, const float* x, long next, const Panel& panel,
                              bool act, float* y, long ldy, long W, int width) {
  const long blocks = ceil_div(W, ROWS);
  for (long b = 0, from = 0; b < blocks; b++) {
    const long to = W * (b + 1) / blocks;
    filter_some<ROWS>(int(to - from), r, x + from * next, next, panel, act, y + from * ldy, ldy,
                      width);
    from = to;
  }
}

// The filters of an op, ready to use: a panel's numbers side by side, missing ones 0.
struct Filters {
  const float* data;
  long panel, stride;  // floats to the next panel, and to the next number of a filter
  const float* bias;  // whole panels, or none
};

// How many rows of how many pixels, each `cost` multiply-adds, are worth a part.
static inline long rows_a_part(long rows, long pixels, long cost) {
  return smaller(larger(WORTH / larger(pixels * cost, 1L), 1L), larger(rows, 1L));
}

// y from x, both views; pixel (i, j) of y sees what begins at pixel (i, j) of x.
static inline void filter_image(const Reach& r, const View& x, const Filters& filters, bool act,
                                const View& y) {
  const long panels = ceil_div(y.C, PANEL), terms = r.rows * r.steps * r.n;
  // Filters that fit a core's cache are applied row by row, all of them; else a part has one panel.
  const long bunch = panels * PANEL * terms <= NEAR ? panels : 1, bunches = ceil_div(panels, bunch);
  const long high = rows_a_part(y.H, y.W, bunch * terms * PANEL);
  const long groups = y.N * ceil_div(y.H, high);
  // What is larger, filters or image, is gone through once, the other again and again.
  const bool panel_first = panels * PANEL * terms > long(x.N) * x.H * x.W * x.C;
  parallel(bunches * groups, [&](long part, int) {
    const long first = (panel_first ? part / groups : part % bunches) * bunch;
    const long group = panel_first ? part % groups : part / bunches;
    const int image = int(group / ceil_div(y.H, high));
    const long top = group % ceil_div(y.H, high) * high, end = smaller<long>(top + high, y.H);
    for (int row = int(top); row < end; row++)
      for (long p = first; p < smaller(first + bunch, panels); p++) {
        const Panel panel{filters.data + p * filters.panel, filters.stride,
                          filters.bias ? filters.bias + p * PANEL : nullptr};
        filter_row(r, x.at(image, row, 0), x.w, panel, act, y.at(image, row, 0) + p * PANEL, y.w,
                   y.W, int(smaller<long>(PANEL, y.C - p * PANEL)));
      }
  });
}

// panel[i][j] = w[i * row + j * column], i < n, j < 16; 0 for j >= width.
static inline void pack(const float* w, long row, long column, long n, int width, float* panel) {
  if (column == 1 && width == PANEL) {
    for (long i = 0; i < n; i++)
      std::memcpy(panel + i * PANEL, w + i * row, PANEL * sizeof(float));
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
