// narrow.cpp: 3x3 convolution of a few input channels (the first layer), forward and the weight and
// bias gradients. One channel leaves the products of Winograd's form nothing to sum over.
//
//   y = act(b + x * w): the 3C numbers of x under one filter row lie side by side in memory, so a
//   row of outputs is three products (pixels, 3C) x (3C, K) on the image itself, without a copy.
//   dw: three products (3C, pixels) x (pixels, K) a row.
//
// Shapes   x (N,H,W,C), C <= FEW, any strides  w, dw (3,3,C,K)  db (K)  y, dy, gate (N,H-2,W-2,K).
// Parts    Rows forward; backward SLABS ranges of rows, whose sums are added in their order.
// Cost     Bound by writing y (reading dy).
// Bits     Each sum is one chain over b, then r, s, c: the same at every position.
#include "isa.h"
#include "micro.h"
#include "pool.h"
#include "slabs.h"

namespace unetcu::UNETCU_ISA {
namespace {

constexpr int SLABS = 12;

// Filters of a panel, rows (r,s,c) x 16, beyond the last filter 0.
void pack(const float* w, long rows, int K, int panel, float* packed) {
  const int k = panel * PANEL;
  for (long i = 0; i < rows; i++)
    for (int v = 0; v < PANEL; v += LANES)
      store(packed + i * PANEL + v, load(w + i * K + k + v, K - k - v));
}

// M pixels of a row of y and one panel of filters. GRAY: x has one channel, its pixels are
// neighbours, and the compiler knows.
template <int M, bool GRAY>
void pixels(const float* x, long h, long w, int C, const float* packed, const vec* bias, bool relu,
            float* y, long to_next, int valid) {
  if (GRAY) w = C = 1;
  vec sum[M][VECS];
  for (int i = 0; i < M; i++)
    for (int v = 0; v < VECS; v++) sum[i][v] = bias[v];
  for (int r = 0; r < 3; r++)
    for (int s = 0; s < 3; s++)
      for (int c = 0; c < C; c++, packed += PANEL) {
        const float* a = x + r * h + s * w + c;
        for (int i = 0; i < M; i++)
          for (int v = 0; v < VECS; v++) sum[i][v] += a[i * w] * load(packed + v * LANES);
      }
  for (int i = 0; i < M; i++, y += to_next)
    for (int v = 0; v < VECS; v++)
      store(y + v * LANES, relu ? UNETCU_ISA::relu(sum[i][v]) : sum[i][v], valid - v * LANES);
}

// A row of dy, gated, as [panel][pixel][16]; what it sums up to is added to db.
void load_row(const View& dy, const View* closes, int n, int row, float* to, float* db) {
  for (int k = 0; k < round_up(dy.C, PANEL); k += LANES) {
    float* out = to + (long)(k / PANEL) * dy.W * PANEL + k % PANEL;
    const int valid = dy.C - k;
    vec sum{};
    for (int j = 0; j < dy.W; j++, out += PANEL) {
      vec g = valid > 0 ? load(dy.at(n, row, j) + k, valid) : vec{};
      if (closes && valid > 0) g = gate(g, load(closes->at(n, row, j) + k, valid) > vec{});
      store(out, g);
      sum += g;
    }
    if (valid > 0) store(db + k, load(db + k, valid) + sum, valid);
  }
}

}  // namespace

void narrow_forward(const View& x, const float* w, const float* bias, bool relu, const View& y) {
  const int C = x.C, K = y.C, panels = int(ceil_div(K, PANEL));
  const long size = 9L * C * PANEL;
  float* packed = scratch(4, panels * size);
  for (int panel = 0; panel < panels; panel++) pack(w, 9L * C, K, panel, packed + panel * size);
  parallel((long)y.N * y.H, [&](long part, int) {
    const int n = int(part / y.H), row = int(part % y.H);
    int j = 0;
    const auto next = [&](auto take, int step) {  // panel after panel: y is written in order
      for (; j + step <= y.W; j += step)
        for (int panel = 0; panel < panels; panel++) {
          const int k = panel * PANEL;
          vec b[VECS];
          for (int v = 0; v < VECS; v++) b[v] = load(bias + k + v * LANES, K - k - v * LANES);
          take(x.at(n, row, j), x.h, x.w, C, packed + panel * size, b, relu, y.at(n, row, j) + k,
               y.w, K - k);
        }
    };
    if (C == 1 && x.w == 1) {
      next(pixels<ROWS, true>, ROWS);
      next(pixels<1, true>, 1);
    } else {
      next(pixels<ROWS, false>, ROWS);
      next(pixels<1, false>, 1);
    }
  });
}

void narrow_backward_w(const View& x, const View& dy, const View* gate, float* dw, float* db) {
  const int C = x.C, K = dy.C, panels = int(ceil_div(K, PANEL));
  const long rows = (long)dy.N * dy.H, size = 9L * C * K + K;
  const long slabs = smaller<long>(SLABS, rows), slab = ceil_div(rows, slabs);
  const int together = x.w == C ? 3 * C : C;  // numbers side by side: of 3 pixels, or of 1
  float* sums = scratch(7, slabs * size);
  parallel(slabs, [&](long part, int) {
    float *own = sums + part * size, *g = scratch(2, (long)panels * dy.W * PANEL);
    float* tile = scratch(1, 9L * C * panels * PANEL);  // dw as [panel][r,s,c][16]
    for (long i = 0; i < size; i++) own[i] = 0;
    for (long i = 0; i < 9L * C * panels * PANEL; i++) tile[i] = 0;
    for (long at = part * slab; at < smaller(rows, (part + 1) * slab); at++) {
      const int n = int(at / dy.H), row = int(at % dy.H);
      load_row(dy, gate, n, row, g, own + size - K);
      for (int panel = 0; panel < panels; panel++)
        for (int i = 0; i < 9 * C; i += together)
          product(together, x.at(n, row + i / (3 * C), i / C % 3), 1, x.w,
                  g + (long)panel * dy.W * PANEL, PANEL, dy.W,
                  tile + ((long)panel * 9 * C + i) * PANEL, PANEL, true);
    }
    for (int i = 0; i < 9 * C; i++)
      for (int k = 0; k < K; k++)
        own[(long)i * K + k] = tile[((long)(k / PANEL) * 9 * C + i) * PANEL + k % PANEL];
  });
  add_slabs(sums, slabs, size, dw, size - K, db);
}

}  // namespace unetcu::UNETCU_ISA
