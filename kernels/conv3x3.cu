// conv3x3.cu: valid 3x3 convolution with bias and (if asked) ReLU, forward and backward.
//
//   y[n,i,j,k]  = act( b[k] + sum_{r,s,c} x[n,i+r,j+s,c] w[r,s,c,k] )
//   dx[n,i,j,c] = sum_{r,s,k} g[n,i-r,j-s,k] w[r,s,c,k]         g = dy where y > 0 (or all of dy)
//   dw[r,s,c,k] = sum_{n,i,j} x[n,i+r,j+s,c] g[n,i,j,k]         db[k] = sum_{n,i,j} g[n,i,j,k]
//
// Shapes   x, dx (N,H,W,C)   w, dw (3,3,C,K)   b, db (K)   y, dy (N,H-2,W-2,K); last index fastest.
//          Sizes are those of x, w and y, in every kernel.
// Idea     Each is a matrix product of which one side is never built ("implicit GEMM"). A thread
//          keeps 64 or 72 sums in registers, so that what it fetches from shared memory is used 8
//          times; FFMA fills 94 % of the inner loops' issue slots. Limit on an H200: 67 TFLOP/s.
//
// correlate() computes y and dx (of g padded by 2, w turned by 180 degrees; both read in place).
// Threads  128 own TILE_H x TILE_W pixels x TILE_K filters: wide 8 x 16 x 64, narrow 32 x 16 x 16
//          (few filters: no lane without work). A thread owns 8 pixels, one below the other, and 8
//          filters, 4 and 4. Lanes go over filters first: they write 128 bytes of a pixel of y.
// Shared   8 channels of the tile with its border of 2, loaded once for all nine taps (a tile per
//          tap would be 6.4 times the traffic), and the same channels of w: 5.6 + 19.1 KiB wide,
//          19.1 + 5.6 KiB narrow. Per 256 fused multiply-adds a thread fetches 16 times 16 bytes:
//          2 FLOP a byte, but 8 (x) or 4 (w) lanes ask for the same ones, so 10 FLOP a byte sent;
//          a SM needs 2. Four channels of a pixel lie side by side and pixels 16 bytes apart, so
//          no bank is met twice; rows of w have 4 floats more, for lanes that turn it.
// Cost     A block reads 3 KB a channel, from L2, and multiplies for 576 clocks: 5 bytes a clock,
//          where L2 gives over 20. Compute-bound from C = 16 on. 3 blocks an SM hide loads.
//          At C = 1 it multiplies 3 zeros a channel; that layer is bound by writing y, and a form
//          of its own would save 0.2 % of the paper's forward pass.
//
// backward_w() computes dw and db.
// Threads  256 own CB channels x KB filters x 9 taps: wide 32 x 64, narrow 16 x 16, few 4 x 64. A
//          thread owns a channel, 8 filters and all taps: along a row of pixels, each step brings 3
//          new numbers of x and 8 of g for 72 fused multiply-adds. If fewer than 256 threads own
//          all, GROUPS take rows of the tile in turn, and are added in their order at the end.
// Shared   TILE_H x 15 pixels of g and what they see of x: 15 + 12.8 KiB wide. The lanes of a warp
//          read 128 bytes of g, side by side, and 4 numbers of x.
// Cost     Wide: 460 bytes a pixel for 144 clocks of multiplying, 3.2 bytes a clock: compute-bound.
// Slabs    Tiles are dealt out in slabs, whose number depends on the shape only. Each block
//          writes the sum over its slab, conv3x3_sum_slabs adds them in order: no atomics, the
//          same bits every time. Short sums also round less.
//
// Launched by unetcu/ops/conv3x3.py. Tested by tests/ops/test_conv3x3.py.
#include "common.cuh"
#include "fours.cuh"

constexpr int THREADS = 128;  // of correlate
constexpr int DEPTH = 8;      // channels summed between two loads
constexpr int TILE_W = 16;
constexpr int WIDE_H = 8;
constexpr int WIDE_K = 64;
constexpr int NARROW_H = 32;
constexpr int NARROW_K = 16;

