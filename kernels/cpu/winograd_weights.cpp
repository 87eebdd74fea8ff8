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
// Schedule V and dM of a block of tiles are made, then used up, 48 channels x 16 filters at a time;
//          meanwhile what the next block reads is fetched.
//          Small dw: tiles are dealt out in SLABS ranges, one a part; each adds up its own dU, and
//          transforms it to a dw in the end. If dU is over KEPT bytes, every block is transformed.
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
constexpr long KEPT = 1 << 20;    // bytes of dU that are kept
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
    vec room[36];
    for (int c = 0; c < stored; c += LANES)
      transform<InputMap>(patch<6>(x, nullptr, n, row, column, c, room), V + t * stored + c, v_plane);
    for (int k = 0; k < panels * PANEL; k += LANES) {
      float* to = M + ((long)(k / PANEL) * block + t) * PANEL + k % PANEL;
      if (k >= K) {  // sums of these are not used, but denormal numbers in them would be slow
        for (int p = 0; p < 37; p++) store(to + p * m_plane, vec{});
        continue;
      }
      store(to + 36 * m_plane, adjoint(patch<4>(dy, closes, n, row, column, k, room), to));
    }
  }

  // The 36 planes of dM of a patch of dy; returns the sum of its 16 numbers.
  __attribute__((noinline)) vec adjoint(const Patch& d, float* to) const {
    vec sum{};
    const auto out = [&](int i, int j, vec v) { store(to + (6L * i + j) * m_plane, v); };
    const auto add = [&](vec v) { return sum += v, v; };
    if (d.gate)
      both_ways<OutputAdjoint>([&](int i, int j) { return add(d.gated(i, j)); }, out);
    else
      both_ways<OutputAdjoint>([&](int i, int j) { return add(d.at(i, j)); }, out);
    return sum;
  }

  // dU, db = or += what `count` tiles give, of one chunk of channels and one panel of filters.
  void multiply(long count, int chunk, int panel, const float* V, const float* M, float* dU,
                bool add, float* db, bool add_db, Soon next) const {
    const int c0 = chunk * CHUNK, channels = smaller(CHUNK, C - c0);
    M += (long)panel * block * PANEL;
    for (int p = 0; p < 36; p++) {
      next.step(p, 36, [&](long tile) {
        fetch(x, tiles, tile, 2, 6);
        fetch(dy, tiles, tile, 0, 4);
        if (closes) fetch(*closes, tiles, tile, 0, 4);
      });
      product(channels, V + p * v_plane + c0, 1, stored, M + p * m_plane, PANEL, count,
              dU + (long)p * CHUNK * PANEL, PANEL, add);
    }
    for (int k = panel * PANEL; chunk == 0 && k < smaller(K, (panel + 1) * PANEL); k += LANES) {
      vec sum = add_db ? load(db + k, K - k) : vec{};
      for (long t = 0; t < count; t++)
        sum += load(M + 36 * m_plane + t * PANEL + k % PANEL);
      store(db + k, sum, K - k);
    }
  }

  // dw = or += Gt dU G, of one chunk and one panel.
  void finish(int chunk, int panel, const float* dU, float* dw, bool add) const {
    const int c0 = chunk * CHUNK, channels = smaller(CHUNK, C - c0);
    for (int k = panel * PANEL; k < smaller(K, (panel + 1) * PANEL); k += LANES)
      for (int c = 0; c < channels; c++)
        taps(dU + c * PANEL + k % PANEL, dw + (long)(c0 + c) * K + k, K - k, add);
  }

  __attribute__((noinline)) void taps(const float* dU, float* dw, int valid, bool add) const {
    both_ways<FilterAdjoint>(
        [&](int i, int j) { return load(dU + (6L * i + j) * CHUNK * PANEL); },
        [&](int i, int j, vec g) {
          float* to = dw + (3L * i + j) * C * K;
          store(to, add ? load(to, valid) + g : g, valid);
        });
  }

  // All of dw and db from a range of tiles. dU is kept over its blocks where a cache can hold it.
  void run_slab(long first, long last, float* dw, float* db) const {
    constexpr long PIECE = 36L * CHUNK * PANEL;
    const long pieces = (long)panels * chunks;
    const bool keep = 4 * PIECE * pieces <= KEPT;
    float *V = scratch(3, 36 * v_plane), *M = scratch(4, 37 * m_plane);
    float* dU = scratch(2, PIECE * (keep ? pieces : 1));
    for (long at = first; at < last; at += block) {
      const long end = smaller(at + block, last);
      const Soon next{end, smaller(end + block, last)};
      for (long t = at; t < end; t++) make(t, t - at, V, M);
      for (int piece = 0; piece < pieces; piece++) {
        const int panel = piece / chunks, chunk = piece % chunks;
        float* own = keep ? dU + piece * PIECE : dU;
        multiply(end - at, chunk, panel, V, M, own, keep && at > first, db, at > first,
                 next.part(piece, pieces));
        if (!keep) finish(chunk, panel, own, dw, at > first);
      }
    }
    for (int piece = 0; keep && piece < pieces; piece++)
      finish(piece % chunks, piece / chunks, dU + piece * PIECE, dw, false);
  }

  void run(float* dw, float* db) const {
    if (share) {
      float *V = scratch(5, 36 * v_plane), *M = scratch(6, 37 * m_plane);
      for (long at = 0; at < tiles.total; at += block) {
        const long count = smaller(block, tiles.total - at);
        parallel(count, [&](long t, int) { make(at + t, t, V, M); });
        parallel((long)panels * chunks, [&](long part, int) {
          float* dU = scratch(2, 36L * CHUNK * PANEL);
          const int chunk = int(part % chunks), panel = int(part / chunks);
          multiply(count, chunk, panel, V, M, dU, false, db, at > 0, Soon{0, 0});
          finish(chunk, panel, dU, dw, at > 0);
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
