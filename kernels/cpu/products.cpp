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

// Row a of the patches of y (N,2H,2W,K), as (N,H,W,2K).
View patch_row(const View& y, int a) {
  return {y.data + a * y.h, y.N, y.H / 2, y.W / 2, 2 * y.C, y.n, 2 * y.h, 2 * y.w};
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
  const long C = x.C, K = y.C, panels = ceil_div(K, PANEL);
  if (K >= 1 && K <= FEW && C >= LANES) {
    float* turned = scratch(0, std::size_t(K * C));
    for (long i = 0; i < K * C; i++) turned[i] = w[i % C * K + i / C];
    constexpr decltype(&few_classes<1>) of[] = {few_classes<1>, few_classes<2>, few_classes<3>,
                                                few_classes<4>};
    return of[K - 1](x, turned, b, y);
  }
  const float* bias = padded(b, K, scratch(0, std::size_t(panels * PANEL)));
  float* packed = scratch(1, std::size_t(panels * C * PANEL));
  for (long p = 0; p < panels; p++)
    pack(w + p * PANEL, K, 1, C, width_of(p, K), packed + p * C * PANEL);
  filter_image(reach(x, 1, 1), x, {packed, C * PANEL, PANEL, bias}, false, y);
}

void conv1x1_backward_x(const View& dy, const float* w, const View& dx) {
  const long C = dx.C, K = dy.C, panels = ceil_div(C, PANEL);
  float* packed = scratch(1, std::size_t(panels * K * PANEL));
  for (long p = 0; p < panels; p++)
    pack(w + p * PANEL * K, 1, K, K, width_of(p, C), packed + p * K * PANEL);
  filter_image(reach(dy, 1, 1), dy, {packed, K * PANEL, PANEL, nullptr}, false, dx);
}

void conv1x1_backward_w(const View& x, const View& dy, float* dw, float* db) {
  const long K = dy.C;
  float* room = scratch(0, std::size_t(slab_floats(dy, x.C)));
  sum_slabs(reach(x, 1, 1), x, dy, View{}, room);
  add_slabs(room, dy, x.C, [&](long i, long k, const float* sums, int width) {
    std::memcpy(dw + i * K + k, sums, std::size_t(width) * sizeof(float));
  });
  for (long k = 0; k < K; k++) db[k] = column_sum(room, dy, x.C, k);
}

void upconv2_forward(const View& x, const float* w, const float* b, const View& y) {
  const long C = x.C, K = y.C, panels = ceil_div(2 * K, PANEL), size = C * PANEL;
  float* bias = scratch(0, std::size_t(panels * PANEL));
  for (long k = 0; k < panels * PANEL; k++) bias[k] = k < 2 * K ? b[k % K] : 0.0f;
  float* packed = scratch(1, std::size_t(panels * size));
  for (int a = 0; a < 2; a++) {
    parallel(panels, [&](long p, int) { pack_up(w + a * 2 * C * K, C, K, p, packed + p * size); });
    filter_image(reach(x, 1, 1), x, {packed, size, PANEL, bias}, false, patch_row(y, a));
  }
}

void upconv2_backward_x(const View& dy, const float* w, const View& dx) {
  const long C = dx.C, K = dy.C, panels = ceil_div(C, PANEL), size = 4 * K * PANEL;
  float* packed = scratch(1, std::size_t(panels * size));
  parallel(panels * 4, [&](long part, int) {
    const long p = part / 4, place = part % 4;  // (a,e)
    pack(w + (place * C + p * PANEL) * K, 1, K, K, width_of(p, C),
         packed + p * size + place * K * PANEL);
  });
  const View g = patch_row(dy, 0);
  Reach r = reach(g, 1, 1);
  r.rows = 2, r.row = dy.h;
  r.cut_row = r.cut_row || 2 * r.n > CHAIN;
  filter_image(r, g, {packed, size, PANEL, nullptr}, false, dx);
}

void upconv2_backward_w(const View& x, const View& dy, float* dw, float* db) {
  const long C = x.C, K = dy.C;
  for (int a = 0; a < 2; a++) {
    const View g = patch_row(dy, a);
    float* room = scratch(0, std::size_t(slab_floats(g, C)));
    sum_slabs(reach(x, 1, 1), x, g, View{}, room);
    add_slabs(room, g, C, [&](long c, long column, const float* sums, int width) {
      for (int j = 0, n; j < width; j += n) {
        const long e = (column + j) / K, k = (column + j) % K;
        n = int(smaller<long>(width - j, K - k));
        std::memcpy(dw + ((2 * a + e) * C + c) * K + k, sums + j, std::size_t(n) * sizeof(float));
      }
    });
    for (long k = 0; k < K; k++) {
      const float sum = column_sum(room, g, C, k) + column_sum(room, g, C, K + k);
      db[k] = a == 0 ? sum : db[k] + sum;
    }
  }
}

}  // namespace unetcu::UNETCU_ISA
