// winograd.cpp: fast 3x3 convolution and its input gradient, by Winograd F(4x4,3x3).
//
//   y = act(b + x * w):  for each tile of 4 x 4 outputs (README.md explains why)
//
//     V[p] = (Bt d B)[p]               36 numbers from the 6 x 6 inputs d of each channel
//     U[p] = (G g Gt)[p]               36 numbers from the 3 x 3 filter g of each (c, k)
//     M[p] = V[p] U[p]                 36 products (tiles, C) x (C, K), by the micro-kernel
//     y    = act(b + At M A)           16 outputs of each filter
//
//   144 multiplications a tile become 36. dx is the same function: of dy padded by 2, with w turned
//   by 180 degrees and C, K swapped.
//
// Shapes   x (N,H,W,C)  w (3,3,C,K)  y (N,H-2,W-2,K); x, y, gate strided views. Any sizes.
// Schedule A block of tiles goes from inputs to outputs at once, so that V stays in a core's L2.
//          Few filters: U is made once for all (up to HELD bytes), parts are runs of blocks; what the
//          next block reads is fetched while this one is multiplied.
//          Many, or more than tiles: V of a larger block is made by all threads; then each part is
//          16 filters, whose U is made CHUNK channels at a time and not kept.
// Layout   V[p][tile][channel], U[p][channel][16], M[p][tile][16]. Planes are padded by 16 floats:
//          their distance must not be a power of 2, or all 36 fall into the same few cache sets.
// Bits     Every sum over channels is one chain, so that no bit depends on blocks or threads. But
//          the bits of a pixel depend on all 36 inputs of its tile: see exact.cpp.
#include "isa.h"
#include "micro.h"
#include "pool.h"
#include "winograd_tiles.h"

namespace unetcu::UNETCU_ISA {
namespace {

constexpr int CHUNK = 64;        // channels at a time: U of a panel is 147 KiB
constexpr long HELD = 3 << 20;   // bytes of U that are held
constexpr long OWN = 220 << 10;  // bytes of V of a block of one thread: most of a small L2
constexpr long SHARED = 4 << 20;  // bytes of V of a block of all threads
constexpr int LEAST = 24;        // tiles: fewer would not pay for reading U
constexpr int PARTS = 8;         // at least, where there is enough to do: for up to 4 threads
constexpr int RUNS = 24;         // of blocks, at most: shared out evenly over 1 to 4, 6, 8 threads

struct Correlation {
  const View &x, &y;
  const View* closes;  // the gate of x
  const float* w;      // (3,3,C,K)
  const float* bias;   // of y's channels, or none
  bool relu, turned;   // turned: x has w's K channels, y its C
  int pad;             // of x, with zeros

  int inputs = x.C, outputs = y.C;
  int stored = int(round_up(inputs, LANES));  // channels of V
  int chunk = smaller(stored, CHUNK), chunks = int(ceil_div(inputs, chunk));
  int panels = int(ceil_div(outputs, PANEL));
  Tiles tiles{y};
  // With fewer tiles than filters U is more to pass between cores than V: not even then.
  bool hold = 144L * stored * panels * PANEL <= HELD && !(panels >= PARTS && tiles.total < outputs);
  long block = block_size(), blocks = ceil_div(tiles.total, block);
  long v_plane = block * stored + 16, m_plane = block * PANEL + 16, u_plane = chunk * PANEL + 16;

  // Tiles in a block: a multiple of the micro-kernel's rows; but few blocks share the tiles evenly.
  long block_size() const {
    long size = larger<long>(LEAST, (hold ? OWN : SHARED) / (144L * stored));
    if (hold) size = smaller(size, ceil_div(tiles.total, PARTS));
    size = larger<long>(1, smaller(tiles.total, round_up(size, 12)));
    return hold ? ceil_div(tiles.total, ceil_div(tiles.total, size)) : size;
  }

  void inputs_of(long tile, float* V) const {
    const auto [n, row, column] = tiles.at(tile);
    vec room[36];
    for (int c = 0; c < stored; c += LANES)
      transform<InputMap>(patch<6>(x, closes, n, row - pad, column - pad, c, room), V + c, v_plane);
  }

  // packed[tap][i][16]: the filters from inputs c + i to the outputs of a panel, 0 beyond the last.
  void pack(int panel, int c, int count, float* packed) const {
    const int k = panel * PANEL;
    for (int tap = 0; tap < 9; tap++) {
      const float* from = w + ((long)tap * inputs + c) * outputs + k;
      for (int i = 0; i < count; i++, from += outputs, packed += PANEL)
        for (int v = 0; v < PANEL; v += LANES) store(packed + v, load(from + v, outputs - k - v));
    }
  }

  // The same of w turned by 180 degrees, C and K swapped.
  void pack_turned(int panel, int c, int count, float* packed) const {
    const int C = outputs, K = inputs, valid = smaller(PANEL, C - panel * PANEL);
    for (int tap = 0; tap < 9; tap++, packed += count * PANEL) {
      const float* from = w + ((long)(8 - tap) * C + panel * PANEL) * K + c;
      for (int j = 0; j < PANEL; j += 4) {
        int i = 0;
        if (j + 4 <= valid)
          for (; i + 4 <= count; i += 4)
            transpose4(from + (long)j * K + i, K, packed + i * PANEL + j, PANEL);
        for (; i < count; i++)
          for (int u = j; u < j + 4; u++)
            packed[i * PANEL + u] = u < valid ? from[(long)u * K + i] : 0.f;
      }
    }
  }