constexpr int W_THREADS = 256;  // of backward_w
constexpr int W_TILE_W = 15;    // the inner loop has three steps
constexpr int W_WIDE_H = 4;
constexpr int W_WIDE_C = 32;
constexpr int W_WIDE_K = 64;
constexpr int W_NARROW_H = 8;
constexpr int W_NARROW_C = 16;
constexpr int W_NARROW_K = 16;
constexpr int W_FEW_H = 8;
constexpr int W_FEW_C = 4;
constexpr int W_FEW_K = 64;

// Four numbers of g: dy where ReLU let through, a plain 0 elsewhere (also where dy or y is NaN).
__device__ __forceinline__ float4 load_g(const float* dy, const float* y, long long at, int left,
                                         bool fours, int relu) {
  float4 g = load4(dy + at, left, fours);
  if (relu) {
    const float4 open = load4(y + at, left, fours);
    g.x = open.x > 0.0f ? g.x : 0.0f;
    g.y = open.y > 0.0f ? g.y : 0.0f;
    g.z = open.z > 0.0f ? g.z : 0.0f;
    g.w = open.w > 0.0f ? g.w : 0.0f;
  }
  return g;
}

// out (N,P,Q,M) = act(b + x * w) of x (N,H,W,D) and w (3,3,D,M), P = H - 2.
// TURNED: x is dy, to be gated by y and padded by 2, P = H + 2; w is (3,3,M,D); no b, no act.
template <int TILE_H, int TILE_K, bool TURNED>
__device__ __forceinline__ void correlate(const float* x, const float* y, const float* w,
                                          const float* b, float* out, int H, int W, int D, int M,
                                          int relu) {
  constexpr int PAD = TURNED ? 2 : 0, PATCH_W = TILE_W + 2, PATCH = (TILE_H + 2) * PATCH_W;
  constexpr int LANES = TILE_K / 8, COLUMNS = 32 / LANES, WARPS_ACROSS = TILE_W / COLUMNS;
  constexpr int ROW = TILE_K + 4;             // floats of a row of ws
  __shared__ float4 xs[2 * PATCH];            // [4 channels][row][column]
  __shared__ float4 ws[9 * DEPTH * ROW / 4];  // [tap][channel][filter]

  const int P = H - 2 + 2 * PAD, Q = W - 2 + 2 * PAD;
  const int blocks_k = ceil_div(M, TILE_K), across = ceil_div(Q, TILE_W);
  // Filters go fastest over blocks: those that run together read the same pixels, from L2.
  const int m0 = blockIdx.x % blocks_k * TILE_K, tile = blockIdx.x / blocks_k, n = blockIdx.y;
  const int p0 = tile / across * TILE_H, q0 = tile % across * TILE_W;
  const int t = threadIdx.x, lane = t % 32, warp = t / 32;
  const int top = warp / WARPS_ACROSS * 8;  // the first of this thread's 8 rows of the tile
  const int column = warp % WARPS_ACROSS * COLUMNS + lane / LANES;
  const int m = m0 + lane % LANES * 4;  // it owns filters m..m+3, and 4 more TILE_K/2 further on
  const bool mine = p0 + top < P && q0 + column < Q && m < M;
  const bool by_fours = D % 4 == 0;

  float sum[8][8] = {};
  for (int d0 = 0; d0 < D; d0 += DEPTH) {
#pragma unroll 3
    for (int e = t; e < 2 * PATCH; e += THREADS) {  // two lanes a pixel: 32 bytes, a full sector
      const int d = d0 + e % 2 * 4, pixel = e / 2;
      const int h = p0 - PAD + pixel / PATCH_W, v = q0 - PAD + pixel % PATCH_W;
      float4 four = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
      if (h >= 0 && h < H && v >= 0 && v < W) {
        const long long at = (((long long)n * H + h) * W + v) * D + d;
        four = TURNED ? load_g(x, y, at, D - d, by_fours, relu) : load4(x + at, D - d, by_fours);
      }
      xs[e % 2 * PATCH + pixel] = four;
    }
    if (TURNED) {
#pragma unroll 2
      for (int e = t; e < 9 * TILE_K * 2; e += THREADS) {
        const int d = e % 2 * 4, c = e / 2 % TILE_K, tap = e / 2 / TILE_K;
        const float* from = w + ((long long)(8 - tap) * M + m0 + c) * D + d0 + d;
        const float4 four = load4(from, m0 + c < M ? D - d0 - d : 0, by_fours);
        float* to = reinterpret_cast<float*>(ws) + (tap * DEPTH + d) * ROW + c;
        to[0] = four.x;
        to[ROW] = four.y;
        to[2 * ROW] = four.z;
        to[3 * ROW] = four.w;
      }
    } else {
#pragma unroll 3
      for (int e = t; e < 9 * DEPTH * (TILE_K / 4); e += THREADS) {
        const int k = e % (TILE_K / 4), row = e / (TILE_K / 4), d = row % DEPTH, tap = row / DEPTH;
        const float* from = w + ((long long)tap * D + d0 + d) * M + m0 + 4 * k;
        // Beyond the last channel x and w are both 0: one alone would not do, 0 * NaN is NaN.
        const int left = d0 + d < D ? M - m0 - 4 * k : 0;
        ws[(tap * DEPTH + d) * ROW / 4 + k] = load4(from, left, M % 4 == 0);
      }
    }
    __syncthreads();  // xs and ws were filled by all, and are read by others than who wrote them
    const int fours = mine ? min(DEPTH / 4, ceil_div(D - d0, 4)) : 0;
#pragma unroll 1
    for (int step = 0; step < 3 * fours; ++step) {  // four channels, a row of taps
      const int f = step / 3, r = step % 3;
      const float4* from = xs + f * PATCH + (top + r) * PATCH_W + column;
      const float4* filters = ws + (3 * r * DEPTH + 4 * f) * ROW / 4 + lane % LANES;
#pragma unroll
      for (int s = 0; s < 3; ++s) {
        float a[4][8];
#pragma unroll
        for (int d = 0; d < 4; ++d) {
          unpack(a[d], filters[(s * DEPTH + d) * ROW / 4]);
          unpack(a[d] + 4, filters[(s * DEPTH + d) * ROW / 4 + LANES]);
        }
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          const float4 v = from[i * PATCH_W + s];
#pragma unroll
          for (int j = 0; j < 8; ++j) {
            sum[i][j] += v.x * a[0][j];
            sum[i][j] += v.y * a[1][j];
            sum[i][j] += v.z * a[2][j];
            sum[i][j] += v.w * a[3][j];
          }
        }
      }
    }
    __syncthreads();  // all have read: only now may xs and ws be filled anew
  }

