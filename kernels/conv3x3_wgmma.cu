// conv3x3_wgmma.cu: the valid 3x3 convolution on Hopper's tensor cores, forward and input gradient.
//
//   y[n,i,j,k]  = act( b[k] + sum_{r,s,c} x[n,i+r,j+s,c] w[r,s,c,k] )
//   dx[n,i,j,c] = sum_{r,s,k} dy[n,i-r,j-s,k] w[r,s,c,k]      gated: 0 where not x[n,i,j,c] > 0
//
// What conv3x3_mma.cu does, which explains the rest; but factors are read from shared memory by
// wgmma itself, in the background, and brought there by TMA: one thread says which boxes, and the
// copies themselves say when they are there. No thread that multiplies ever copies or waits for
// another, and while one tile is written the next is on its way.
//
// Shapes   as in conv3x3_mma.cu. No shares of the channels: where there are few tiles, smaller ones.
// Formats: bf16 fp16
// Needs: sm_90a
// Threads  384: of one warpgroup a single thread copies; the two others own a tile of 16 x TILE_W pixels
//          x TILE_M channels of what is made: each 8 columns of it, or, if TILE_W is 8, one of the two
//          rows of every band. Products of 64 x TILE_M, TILE_W / 16 TILE_M sums a thread. A block makes
//          tile after tile, every gridDim.x-th.
// Shared   a patch of x (bands.cuh), of which every tap is another group to start at, twice; and FILTERS
//          taps of w, in swizzled rows of 128 bytes.
// Cost     (wide) nine taps are 37.7 MFLOP for 144 KiB of w and 72 of x: 170 FLOP for each byte from
//          L2, of which an H200 gives a multiprocessor about 40 a clock, where its tensor cores want
//          24; slim: 40. A product of 64 x 128 x 16 reads 6 KiB of shared memory in the 64 clocks it
//          takes: 96 of 128 bytes a clock; with 64 channels, all of them. Compute-bound, if copies
//          stay ahead. (No time was measured yet.)
//
// Launched by unetcu/ops/conv3x3.py. Tested by tests/ops/test_conv3x3_mma.py.
#include "bands.cuh"
#include "common.cuh"
#include "mma.cuh"
#include "pair.cuh"
#include "pool.cuh"
#include "ptx.cuh"
#include "real.cuh"

constexpr int WORKERS = 256;  // threads that multiply
constexpr int THREADS = WORKERS + 128;
constexpr int PATCHES = 2;
constexpr int WIDE_W = 16;
constexpr int WIDE_M = 128;
constexpr int SLIM_W = 8;
constexpr int SLIM_M = 128;
constexpr int NARROW_W = 16;
constexpr int NARROW_M = 64;
constexpr int SMALL_W = 8;
constexpr int SMALL_M = 64;
constexpr int FILTER_BYTES = 65536;  // of w in shared memory: 4 taps for 128 channels, 8 for 64

// One of two images that hold the channels summed: its rows and the filters' rows for it.
struct Source {
  const TensorMap &even, &odd, &w;
};

// The tile number `item`, its first pixel (p, q) of image n and its first channel m.
struct Item {
  int n, p, q, m;
  __device__ __forceinline__ Item(int item, int P, int Q, int M, int tile_w, int tile_m) {
    const int blocks_m = ceil_div(M, tile_m), across = ceil_div(Q, tile_w);
    const int down = ceil_div(P, TILE_H), tile = item / blocks_m;
    m = item % blocks_m * tile_m;  // fastest: tiles that are made together read the same pixels
    q = tile % across * tile_w;
    p = tile / across % down * TILE_H;
    n = tile / across / down;
  }
};