  // U of `chunk` inputs from c on and one panel of outputs. Filters are packed first, tap after tap:
  // the 9 numbers of one filter lie C * K apart, often a power of two, and would meet in one set.
  void filters(int panel, int c, float* U) const {
    const int count = smaller(chunk, inputs - c), tap = count * PANEL;
    float* packed = scratch(0, 9L * CHUNK * PANEL);
    turned ? pack_turned(panel, c, count, packed) : pack(panel, c, count, packed);
    for (int i = 0; i < tap; i += LANES)
      transform<FilterMap>(Patch{packed + i, nullptr, 3 * tap, tap, 0, 0}, U + i, u_plane);
  }

  // The outputs of one panel, of `count` tiles whose V is given. `next`: tiles whose turn comes next.
  void outputs_of(long first, long count, int panel, const float* V, const float* held,
                  Soon next) const {
    float* M = scratch(2, 36 * m_plane);
    for (int i = 0; i < chunks; i++) {
      const int c = i * chunk;
      const float* U = held + 36 * u_plane * ((long)panel * chunks + i);
      if (!hold) {
        float* made = scratch(1, 36 * u_plane);
        filters(panel, c, made);
        U = made;
      }
      for (int p = 0; p < 36; p++) {
        const long step = i * 36 + p, steps = 36 * chunks;
        next.step(step, steps, [&](long tile) {
          fetch(x, tiles, tile, 2 - pad, 6 - pad);
          if (closes) fetch(*closes, tiles, tile, 2 - pad, 6 - pad);
        });
        if (panel == 0)
          Soon{first, first + count}.step(step, steps, [&](long t) { fetch(y, tiles, t, 0, 4); });
        product(count, V + p * v_plane + c, stored, 1, U + p * u_plane, PANEL,
                smaller(chunk, inputs - c), M + p * m_plane, PANEL, i > 0);
      }
    }
    for (long t = 0; t < count; t++) {
      for (int v = 0; v < PANEL && panel * PANEL + v < outputs; v += LANES)
        finish(first + t, panel * PANEL + v, M + t * PANEL + v);
    }
  }

  // LANES outputs from k on of a tile, from their 36 numbers.
  void finish(long tile, int k, const float* M) const {
    const auto [n, row, column] = tiles.at(tile);
    const int high = smaller(4, y.H - row), wide = smaller(4, y.W - column), valid = outputs - k;
    const vec b = bias ? load(bias + k, valid) : vec{};
    const auto in = [&](int i, int j) { return load(M + (6 * i + j) * m_plane); };
    const auto act = [&](vec v) { return relu ? UNETCU_ISA::relu(v + b) : v + b; };
    float* to = y.at(n, row, column) + k;
    if (high == 4 && wide == 4 && valid >= LANES)
      return both_ways<OutputMap>(
          in, [&](int i, int j, vec v) { store(to + i * y.h + j * y.w, act(v)); });
    vec out[16];
    both_ways<OutputMap>(in, [&](int i, int j, vec v) { out[4 * i + j] = act(v); });
    for (int i = 0; i < high; i++)
      for (int j = 0; j < wide; j++) store(to + i * y.h + j * y.w, out[4 * i + j], valid);
  }

  void run() const {
    if (hold) {
      float* U = scratch(4, 36 * u_plane * panels * chunks);
      parallel((long)panels * chunks, [&](long part, int) {
        filters(int(part / chunks), int(part % chunks) * chunk, U + 36 * u_plane * part);
      });
      const long runs = smaller<long>(blocks, RUNS);
      parallel(runs, [&](long run, int) {
        float* V = scratch(3, 36 * v_plane);
        const long last = smaller(tiles.total, blocks * (run + 1) / runs * block);
        for (long first = blocks * run / runs * block; first < last; first += block) {
          const long end = smaller(first + block, last);
          const Soon next{end, smaller(end + block, last)};
          for (long t = first; t < end; t++) inputs_of(t, V + (t - first) * stored);
          for (int panel = 0; panel < panels; panel++)
            outputs_of(first, end - first, panel, V, U, next.part(panel, panels));
        }
      });
      return;
    }
    float* V = scratch(5, 36 * v_plane);
    for (long first = 0; first < tiles.total; first += block) {
      const long count = smaller(block, tiles.total - first);
      parallel(count, [&](long t, int) { inputs_of(first + t, V + t * stored); });
      const long slices = panels < PARTS ? ceil_div(PARTS, panels) : 1;
      const long slice = round_up(ceil_div(count, slices), 12);
      parallel(panels * slices, [&](long part, int) {
        const long from = part / panels * slice;
        if (from >= count) return;
        outputs_of(first + from, smaller(slice, count - from), int(part % panels),
                   V + from * stored, nullptr, Soon{0, 0});
      });
    }
  }
};

}  // namespace

void winograd_forward(const View& x, const float* w, const float* bias, bool relu,
                      const View& y) {
  Correlation{x, y, nullptr, w, bias, relu, false, 0}.run();
}

void winograd_backward_x(const View& dy, const View* gate, const float* w, const View& dx) {
  Correlation{dy, dx, gate, w, nullptr, false, true, 2}.run();
}

}  // namespace unetcu::UNETCU_ISA