#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int k = m + half * (TILE_K / 2), q = q0 + column;
    float bias[4] = {};
    if (!TURNED) unpack(bias, load4(b + k, M - k, M % 4 == 0));
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int p = p0 + top + i;
      float v[4];
      for (int j = 0; j < 4; ++j) {
        v[j] = sum[i][4 * half + j] + bias[j];
        if (!TURNED && relu && v[j] < 0.0f) v[j] = 0.0f;  // NaN stays NaN, as fmaxf would not
      }
      if (p < P && q < Q)
        store4(out + (((long long)n * P + p) * Q + q) * M + k, v, M - k, M % 4 == 0);
    }
  }
}

// Over the tiles of one slab: parts_w[slab] (3,3,C,K), parts_b[slab] (K).
template <int TILE_H, int CB, int KB>
__device__ __forceinline__ void backward_w(const float* x, const float* dy, const float* y,
                                           float* parts_w, float* parts_b, int N, int H, int W,
                                           int C, int K, int relu) {
  constexpr int LANES = KB / 8, OWNERS = CB * LANES, GROUPS = W_THREADS / OWNERS;
  constexpr int PIXELS = TILE_H * W_TILE_W, PATCH_W = W_TILE_W + 2, PATCH = (TILE_H + 2) * PATCH_W;
  constexpr int SUMS = GROUPS > 1 ? 72 * OWNERS : 0;  // the room that the groups' sums need
  __shared__ float4 gs[(PIXELS * KB > SUMS ? PIXELS * KB : SUMS) / 4];  // [row][column][filter]
  __shared__ float4 xs[PATCH * CB / 4];                                 // [row][column][channel]
  float* gf = reinterpret_cast<float*>(gs);
  const float* xf = reinterpret_cast<const float*>(xs);

  const int P = H - 2, Q = W - 2, across = ceil_div(Q, W_TILE_W), down = ceil_div(P, TILE_H);
  const int tiles = N * down * across, share = ceil_div(tiles, gridDim.x);
  const int slab = blockIdx.x, c0 = blockIdx.y * CB, k0 = blockIdx.z * KB;
  const int t = threadIdx.x, group = t / OWNERS, owner = t % OWNERS;
  const int c = owner / LANES, k = owner % LANES * 4;  // filters k..k+3, and 4 more KB/2 further on
  const bool mine = c0 + c < C && k0 + k < K;

  float sum[9][8] = {};
  float bias = 0.0f;
  for (int tile = slab * share; tile < min(tiles, (slab + 1) * share); ++tile) {
    const int n = tile / (down * across), p0 = tile / across % down * TILE_H;
    const int q0 = tile % across * W_TILE_W;
    const int rows = min(P - p0, TILE_H), columns = min(Q - q0, W_TILE_W);
    const long long first_g = (((long long)n * P + p0) * Q + q0) * K;
    const long long first_x = (((long long)n * H + p0) * W + q0) * C;
#pragma unroll 2
    for (int e = t; e < PIXELS * (KB / 4); e += W_THREADS) {
      const int f = k0 + e % (KB / 4) * 4, pixel = e / (KB / 4);
      const int i = pixel / W_TILE_W, j = pixel % W_TILE_W;
      const long long at = first_g + (i * Q + j) * K + f;
      gs[e] = load_g(dy, y, at, i < rows && j < columns ? K - f : 0, K % 4 == 0, relu);
    }
#pragma unroll 1
    for (int e = t; e < PATCH * (CB / 4); e += W_THREADS) {
      const int d = c0 + e % (CB / 4) * 4, pixel = e / (CB / 4);
      const int i = pixel / PATCH_W, j = pixel % PATCH_W;
      const int left = i < rows + 2 && j < columns + 2 ? C - d : 0;
      xs[e] = load4(x + first_x + (i * W + j) * C + d, left, C % 4 == 0);
    }
    __syncthreads();  // gs and xs were filled by all, and are read by others than who wrote them
    if (c0 == 0 && t < KB) {  // db: the tile's own sum first, since two short sums round less
      float here = 0.0f;
      for (int e = 0; e < PIXELS; ++e) here += gf[e * KB + t];
      bias += here;
    }
    // Only pixels that are there: beside them x may be NaN, and 0 * NaN is NaN.
    for (int i = group; mine && i < rows; i += GROUPS) {
      const float4* g_row = gs + i * W_TILE_W * (KB / 4) + k / 4;
      const float* from = xf + i * PATCH_W * CB + c;
      float v[3][3], g[8];
#pragma unroll
      for (int r = 0; r < 3; ++r) {
        v[r][1] = from[r * PATCH_W * CB];
        v[r][2] = from[(r * PATCH_W + 1) * CB];
      }
#pragma unroll 3
      for (int j = 0; j < columns; ++j) {
        const float4* filters = g_row + j * (KB / 4);
        unpack(g, filters[0]);
        unpack(g + 4, filters[KB / 8]);
#pragma unroll
        for (int r = 0; r < 3; ++r) {  // the window of x moves on: after three steps as it was
          v[r][0] = v[r][1];
          v[r][1] = v[r][2];
          v[r][2] = from[(r * PATCH_W + j + 2) * CB];
#pragma unroll
          for (int s = 0; s < 3; ++s)
#pragma unroll
            for (int f = 0; f < 8; ++f) sum[3 * r + s][f] += v[r][s] * g[f];
        }
      }
    }
    __syncthreads();  // all have read: only now may gs and xs be filled anew
  }

#pragma unroll 1
  for (int turn = 0; turn < GROUPS; ++turn) {
    if (turn > 0) __syncthreads();  // what the group before has left in gs is all there
    if (group != turn || !mine) continue;
#pragma unroll
    for (int tap = 0; tap < 9; ++tap) {
#pragma unroll
      for (int f = 0; f < 8; ++f) {
        float* at = gf + (tap * 8 + f) * OWNERS + owner;
        if (turn > 0) sum[tap][f] += *at;
        if (turn + 1 < GROUPS) *at = sum[tap][f];
      }
      if (turn + 1 < GROUPS) continue;
      const int left = K - k0 - k;
      float* to = parts_w + (((long long)slab * 9 + tap) * C + c0 + c) * K + k0 + k;
      store4(to, sum[tap], left, K % 4 == 0);
      store4(to + KB / 2, sum[tap] + 4, left - KB / 2, K % 4 == 0);
    }
  }
  if (c0 == 0 && t < KB && k0 + t < K) parts_b[(long long)slab * K + k0 + t] = bias;
}

