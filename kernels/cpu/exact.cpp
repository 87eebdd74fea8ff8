// exact.cpp: valid 3x3 convolution with one order of additions at every position.
//
//   y[n,i,j,k] = act( b[k] + sum_{r,s,c} x[n,i+r,j+s,c] w[r,s,c,k] )       r, s in {0,1,2}
//   dx[n,i,j,c] = sum_{r,s,k} g[n,i-r,j-s,k] w[r,s,c,k]                    (g is 0 outside)
//   dw[r,s,c,k] = sum_{n,i,j} x[n,i+r,j+s,c] g[n,i,j,k]     db[k] = sum_{n,i,j} g[n,i,j,k]
//   g = dy where act let through (y > 0)
//
// The Winograd form (winograd.cpp) needs a quarter of the multiplications, but a pixel's last bits
// then depend on its place in a patch of 4x4, one NaN spreads over patches, and small numbers
// beside large ones lose digits. Here tiles of an image agree with the whole of it bit for bit.
//
// Shapes   x, dx (N,H,W,C)   y, dy (N,H-2,W-2,K)   w, dw (3,3,C,K)   b, db (K); all but w and b
//          are views. y, where it gates dy, is what forward made with ReLU; else it has no data.
// Parts    filter.h and sums.h. backward_x: some rows of dx and PANELS panels of channels.
// Memory   w in panels; backward_x: also the rows of g that a part sees, gated, zeros around.
// Cost     9 C K multiply-adds a pixel, each 1 / (2 LANES) of a cycle at best; 85-95 % of that.
//
// Bound by bind_exact.cpp, used by unetcu/ops/conv3x3.py. Tested by tests/ops/test_conv3x3.py and
// tests/ops/test_native_products.py.
#include "isa.h"
#include "sums.h"

namespace unetcu::UNETCU_ISA {

void conv3x3_exact_forward(const View& x, const float* w, const float* b, const View& y, bool act) {
  const long C = x.C, K = y.C;
  const float* bias = padded(b, K, scratch(0, std::size_t(round_up(K, PANEL))));
  filter_image(reach(x, 3, 3), x, {y}, bias, act, [&](long p, float* to) {
    pack(w + p * PANEL, K, 1, 9 * C, int(smaller(long(PANEL), K - p * PANEL)), to);
  });
}

void conv3x3_exact_backward_x(const View& dy, const View& y, const float* w, const View& dx) {
  const long C = dx.C, K = dy.C, panels = ceil_div(C, PANEL), size = 9 * K * PANEL;
  const auto width = [&](long p) { return int(smaller(long(PANEL), C - p * PANEL)); };
  float* packed = scratch(1, std::size_t(panels * size));
  parallel(panels * 9, [&](long part, int) {  // turned by 180 degrees, C and K swapped
    const long p = part / 9, tap = part % 9;
    pack(w + ((8 - tap) * C + p * PANEL) * K, 1, K, K, width(p), packed + p * size + tap * K * PANEL);
  });
  constexpr long PANELS = 4;  // share the rows of g
  const long wide = dx.W + 2, bunches = ceil_div(panels, PANELS);
  const long high = rows_a_part(dx.H, dx.W, 9 * K * PANEL * smaller(PANELS, panels));
  const long groups = ceil_div(dx.H, high);
  parallel(bunches * dx.N * groups, [&](long part, int) {
    const long first = part / (dx.N * groups) * PANELS;
    const int image = int(part / groups % dx.N), top = int(part % groups * high);
    const int rows = int(smaller(high, long(dx.H - top)));
    float* g = scratch(2, std::size_t((rows + 2) * wide * K));
    for (int i = 0; i < rows + 2; i++) {
      const int row = top + i - 2;
      float* to = g + i * wide * K;
      if (row < 0 || row >= dy.H) {
        std::memset(to, 0, std::size_t(wide * K) * sizeof(float));
        continue;
      }
      std::memset(to, 0, std::size_t(2 * K) * sizeof(float));
      std::memset(to + (wide - 2) * K, 0, std::size_t(2 * K) * sizeof(float));
      for (int j = 0; j < dy.W; j++)
        gated(dy.at(image, row, j), y.data ? y.at(image, row, j) : nullptr, K, to + (j + 2) * K);
    }
    const View padded_g{g, 1, rows + 2, int(wide), int(K), 0, wide * K, K};
    const Reach r = reach(padded_g, 3, 3);
    for (long p = first; p < smaller(first + PANELS, panels); p++)
      for (int i = 0; i < rows; i++)
        filter_row(r, g + i * wide * K, K, packed + p * size, nullptr, false,
                   {dx.at(image, top + i, 0) + p * PANEL, dx.w, 0, width(p)}, dx.W);
  });
}

void conv3x3_exact_backward_w(const View& x, const View& dy, const View& y, float* dw, float* db) {
  sum_filters(reach(x, 3, 3), x, dy, y, dw, db);
}

}  // namespace unetcu::UNETCU_ISA
