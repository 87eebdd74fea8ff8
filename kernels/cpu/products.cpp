// products.cpp: the layers in which no two pixels of x meet: 1x1 convolution and up-convolution.
//
//   1x1          y[p,k] = b[k] + sum_c x[p,c] w[c,k]
//   up, 2x2      y[n,2i+a,2j+e,k] = b[k] + sum_c x[n,i,j,c] w[a,e,c,k]     a, e in {0,1}
//
// and the gradients of x, w and b. The up-convolution is two products: row a of all patches is
// pixels with 2K channels (e, k), side by side in memory, so W pixels of x make W such pixels in
// row 2i + a of y. Backward, a pixel of x sees two runs of 2K, the two rows of its patch.
//
// Shapes   1x1: x, dx (N,H,W,C)  w, dw (C,K)  b, db (K)  y, dy (N,H,W,K). Up: w, dw (2,2,C,K),
//          y, dy (N,2H,2W,K) contiguous.
// Parts, order    filter.h, sums.h.
// Memory   w in panels; for dw, db the sums of slabs.
// Cost     C K or 4 C K multiply-adds a pixel; for few classes K a panel is mostly empty, and
//          reading x is what takes the time.
//
// Bound by bind_products.cpp, used by unetcu/ops/conv1x1.py and upconv2.py. Tested by the tests of
// these and tests/ops/test_native_products.py.
#include "isa.h"
#include "sums.h"