// out (N,P,Q,M) of x (N,H,W,D) or, its first S channels, of skip. gated: by `gate`, which lies as out.
template <int TILE_W, int TILE_M, bool TURNED>
__device__ __forceinline__ void correlate_wgmma(const Source& skip, const Source& x, int N, int H,
                                                int S, int D, const float* b, const real* gate,
                                                const Pair<real>& out, int relu,
                                                const Pool& pool = {}) {
  constexpr int PAD = TURNED ? 2 : 0, TAP = TILE_M * CHUNK * 2, PRODUCTS = TILE_W / 8;
  using Pixels = Patch<TILE_W, 2>;
  char* memory = dynamic_shared<char>();
  Ring<PATCHES, Pixels::BYTES> patches(
      memory, reinterpret_cast<Barrier*>(memory + PATCHES * Pixels::BYTES + FILTER_BYTES));
  Ring<FILTER_BYTES / TAP, TAP> filters(memory + patches.SIZE, patches.full + 2 * PATCHES);
  const int M = out.C, P = out.H, Q = out.W;
  const int items = N * ceil_div(P, TILE_H) * ceil_div(Q, TILE_W) * ceil_div(M, TILE_M);
  const int chunks_skip = ceil_div(S, CHUNK), chunks = chunks_skip + ceil_div(D - S, CHUNK);
  const int t = threadIdx.x, lane = t % 32, group = t / 128;
  if (t == 0) {
    patches.init(WORKERS / 32);
    filters.init(WORKERS / 32);
    show_mbarriers();
  }
  __syncthreads();  // the mbarriers are there

  if (t >= WORKERS) {
    registers_down_to<40>();
    if (t > WORKERS) return;
    for (int i = blockIdx.x; i < items; i += gridDim.x) {
      const Item item(i, P, Q, M, TILE_W, TILE_M);
      for (int chunk = 0; chunk < chunks; ++chunk) {
        const bool of_skip = chunk < chunks_skip;
        const TensorMap& even = of_skip ? skip.even : x.even;
        const TensorMap& odd = of_skip ? skip.odd : x.odd;
        const TensorMap& w = of_skip ? skip.w : x.w;
        const int d = (of_skip ? chunk : chunk - chunks_skip) * CHUNK;
        patches.fill();
        Pixels::copy(patches.here(), even, odd, d, item.p - PAD, item.q - PAD, item.n, H,
                     patches.full + patches.place);
        patches.next();
        for (int tap = 0; tap < 9; ++tap) {
          filters.fill();
          Barrier* done = filters.full + filters.place;
          if (TURNED)  // rows are channels m of 64 d
            copy_box(filters.here(), w, done, d, item.m, 8 - tap);
          else  // channels d of 64 m, and TILE_M / 64 such blocks
#pragma unroll
            for (int j = 0; j < TILE_M; j += 64)
              copy_box(filters.here() + j * CHUNK * 2, w, done, item.m + j, d, tap);
          filters.next();
        }
      }
    }
    return;
  }

  registers_up_to<232>();
  for (int i = blockIdx.x; i < items; i += gridDim.x) {
    float sum[PRODUCTS][TILE_M / 2] = {};
#pragma unroll
    for (int j = 0; j < PRODUCTS; ++j) wgmma_settle(sum[j]);
    for (int chunk = 0; chunk < chunks; ++chunk) {
      patches.use();
      const char* patch = TILE_W == 8 ? Pixels::at(patches.here(), group, 0)
                                      : Pixels::at(patches.here(), 0, 8 * group);
#pragma unroll 1
      for (int tap = 0; tap < 9; ++tap) {
        filters.use();
        wgmma_begin();
        const char* first = Pixels::at(patch, tap / 3, tap % 3);
#pragma unroll
        for (int k = 0; k < STEPS; ++k)
#pragma unroll
          for (int j = 0; j < PRODUCTS; ++j) {
            const auto a = wgmma_factor(Pixels::at(first, j, 0) + k * STEP, 0, GROUP);
            const auto f = TURNED ? wgmma_factor(filters.here() + k * STEP, 0, GROUP)
                                  : wgmma_factor(filters.here() + k * 2 * GROUP, CHUNK * 128, GROUP);
            MULTIPLY<false, !TURNED>(sum[j], a, f);
          }
        wgmma_commit();
        wgmma_wait<1>();  // for the products before these: their filters may be overwritten
        if (chunk || tap) filters.done(1);
        if (chunk && !tap) patches.done(1);
        filters.next();
      }
      patches.next();
    }
    wgmma_wait<0>();
    filters.done(1);
    patches.done(1);
#pragma unroll
    for (int j = 0; j < PRODUCTS; ++j) wgmma_settle(sum[j]);

    // A lane holds of a product two neighbouring pixels of one band.
    const Item item(i, P, Q, M, TILE_W, TILE_M);
    const int p = item.p + lane / 4 * 2 + (TILE_W == 8 ? group : 0);
    const int q = item.q + (TILE_W == 8 ? 0 : 8 * group) + t / 32 % 4 * 2;
#pragma unroll
    for (int j = 0; j < TILE_M / 8; j += 2) {
      const int m = item.m + 8 * (j + lane % 2) + lane % 4 / 2 * 4;
      float v[2 * PRODUCTS][4];
#pragma unroll
      for (int e = 0; e < 2 * PRODUCTS; ++e) {
        exchange(v[e], reinterpret_cast<float(&)[TILE_M / 8][4]>(sum[e / 2]), e % 2 * 2, j);
        const int row = p + e / 2, column = q + e % 2;
        if (row >= P || column >= Q || m >= M) continue;
        const long long at = (((long long)item.n * P + row) * Q + column) * M + m;
        finish(out.at(item.n, row, column, m), v[e], b ? b + m : nullptr,
               gate ? gate + at : nullptr, relu);
      }
      if constexpr (TILE_W == 16)
        if (pool.y) pool.put(v, item.n, p, q, m, P, Q, M);
    }
  }
}

