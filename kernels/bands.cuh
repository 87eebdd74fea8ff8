// bands.cuh: a tile of an image in shared memory, as wgmma takes it for a convolution.
//
// wgmma reads pixels as rows of 128 bytes, eight of them a group, and groups begin at multiples of
// 1024 bytes. A tap of a convolution begins one pixel further on than the tap before: so the eight
// of a group must not be neighbours. The tile is cut into eight bands, and a group is the same pixel
// of each:
//
//   tile    16 x 16 pixels: four bands down, two across, of 4 x 8 pixels
//   group   pixel (a, j) of every band; in shared memory, groups lie by rows a of a band
//
// One pixel further on is then one group further on, for all eight, and every tap can be read in
// place. A band needs what lies HALO pixels beyond its right and lower edge, too: of x, 6 x 10 pixels
// for 4 x 8, 1.9 times the tile. Three copies of the tile, one for each column of taps, would be 2.7
// times.
#pragma once
#include "fours.cuh"
#include "mma.cuh"
#include "pair.cuh"

constexpr int TILE = 16;
constexpr int BAND_H = 4;
constexpr int BAND_W = 8;
constexpr int ROW_PIECES = 8;          // of 16 bytes, in a row
constexpr int CHUNK = 64;              // numbers in a row
constexpr int GROUP = 8 * ROW_PIECES;  // in pieces, as all that follows
constexpr int PATCH_W = BAND_W + 2;
constexpr int PATCH = (BAND_H + 2) * PATCH_W * GROUP;
constexpr int PIXELS = BAND_H * BAND_W * GROUP;

#ifdef FORMAT_BF16
#define MULTIPLY wgmma_bf16
#else
#define MULTIPLY wgmma_f16
#endif

// Where piece j of a row lies: swizzled as wgmma wants it.
__device__ __forceinline__ int in_rows(int row, int j) { return row * ROW_PIECES + (j ^ row % 8); }

// Copies CHUNK channels of a tile of x and its halo, in ROUNDS rounds: a thread one piece of every
// AT_ONCE-th group, always of the same band. Outside the image lie zeros.
template <int HALO, int THREADS>
struct Bands {
  static constexpr int ACROSS = BAND_W + HALO, GROUPS = (BAND_H + HALO) * ACROSS;
  static constexpr int AT_ONCE = THREADS / GROUP, ROUNDS = (GROUPS + AT_ONCE - 1) / AT_ONCE;
  static_assert(AT_ONCE <= ACROSS, "a step ends in the next row at the latest");

  const Pair<const real>& x;
  const real* from = nullptr;  // of the next copy; null: zeros
  uint4* to = nullptr;
  long long right = 0, down = 0;  // to a pixel's neighbours
  int h = 0, v = 0, j = 0, groups = 0;

  __device__ __forceinline__ explicit Bands(const Pair<const real>& image) : x(image) {}

  // From the tile whose first pixel is (p, q) of image n, from channel c on.
  __device__ __forceinline__ void begin(uint4* tile, int n, int p, int q, int c) {
    const int t = threadIdx.x, piece = t % ROW_PIECES, band = t / ROW_PIECES % 8, group = t / GROUP;
    const int d = c + piece * PIECE;
    j = group % ACROSS;
    h = p + band / 2 * BAND_H + group / ACROSS;
    v = q + band % 2 * BAND_W + j;
    right = d < x.S ? x.S : x.C - x.S;
    down = x.row(d);
    from = d < x.C ? x.at(n, h, v, d) : nullptr;
    to = tile + group * GROUP + in_rows(band, piece);
    groups = GROUPS - group;
  }
  __device__ __forceinline__ void next() {  // a round
    if (groups <= 0) return;
    const bool there = from && static_cast<unsigned>(h) < static_cast<unsigned>(x.H) &&
                       static_cast<unsigned>(v) < static_cast<unsigned>(x.W);
    cp_async<16>(to, there ? from : x.x, there ? 16 : 0);
    groups -= AT_ONCE;
    to += AT_ONCE * GROUP;
    const bool below = j + AT_ONCE >= ACROSS;
    const int step = below ? AT_ONCE - ACROSS : AT_ONCE;
    j += step;
    v += step;
    h += below;
    if (from) from += step * right + (below ? down : 0);
  }
};