namespace unetcu::UNETCU_ISA {

namespace {

int width_of(long p, long K) { return int(smaller(long(PANEL), K - p * PANEL)); }

// The patches of y (N,2H,2W,K) as pixels of two sets of 2K channels, one of each row.
Columns patches(const View& y) {
  return {{y.data, y.N, y.H / 2, y.W / 2, 2 * y.C, y.n, 2 * y.h, 2 * y.w}, 2, y.h};
}

// w[a] (2,C,K) as panels of columns (e,k).
void pack_up(const float* w, long C, long K, long p, float* panel) {
  for (long j = 0, n; j < PANEL && p * PANEL + j < 2 * K; j += n) {
    const long e = (p * PANEL + j) / K, k = (p * PANEL + j) % K;
    n = smaller(PANEL - j, K - k);
    if (n == PANEL) return pack(w + e * C * K + k, K, 1, C, PANEL, panel);
    for (long c = 0; c < C; c++)
      for (long m = 0; m < n; m++) panel[c * PANEL + j + m] = w[(e * C + c) * K + k + m];
  }
  for (long c = 0; c < C; c++)
    for (long j = 2 * K - p * PANEL; j < PANEL; j++) panel[c * PANEL + j] = 0;
}

// Few classes would leave a panel mostly empty: here the lanes are channels instead. A class's sum
// is made of LANES sums over every LANES-th channel, added up in a tree. Not for C < LANES.
constexpr int FEW = 4;

typedef float four __attribute__((vector_size(16), aligned(4), may_alias));

float sum_of_lanes(vec v) {
  float lanes[LANES];
  store(lanes, v);
  four sum = *(const four*)lanes;
  for (int i = 4; i < LANES; i += 4) sum += *(const four*)(lanes + i);
  return (sum[0] + sum[2]) + (sum[1] + sum[3]);
}

template <int K>
void dots(const float* x, const float* turned, const float* b, long C, float* y) {
  vec sums[K] = {};
  long c = 0;
  for (; c + LANES <= C; c += LANES)
    for (int k = 0; k < K; k++) sums[k] += load(x + c) * load(turned + k * C + c);
  for (int k = 0; k < K; k++) {
    float sum = b[k] + sum_of_lanes(sums[k]);
    for (long i = c; i < C; i++) sum += x[i] * turned[k * C + i];
    y[k] = sum;
  }
}

template <int K>
void few_classes(const View& x, const float* turned, const float* b, const View& y) {
  const long high = rows_a_part(x.H, x.W, x.C * PANEL), groups = ceil_div(x.H, high);
  parallel(x.N * groups, [&](long part, int) {
    const long image = part / groups, top = part % groups * high;
    for (long row = top; row < smaller(top + high, long(x.H)); row++)
      for (int j = 0; j < x.W; j++)
        dots<K>(x.at(int(image), int(row), j), turned, b, x.C, y.at(int(image), int(row), j));
  });
}

}  // namespace

void conv1x1_forward(const View& x, const float* w, const float* b, const View& y) {
  const long C = x.C, K = y.C;
  if (K >= 1 && K <= FEW && C >= LANES) {
    float* turned = scratch(0, std::size_t(K * C));
    for (long i = 0; i < K * C; i++) turned[i] = w[i % C * K + i / C];
    constexpr decltype(&few_classes<1>) of[] = {few_classes<1>, few_classes<2>, few_classes<3>,
                                                few_classes<4>};
    return of[K - 1](x, turned, b, y);
  }
  const float* bias = padded(b, K, scratch(0, std::size_t(round_up(K, PANEL))));
  filter_image(reach(x, 1, 1), x, {y}, bias, false, [&](long p, float* to) {
    pack(w + p * PANEL, K, 1, C, width_of(p, K), to);
  });
}

void conv1x1_backward_x(const View& dy, const float* w, const View& dx) {
  const long C = dx.C, K = dy.C;
  filter_image(reach(dy, 1, 1), dy, {dx}, nullptr, false, [&](long p, float* to) {
    pack(w + p * PANEL * K, 1, K, K, width_of(p, C), to);
  });
}

void conv1x1_backward_w(const View& x, const View& dy, float* dw, float* db) {
  sum_filters(reach(x, 1, 1), x, dy, View{}, dw, db);
}

void upconv2_forward(const View& x, const float* w, const float* b, const View& y) {
  const long C = x.C, K = y.C;
  const Columns to = patches(y);
  float* bias = scratch(0, std::size_t(to.panels() * PANEL));
  for (long p = 0; p < to.panels(); p++)
    for (int j = 0; j < PANEL; j++)
      bias[p * PANEL + j] = j < to.width(p) ? b[(to.channel(p) + j) % K] : 0.0f;
  filter_image(reach(x, 1, 1), x, to, bias, false, [&](long p, float* panel) {
    pack_up(w + to.set(p) * 2 * C * K, C, K, to.channel(p) / PANEL, panel);
  });
}

void upconv2_backward_x(const View& dy, const float* w, const View& dx) {
  const long C = dx.C, K = dy.C;
  const View g = patches(dy).map;
  Reach r = reach(g, 1, 1);
  r.rows = 2, r.row = dy.h;
  r.cut_row = r.cut_row || 2 * r.n > CHAIN;
  filter_image(r, g, {dx}, nullptr, false, [&](long p, float* to) {
    for (int place = 0; place < 4; place++)  // (a,e)
      pack(w + (place * C + p * PANEL) * K, 1, K, K, width_of(p, C), to + place * K * PANEL);
  });
}

void upconv2_backward_w(const View& x, const View& dy, float* dw, float* db) {
  const long C = x.C, K = dy.C;
  const Columns g = patches(dy);
  float* of_columns = scratch(1, std::size_t(4 * K));  // the sums of db
  sum_pixels(reach(x, 1, 1), x, g, View{}, [&](long p, long c, const float* sums) {
    const long column = g.channel(p), a = g.set(p);
    const int width = g.width(p);
    if (c == C) {
      std::memcpy(of_columns + a * 2 * K + column, sums, std::size_t(width) * sizeof(float));
      return;
    }
    for (int j = 0, n; j < width; j += n) {
      const long e = (column + j) / K, k = (column + j) % K;
      n = int(smaller<long>(width - j, K - k));
      float* to = dw + ((2 * a + e) * C + c) * K + k;
      if (c + SOON < C) __builtin_prefetch(to + SOON * K, 1, 2);
      std::memcpy(to, sums + j, std::size_t(n) * sizeof(float));
    }
  });
  for (long k = 0; k < K; k++)
    db[k] = (of_columns[k] + of_columns[K + k]) + (of_columns[2 * K + k] + of_columns[3 * K + k]);
}

}  // namespace unetcu::UNETCU_ISA
