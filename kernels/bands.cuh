// bands.cuh: a tile of an image in shared memory, as wgmma takes it for a convolution, and how it
// gets there.
//
// wgmma reads pixels as rows of 128 bytes, eight of them a group, and groups begin at multiples of
// 1024 bytes. A tap of a convolution begins one pixel further on than the tap before: so the eight
// of a group must not be neighbours. A tile of 16 rows is cut into eight bands of two rows, and a
// group is the same pixel of each band. One pixel further on is then one group further on, for all
// eight, and every tap can be read in place.
//
//   group   (a, v): the pixels in column v of rows a, a + 2, ..., a + 14 of the tile
//
// A tap needs the rows a and columns v that lie HALO further on, too: for a 3x3 convolution of 16 x 16
// pixels, 4 x 18 groups of 8 where there are 2 x 16, 2.25 times the tile. (Three copies of the tile,
// one for each column of taps, would be 3.4 times.)
//
// Rows a of an image, of every second row, are what one copy by TMA brings: a box of 64 channels,
// eight row pairs and the columns. Of a row that the image does not have it makes zeros, if the rows
// of even and of odd number are known to it as two images.
#pragma once
#include "ptx.cuh"
#include "real.cuh"

constexpr int TILE_H = 16;
constexpr int CHUNK = 64;           // channels in a row of shared memory
constexpr int GROUP = 1024;         // bytes
constexpr int STEPS = CHUNK / 16;   // products that sum them
constexpr int STEP = 32;            // bytes from one to the next
constexpr int GROUPS = 8;           // a product's rows: the same rows a, columns v to v + 7

#ifdef FORMAT_BF16
#define MULTIPLY wgmma_bf16
#else
#define MULTIPLY wgmma_f16
#endif

template <int TILE_W, int HALO>
struct Patch {
  static constexpr int WIDTH = TILE_W + HALO, HEIGHT = 2 + HALO;
  static constexpr int BYTES = HEIGHT * WIDTH * GROUP;

  // Copies CHUNK channels from c on of the tile of image n that begins at (p, q); p is even. The maps
  // have sizes (C, rows of a kind, W, N), and one row at least: if H is 1, what would be odd ones is
  // asked of image -1, which is all zeros.
  static __device__ __forceinline__ void copy(char* to, const TensorMap& even, const TensorMap& odd,
                                              int c, int p, int q, int n, int H, Barrier* done) {
#pragma unroll
    for (int a = 0; a < HEIGHT; ++a)
      copy_box(to + a * WIDTH * GROUP, a % 2 ? odd : even, done, c, p / 2 + a / 2, q,
               a % 2 && H == 1 ? -1 : n);
  }
  // Where group (a, v) lies.
  static __device__ __forceinline__ const char* at(const char* patch, int a, int v) {
    return patch + (a * WIDTH + v) * GROUP;
  }
};

// Places in shared memory that are filled by one thread and used by others, in turn. `full` ends a
// phase when a place has been filled, `empty` when all warps that use it are done with it.
template <int PLACES, int BYTES>
struct Ring {
  char* places;
  Barrier *full, *empty;
  int place = 0;
  unsigned round = 0;

  static constexpr int SIZE = PLACES * BYTES;
  __device__ __forceinline__ Ring(char* memory, Barrier* barriers)
      : places(memory), full(barriers), empty(barriers + PLACES) {}
  // By one thread, before anything else.
  __device__ __forceinline__ void init(unsigned warps) const {
    for (int i = 0; i < PLACES; ++i) {
      mbarrier_init(full + i, 1);
      mbarrier_init(empty + i, warps);
    }
  }
  __device__ __forceinline__ char* here() const { return places + place * BYTES; }
  __device__ __forceinline__ void next() {
    if (++place < PLACES) return;
    place = 0;
    round ^= 1;
  }
  // The filling thread: waits until the place may be filled; then its copies end with full[place].
  __device__ __forceinline__ void fill() const {
    mbarrier_wait(empty + place, round ^ 1);
    mbarrier_expect(full + place, BYTES);
  }
  // The others: wait until it is there, ...
  __device__ __forceinline__ void use() const { mbarrier_wait(full + place, round); }
  // ... and are done with the place before it (back = 1), or with it: a lane for its warp.
  __device__ __forceinline__ void done(int back) const {
    const int which = place >= back ? place - back : place - back + PLACES;
    __syncwarp();  // all lanes are
    if (threadIdx.x % 32 == 0) mbarrier_arrive(empty + which);
  }
};
