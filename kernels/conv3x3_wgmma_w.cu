// conv3x3_wgmma_w.cu: the weight and bias gradients of the valid 3x3 convolution by wgmma.
//
//   dw[r,s,c,k] = sum_{n,i,j} x[n,i+r,j+s,c] dy[n,i,j,k]        db[k] = sum_{n,i,j} dy[n,i,j,k]
//
// What conv3x3_mma_w.cu does, which explains the rest; both factors are brought by TMA and read from
// shared memory by wgmma itself, as they lie in memory, channels fastest.
//
// Shapes   as in conv3x3_mma_w.cu.
// Formats: bf16 fp16
// Needs: sm_90a
// Threads  512: of one warpgroup a single thread copies; three own BLOCK channels x BLOCK filters x 9
//          taps, each a row of taps: 3 products of 64 x 64, 96 sums a thread, for the whole of its slab.
// Shared   16 x 16 pixels of dy and what they see of x, CHUNK channels of each, in bands (bands.cuh):
//          32 + 72 KiB, twice. Two groups are the 16 pixels that a product sums over, and every tap
//          begins at a group of x.
// Cost     A tile is 18.9 MFLOP for 104 KiB: 177 FLOP for each byte from L2, of which an H200 gives a
//          multiprocessor about 40 a clock, where its tensor cores want 23. A product of 64 x 64 x 16
//          reads 4 KiB of shared memory in the 32 clocks it takes: all of its 128 bytes a clock, and
//          that is the limit. (No time was measured yet.)
// Slabs    as in conv3x3_mma_w.cu; summed by conv3x3_sum_slabs.
// NaN      Beyond the right and the lower edge dy is 0 and x is what is there: a NaN of x at those
//          edges reaches all taps, not just those that see it.
//
// Launched by unetcu/ops/conv3x3.py. Tested by tests/ops/test_conv3x3_mma.py.
#include "bands.cuh"
#include "common.cuh"
#include "ptx.cuh"
#include "real.cuh"

constexpr int WORKERS = 384;  // threads that multiply
constexpr int THREADS = WORKERS + 128;
constexpr int TILE_W = 16;
constexpr int BLOCK = 64;
constexpr int PLACES = 2;
constexpr int ROW_PIECES = 8;                 // of 16 bytes, in a row: eight filters each
constexpr int ADDERS = WORKERS / ROW_PIECES;  // of the slopes of these