// x and skip as in conv3x3_mma.cu, but seen as maps of their even and odd rows (bands.cuh), skip from
// the centre on; and w as (K, channels of the image, 9), the fastest first, from its first channel on.
// Without a skip map S is 0, and x stands for it. pooled and winner are written if `pool`, by tiles of
// 16 columns only.
//
// Grid: blocks, one for each multiprocessor or for each tile, if those are fewer. Dynamic shared memory:
// PATCHES patches, FILTER_BYTES, and 16 bytes for each of these patches and taps.
extern "C" __global__ void __launch_bounds__(THREADS, 1) conv3x3_wgmma_forward(
    const __grid_constant__ TensorMap skip_even, const __grid_constant__ TensorMap skip_odd,
    const __grid_constant__ TensorMap skip_w, const __grid_constant__ TensorMap x_even,
    const __grid_constant__ TensorMap x_odd, const __grid_constant__ TensorMap x_w,
    const float* __restrict__ b, real* __restrict__ y, real* __restrict__ pooled,
    unsigned char* __restrict__ winner, int N, int H, int W, int C, int K, int S, int relu,
    int pool) {
  const Pair<real> to = {nullptr, y, 0, 0, 0, H - 2, W - 2, K};
  correlate_wgmma<WIDE_W, WIDE_M, false>({skip_even, skip_odd, skip_w}, {x_even, x_odd, x_w}, N,
                                           H, S, C, b, nullptr, to, relu,
                                           {pool ? pooled : nullptr, winner});
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) conv3x3_wgmma_forward_slim(
    const __grid_constant__ TensorMap skip_even, const __grid_constant__ TensorMap skip_odd,
    const __grid_constant__ TensorMap skip_w, const __grid_constant__ TensorMap x_even,
    const __grid_constant__ TensorMap x_odd, const __grid_constant__ TensorMap x_w,
    const float* __restrict__ b, real* __restrict__ y, real* __restrict__ pooled,
    unsigned char* __restrict__ winner, int N, int H, int W, int C, int K, int S, int relu,
    int pool) {
  const Pair<real> to = {nullptr, y, 0, 0, 0, H - 2, W - 2, K};
  correlate_wgmma<SLIM_W, SLIM_M, false>({skip_even, skip_odd, skip_w}, {x_even, x_odd, x_w}, N,
                                           H, S, C, b, nullptr, to, relu,
                                           {pool ? pooled : nullptr, winner});
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) conv3x3_wgmma_forward_narrow(
    const __grid_constant__ TensorMap skip_even, const __grid_constant__ TensorMap skip_odd,
    const __grid_constant__ TensorMap skip_w, const __grid_constant__ TensorMap x_even,
    const __grid_constant__ TensorMap x_odd, const __grid_constant__ TensorMap x_w,
    const float* __restrict__ b, real* __restrict__ y, real* __restrict__ pooled,
    unsigned char* __restrict__ winner, int N, int H, int W, int C, int K, int S, int relu,
    int pool) {
  const Pair<real> to = {nullptr, y, 0, 0, 0, H - 2, W - 2, K};
  correlate_wgmma<NARROW_W, NARROW_M, false>({skip_even, skip_odd, skip_w}, {x_even, x_odd, x_w}, N,
                                           H, S, C, b, nullptr, to, relu,
                                           {pool ? pooled : nullptr, winner});
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) conv3x3_wgmma_forward_small(
    const __grid_constant__ TensorMap skip_even, const __grid_constant__ TensorMap skip_odd,
    const __grid_constant__ TensorMap skip_w, const __grid_constant__ TensorMap x_even,
    const __grid_constant__ TensorMap x_odd, const __grid_constant__ TensorMap x_w,
    const float* __restrict__ b, real* __restrict__ y, real* __restrict__ pooled,
    unsigned char* __restrict__ winner, int N, int H, int W, int C, int K, int S, int relu,
    int pool) {
  const Pair<real> to = {nullptr, y, 0, 0, 0, H - 2, W - 2, K};
  correlate_wgmma<SMALL_W, SMALL_M, false>({skip_even, skip_odd, skip_w}, {x_even, x_odd, x_w}, N,
                                           H, S, C, b, nullptr, to, relu,
                                           {pool ? pooled : nullptr, winner});
}

