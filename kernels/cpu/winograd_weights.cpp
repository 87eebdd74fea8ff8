// winograd_weights.cpp: weight and bias gradient of the 3x3 convolution, by the exact adjoint of
// Winograd F(4x4,3x3).
//
//   The forward pass is a chain of linear maps of w: w -> U = G w Gt -> M = V U -> y = At M A. Its
//   backward pass is the chain of their transposes, in reverse order:
//
//     dM[p] = (A dy At)[p]             36 numbers from the 4 x 4 gradients of each tile and filter
//     dU[p] = V[p]^t dM[p]             36 products (C, tiles) x (tiles, K), by the micro-kernel
//     dw    = Gt dU G                  9 numbers of each (c, k)
//     db    = sum of dy                plane 36 of dM holds the sums over tiles
//
// Shapes   x (N,H,W,C)  dy, gate (N,H-2,W-2,K), strided views  dw (3,3,C,K)  db (K).
// Schedule V and dM of a block of tiles are made, then used up: 48 channels x 16 filters at a time,
//          transformed to dw at once, so that dU is never stored as a whole.
//          Small dw: tiles are dealt out in SLABS ranges, one a part; each adds up its own dw.
//          Large dw: blocks follow each other; a part owns 48 x 16 of dw in each of them.
// Bits     Slabs and blocks depend on the shape only. Slabs are added in their order.
#include "isa.h"
#include "micro.h"
#include "pool.h"
#include "slabs.h"
#include "winograd_tiles.h"

namespace unetcu::UNETCU_ISA {
namespace {

constexpr int CHUNK = 48;         // channels at a time: dU of them is 108 KiB
constexpr long OWN = 300 << 10;   // bytes of V and dM of a block of one thread
constexpr long SHARED = 3 << 20;  // of all threads
constexpr int LEAST = 24;         // tiles in a block: fewer would not pay for the way to dw
constexpr int SLABS = 12;         // share out evenly over 1, 2, 3, 4 and 6 threads
static_assert(LEAST > SLABS);
constexpr long SUMS = 4 << 20;    // bytes that the dw of all slabs may need

struct Weights {
  const View &x, &dy;
  const View* closes;  // the gate of dy

  int C = x.C, K = dy.C;
  int stored = int(round_up(C, LANES));  // channels of V
  int chunks = int(ceil_div(C, CHUNK)), panels = int(ceil_div(K, PANEL));
  long size = 9L * C * K + K;  // of dw and db
  Tiles tiles{dy};
  long slabs = slab_count(), slab = ceil_div(tiles.total, slabs);
  bool share = slabs == 1;
  long block = block_size(), v_plane = block * stored + 16, m_plane = panels * block * PANEL + 16;

  long slab_count() const {
    const long wanted = smaller<long>(SLABS, ceil_div(tiles.total, LEAST));
    return wanted * size * 4 <= SUMS ? wanted : 1;
  }

  long block_size() const {
    const long bytes = 144L * (stored + panels * PANEL);
    const long most = larger<long>(LEAST, (share ? SHARED : OWN) / bytes);
    return ceil_div(slab, ceil_div(slab, most));  // even blocks
  }

  void make(long tile, long t, float* V, float* M) const {
    const auto [n, row, column] = tiles.at(tile);
    for (int c = 0; c < stored; c += LANES)
      transform_inputs(x, nullptr, n, row, column, c, V + t * stored + c, v_plane);
    for (int k = 0; k < panels * PANEL; k += LANES) {
      float* to = M + ((long)(k / PANEL) * block + t) * PANEL + k % PANEL;
      if (k >= K) {  // sums of these are not used, but denormal numbers in them would be slow
        for (int p = 0; p < 37; p++) store(to + p * m_plane, vec{});
        continue;
      }
      vec d[16], half[24], m[36];
      load_patch<4>(dy, closes, n, row, column, k, d);
      vec sum = d[0];
      for (int i = 1; i < 16; i++) sum += d[i];
      store(to + 36 * m_plane, sum);
      for (int j = 0; j < 4; j++) output_adjoint(d + j, 4, half + j, 4);
      for (int i = 0; i < 6; i++) output_adjoint(half + 4 * i, 1, m + 6 * i, 1);
      for (int p = 0; p < 36; p++) store(to + p * m_plane, m[p]);
    }
  }

  // dw, db = or += what `count` tiles give, of one chunk of channels and one panel of filters.
  void use(long count, int chunk, int panel, const float* V, const float* M, float* dw, float* db,
           bool add) const {
    float* dU = scratch(2, 36L * CHUNK * PANEL);
    const int c0 = chunk * CHUNK, channels = smaller(CHUNK, C - c0);
    M += (long)panel * block * PANEL;
    for (int p = 0; p < 36; p++)
      product(channels, V + p * v_plane + c0, 1, stored, M + p * m_plane, PANEL, count,
              dU + (long)p * CHUNK * PANEL, PANEL, false);
    for (int v = 0; v < PANEL && panel * PANEL + v < K; v += LANES) {
      const int k = panel * PANEL + v, valid = K - k;
      for (int c = 0; c < channels; c++) {
        vec u[36], half[18], g[9];
        for (int p = 0; p < 36; p++) u[p] = load(dU + ((long)p * CHUNK + c) * PANEL + v);
        for (int j = 0; j < 6; j++) filter_adjoint(u + j, 6, half + j, 6);
        for (int i = 0; i < 3; i++) filter_adjoint(half + 6 * i, 1, g + 3 * i, 1);
        float* to = dw + (long)(c0 + c) * K + k;
        for (int i = 0; i < 9; i++, to += (long)C * K)
          store(to, add ? load(to, valid) + g[i] : g[i], valid);
      }
      if (chunk) continue;
      vec sum = add ? load(db + k, valid) : vec{};
      for (long t = 0; t < count; t++) sum += load(M + 36 * m_plane + t * PANEL + v);
      store(db + k, sum, valid);
    }
  }

  void run_slab(long first, long last, float* dw, float* db) const {
    float *V = scratch(3, 36 * v_plane), *M = scratch(4, 37 * m_plane);
    for (long at = first; at < last; at += block) {
      const long count = smaller(block, last - at);
      for (long t = 0; t < count; t++) make(at + t, t, V, M);
      for (int panel = 0; panel < panels; panel++)
        for (int chunk = 0; chunk < chunks; chunk++)
          use(count, chunk, panel, V, M, dw, db, at > first);
    }
  }

  void run(float* dw, float* db) const {
    if (share) {
      float *V = scratch(5, 36 * v_plane), *M = scratch(6, 37 * m_plane);
      for (long at = 0; at < tiles.total; at += block) {
        const long count = smaller(block, tiles.total - at);
        parallel(count, [&](long t, int) { make(at + t, t, V, M); });
        parallel((long)panels * chunks, [&](long part, int) {
          use(count, int(part % chunks), int(part / chunks), V, M, dw, db, at > 0);
        });
      }
      return;
    }
    float* sums = scratch(7, slabs * size);
    parallel(slabs, [&](long part, int) {
      float* own = sums + part * size;
      const long first = part * slab, last = smaller(first + slab, tiles.total);
      run_slab(first, last, own, own + size - K);  // never empty, since LEAST > SLABS
    });
    add_slabs(sums, slabs, size, dw, size - K, db);
  }
};

}  // namespace

void winograd_backward_w(const View& x, const View& dy, const View* gate, float* dw, float* db) {
  Weights{x, dy, gate}.run(dw, db);
}

}  // namespace unetcu::UNETCU_ISA