// skip and x: maps as in conv3x3_wgmma.cu; dy too. A block of channels never holds some of both images.
//
// Grid: x slabs, y blocks of channels, first those of skip, z blocks of filters. Dynamic shared memory:
// PLACES tiles of both, and 16 bytes for each.
extern "C" __global__ void __launch_bounds__(THREADS, 1) conv3x3_wgmma_w_backward(
    const __grid_constant__ TensorMap skip_even, const __grid_constant__ TensorMap skip_odd,
    const __grid_constant__ TensorMap x_even, const __grid_constant__ TensorMap x_odd,
    const __grid_constant__ TensorMap dy_even, const __grid_constant__ TensorMap dy_odd,
    float* __restrict__ parts_w, float* __restrict__ parts_b, int N, int H, int W, int C, int K,
    int S) {
  using Pixels = Patch<TILE_W, 2>;
  using Slopes = Patch<TILE_W, 0>;
  constexpr int BYTES = Pixels::BYTES + Slopes::BYTES;
  const int P = H - 2, Q = W - 2, across = ceil_div(Q, TILE_W), down = ceil_div(P, TILE_H);
  char* memory = dynamic_shared<char>();
  Ring<PLACES, BYTES> ring(memory, reinterpret_cast<Barrier*>(memory + PLACES * BYTES));
  const int tiles = N * down * across, share = ceil_div(tiles, gridDim.x), slab = blockIdx.x;
  const int last = min(tiles, (slab + 1) * share), blocks_skip = ceil_div(S, BLOCK);
  const bool of_skip = static_cast<int>(blockIdx.y) < blocks_skip;
  const int c0 = (blockIdx.y - (of_skip ? 0 : blocks_skip)) * BLOCK, k0 = blockIdx.z * BLOCK;
  const int t = threadIdx.x, lane = t % 32, r = t / 128;
  if (t == 0) {
    ring.init(WORKERS / 32);
    show_mbarriers();
  }
  __syncthreads();  // the mbarriers are there

  if (t >= WORKERS) {
    registers_down_to<40>();
    if (t > WORKERS) return;
    const TensorMap& even = of_skip ? skip_even : x_even;
    const TensorMap& odd = of_skip ? skip_odd : x_odd;
    for (int tile = slab * share; tile < last; ++tile) {
      const int n = tile / (down * across), p = tile / across % down * TILE_H;
      const int q = tile % across * TILE_W;
      ring.fill();
      Barrier* done = ring.full + ring.place;
      Pixels::copy(ring.here(), even, odd, c0, p, q, n, H, done);
      Slopes::copy(ring.here() + Pixels::BYTES, dy_even, dy_odd, k0, p, q, n, P, done);
      ring.next();
    }
    return;
  }

  registers_up_to<152>();
  float sum[3][BLOCK / 2] = {}, bias[8] = {};
  const bool sums_bias = blockIdx.y == 0;
#pragma unroll
  for (int s = 0; s < 3; ++s) wgmma_settle(sum[s]);
  for (int tile = slab * share; tile < last; ++tile) {
    ring.use();
    const char* patch = Pixels::at(ring.here(), r, 0);
    const char* slopes = ring.here() + Pixels::BYTES;
    wgmma_begin();
#pragma unroll
    for (int a = 0; a < 2; ++a)
#pragma unroll
      for (int v = 0; v < TILE_W; v += 2) {
        const auto f = wgmma_factor(Slopes::at(slopes, a, v), 0, GROUP);
#pragma unroll
        for (int s = 0; s < 3; ++s)
          MULTIPLY<true, true>(sum[s], wgmma_factor(Pixels::at(patch, a, v + s), 0, GROUP), f);
      }
    wgmma_commit();
    if (sums_bias)
      for (int row = t / ROW_PIECES; row < Slopes::BYTES / 128; row += ADDERS) {
        const int piece = row * ROW_PIECES + (t % ROW_PIECES ^ row % 8);  // as swizzled
        const real* eight = reinterpret_cast<const real*>(slopes) + 8 * piece;
#pragma unroll
        for (int e = 0; e < 8; ++e) bias[e] += static_cast<float>(eight[e]);
      }
    wgmma_wait<1>();  // for the products before these: their place may be overwritten
    if (tile != slab * share) ring.done(1);
    ring.next();
  }
  wgmma_wait<0>();
#pragma unroll
  for (int s = 0; s < 3; ++s) wgmma_settle(sum[s]);

  // A lane holds filters 8 j + 2 (lane % 4) and the next, of the channels lane / 4 and 8 further on.
  const int channels = of_skip ? S : C - S, first = of_skip ? 0 : S;
#pragma unroll
  for (int s = 0; s < 3; ++s)
#pragma unroll
    for (int j = 0; j < BLOCK / 8; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int c = c0 + t / 32 % 4 * 16 + lane / 4 + e / 2 * 8;
        const int k = k0 + 8 * j + lane % 4 * 2 + e % 2;
        if (c < channels && k < K)
          parts_w[((((long long)slab * 3 + r) * 3 + s) * C + first + c) * K + k] = sum[s][4 * j + e];
      }
  if (!sums_bias) return;
  float* sums = dynamic_shared<float>();  // [ADDERS][BLOCK]
  __syncthreads();  // no product reads shared memory any more, and all have added what they read
#pragma unroll
  for (int e = 0; e < 8; ++e) sums[t / ROW_PIECES * BLOCK + t % ROW_PIECES * 8 + e] = bias[e];
  __syncthreads();  // the sums of all threads are there
  if (t >= BLOCK || k0 + t >= K) return;
  float total = 0.0f;
  for (int i = 0; i < ADDERS; ++i) total += sums[i * BLOCK + t];
  parts_b[(long long)slab * K + k0 + t] = total;
}