// Grid: x tiles times blocks of filters, y images.
extern "C" __global__ void __launch_bounds__(THREADS, 3) conv3x3_forward(
    const float* __restrict__ x, const float* __restrict__ w, const float* __restrict__ b,
    float* __restrict__ y, int H, int W, int C, int K, int relu) {
  correlate<WIDE_H, WIDE_K, false>(x, nullptr, w, b, y, H, W, C, K, relu);
}

extern "C" __global__ void __launch_bounds__(THREADS, 3) conv3x3_forward_narrow(
    const float* __restrict__ x, const float* __restrict__ w, const float* __restrict__ b,
    float* __restrict__ y, int H, int W, int C, int K, int relu) {
  correlate<NARROW_H, NARROW_K, false>(x, nullptr, w, b, y, H, W, C, K, relu);
}

// Grid: as above, of tiles of dx and blocks of channels. y is read only if relu.
extern "C" __global__ void __launch_bounds__(THREADS, 3) conv3x3_backward_x(
    const float* __restrict__ dy, const float* __restrict__ y, const float* __restrict__ w,
    float* __restrict__ dx, int H, int W, int C, int K, int relu) {
  correlate<WIDE_H, WIDE_K, true>(dy, y, w, nullptr, dx, H - 2, W - 2, K, C, relu);
}