// dy: maps of its even and odd rows, and w as above. gated: x was made by a ReLU, and there is no skip
// map.
extern "C" __global__ void __launch_bounds__(THREADS, 1) conv3x3_wgmma_backward_x(
    const __grid_constant__ TensorMap dy_even, const __grid_constant__ TensorMap dy_odd,
    const __grid_constant__ TensorMap w, const real* __restrict__ x, real* __restrict__ dx,
    real* __restrict__ dskip, int N, int H, int W, int C, int K, int S, int Hs, int Ws, int gated) {
  const Pair<real> to = {dskip, dx, S, Hs, Ws, H, W, C};
  const Source dy = {dy_even, dy_odd, w};
  correlate_wgmma<WIDE_W, WIDE_M, true>(dy, dy, N, H - 2, 0, K, nullptr, gated ? x : nullptr, to, 0);
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) conv3x3_wgmma_backward_x_slim(
    const __grid_constant__ TensorMap dy_even, const __grid_constant__ TensorMap dy_odd,
    const __grid_constant__ TensorMap w, const real* __restrict__ x, real* __restrict__ dx,
    real* __restrict__ dskip, int N, int H, int W, int C, int K, int S, int Hs, int Ws, int gated) {
  const Pair<real> to = {dskip, dx, S, Hs, Ws, H, W, C};
  const Source dy = {dy_even, dy_odd, w};
  correlate_wgmma<SLIM_W, SLIM_M, true>(dy, dy, N, H - 2, 0, K, nullptr, gated ? x : nullptr, to, 0);
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) conv3x3_wgmma_backward_x_narrow(
    const __grid_constant__ TensorMap dy_even, const __grid_constant__ TensorMap dy_odd,
    const __grid_constant__ TensorMap w, const real* __restrict__ x, real* __restrict__ dx,
    real* __restrict__ dskip, int N, int H, int W, int C, int K, int S, int Hs, int Ws, int gated) {
  const Pair<real> to = {dskip, dx, S, Hs, Ws, H, W, C};
  const Source dy = {dy_even, dy_odd, w};
  correlate_wgmma<NARROW_W, NARROW_M, true>(dy, dy, N, H - 2, 0, K, nullptr, gated ? x : nullptr, to, 0);
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) conv3x3_wgmma_backward_x_small(
    const __grid_constant__ TensorMap dy_even, const __grid_constant__ TensorMap dy_odd,
    const __grid_constant__ TensorMap w, const real* __restrict__ x, real* __restrict__ dx,
    real* __restrict__ dskip, int N, int H, int W, int C, int K, int S, int Hs, int Ws, int gated) {
  const Pair<real> to = {dskip, dx, S, Hs, Ws, H, W, C};
  const Source dy = {dy_even, dy_odd, w};
  correlate_wgmma<SMALL_W, SMALL_M, true>(dy, dy, N, H - 2, 0, K, nullptr, gated ? x : nullptr, to, 0);
}