extern "C" __global__ void __launch_bounds__(THREADS, 3) conv3x3_backward_x_narrow(
    const float* __restrict__ dy, const float* __restrict__ y, const float* __restrict__ w,
    float* __restrict__ dx, int H, int W, int C, int K, int relu) {
  correlate<NARROW_H, NARROW_K, true>(dy, y, w, nullptr, dx, H - 2, W - 2, K, C, relu);
}

// Grid: x slabs, y blocks of channels, z blocks of filters. y is read only if relu.
extern "C" __global__ void __launch_bounds__(W_THREADS, 2) conv3x3_backward_w(
    const float* __restrict__ x, const float* __restrict__ dy, const float* __restrict__ y,
    float* __restrict__ parts_w, float* __restrict__ parts_b, int N, int H, int W, int C, int K,
    int relu) {
  backward_w<W_WIDE_H, W_WIDE_C, W_WIDE_K>(x, dy, y, parts_w, parts_b, N, H, W, C, K, relu);
}

extern "C" __global__ void __launch_bounds__(W_THREADS, 2) conv3x3_backward_w_narrow(
    const float* __restrict__ x, const float* __restrict__ dy, const float* __restrict__ y,
    float* __restrict__ parts_w, float* __restrict__ parts_b, int N, int H, int W, int C, int K,
    int relu) {
  backward_w<W_NARROW_H, W_NARROW_C, W_NARROW_K>(x, dy, y, parts_w, parts_b, N, H, W, C, K, relu);
}

extern "C" __global__ void __launch_bounds__(W_THREADS, 2) conv3x3_backward_w_few(
    const float* __restrict__ x, const float* __restrict__ dy, const float* __restrict__ y,
    float* __restrict__ parts_w, float* __restrict__ parts_b, int N, int H, int W, int C, int K,
    int relu) {
  backward_w<W_FEW_H, W_FEW_C, W_FEW_K>(x, dy, y, parts_w, parts_b, N, H, W, C, K, relu);
}

// dw and db: the sums over slabs, in their order. One thread an element; neighbours are neighbours.
extern "C" __global__ void conv3x3_sum_slabs(
    const float* __restrict__ parts_w, const float* __restrict__ parts_b, float* __restrict__ dw,
    float* __restrict__ db, int slabs, int weights, int K) {
  const long long i = thread_index();
  if (i >= weights + K) return;
  if (i < weights)
    dw[i] = strided_sum(parts_w, i, weights, (long long)slabs * weights);
  else
    db[i - weights] = strided_sum(parts_b, i - weights, K, (long long)slabs * K);
}
