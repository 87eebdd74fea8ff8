// head_loss.cu: the network's end in one pass over the pixels: 1x1 convolution to a few classes,
// softmax, weighted cross entropy, and the gradients of all that.
//
//   z[p,k] = b[k] + sum_c x[p,c] w[c,k]          q[p,k] = exp(z[p,k]) / sum_j exp(z[p,j])
//   L      = - sum_p share[p] log q[p,t[p]]      share[p] = weights[p] / weight
//   g[p,k] = dy share[p] (q[p,k] - [k = t[p]])
//   dx[p,c] = sum_k g[p,k] w[c,k]   dw[c,k] = sum_p x[p,c] g[p,k]   db[k] = sum_p g[p,k]
//
// weight is the sum of the weights of the pixels that count, those with 0 <= t < K; the share of
// another is 0, and so are all if weight is. gated: x was made by a ReLU, and dx is 0 where not
// x > 0. Without `wanted` only L is made, and dy is not read.
//
// Shapes   x, dx (P,C)   w, dw (C,K)   b, db (K)   t, weights (P)   weight, dy, L ()
//          part (C K + K, blocks of the pass): sums for dw, then for db   losses (blocks), doubles
//          P = N H W pixels, no more than 2^31; C at most WIDEST, K at most MOST; last index fastest
// Threads  a pixel belongs to 4, 8, 16 or 32 neighbouring lanes, four channels each, which have
//          four pixels at a time: so much is under way from memory at once. Their sums are folded
//          twice, which leaves lane i of every four with pixel i % 4 alone: a lane does one softmax,
//          not four. What came from memory stays in registers: for the gate and for dw.
// Shared   w and b, as floats; the sums that each warp has for dw and db; a double a thread: 11.3 KB
//          of up to 2 classes, 20.6 of 4, 39.2 of 8.
// Cost     of 16 bits 4 C + 8 bytes a pixel, of floats 8 C + 8, and 8 for the weights' sum; some
//          6 C K FLOP: memory-bound. Apart, conv1x1, softmax_loss and the gate of the convolution
//          before move 12 C + 20 K + 48 bytes of 16 bits, in ten launches.
// Launches in order: softmax_loss_weights and _weight (softmax_loss.cu), a pass, head_loss_sum. The
// order of every sum is fixed by the shape.
//
// Launched by unetcu/ops/head_loss.py. Tested by tests/ops/test_head_loss.py.
#include "common.cuh"
#include "fours.cuh"
#include "real.cuh"

constexpr int BLOCK = 256;
constexpr int WARPS = BLOCK / 32;
constexpr int SPAN = 256;    // pixels of a block
constexpr int WIDEST = 128;  // channels
constexpr int MOST = 8;      // classes

// s[u]: what this lane has for pixel u. Returns the sum over the `lanes` of its group for one of
// the pixels, the one of the lane's own number modulo 4. Each pixel's order of additions is the same.
__device__ __forceinline__ float fold(const float (&s)[4], int lane, int lanes) {
  const bool high = lane & 2, odd = lane & 1;
  float two[2];
  for (int u = 0; u < 2; ++u) {
    const float other = __shfl_xor_sync(~0u, high ? s[u] : s[u + 2], 2);
    two[u] = (high ? s[u + 2] : s[u]) + other;
  }
  const float other = __shfl_xor_sync(~0u, odd ? two[0] : two[1], 1);
  float sum = (odd ? two[1] : two[0]) + other;
  for (int m = 4; m < lanes; m *= 2) sum += __shfl_xor_sync(~0u, sum, m);
  return sum;
}

// The whole pass for up to KS classes. Grid: blocks of SPAN pixels.
template <int KS>
__device__ __forceinline__ void pass(const real* x, const real* w, const float* b, const int* t,
                                     const float* weights, const double* weight, const float* dy,
                                     real* dx, float* part, double* losses, int P, int C, int K,
                                     int wanted, int gated) {
  __shared__ float head[(WIDEST + 1) * KS];  // w, then b
  __shared__ float sums[WARPS][(WIDEST + 1) * KS];
  int lanes = 4;
  while (4 * lanes < C) lanes *= 2;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, groups = 32 / lanes;
  const int c = lane % lanes * 4, left = C - c;
  const bool fours = C % 4 == 0;
  float ws[4][KS], dw[4][KS] = {}, db[KS] = {};
  for (int i = threadIdx.x; i < C * K + K; i += BLOCK)
    head[i] = i < C * K ? float(w[i]) : b[i - C * K];
  __syncthreads();  // waits for all of w and b: threads read what others have loaded
  for (int j = 0; j < 4; ++j)
    for (int k = 0; k < KS; ++k) ws[j][k] = j < left && k < K ? head[(c + j) * K + k] : 0.0f;
  const float whole = static_cast<float>(weight[0]), slope = wanted ? dy[0] : 0.0f;
  double loss = 0;
  // From here on pixels are counted from the first of the block.
  const long long from = static_cast<long long>(blockIdx.x) * SPAN;
  const int count = static_cast<int>(min(static_cast<long long>(SPAN), P - from));
  x += from * C + c;
  dx += from * C + c;
  t += from;
  weights += from;
  const int step = 4 * groups;  // pixels of a warp at a time; pixel u of a group: first + u groups
  for (int q = warp * step; q < count; q += WARPS * step) {
    const int first = q + lane / lanes, mine = first + lane % 4 * groups;
    float v[4][4], z[KS], g[KS];
    for (int u = 0; u < 4; ++u) {
      const int p = first + u * groups;
      unpack(v[u], load4(x + p * C, p < count ? left : 0, fours));
    }
    for (int k = 0; k < KS; ++k) {
      float s[4] = {};
      for (int u = 0; u < 4; ++u)
        for (int j = 0; j < 4; ++j) s[u] += v[u][j] * ws[j][k];
      z[k] = fold(s, lane, lanes) + (k < K ? head[C * K + k] : 0.0f);
    }
    float largest = z[0], sum = 0, at_label = 0;
    const int label = mine < count ? t[mine] : -1;
    for (int k = 1; k < KS; ++k)
      if (k < K) largest = fmaxf(largest, z[k]);  // a NaN will be in the sum
    for (int k = 0; k < KS; ++k) {
      const float below = z[k] - largest;
      g[k] = k < K ? expf(below) : 0.0f;
      sum += g[k];
      if (k == label) at_label = below;
    }
    const bool counts = 0 <= label && label < K && whole != 0;
    const float share = counts ? weights[mine] / whole : 0.0f;
    loss += static_cast<double>(share) * (logf(sum) - at_label);
    if (!wanted) continue;
    for (int k = 0; k < KS; ++k) {
      g[k] = slope * share * (g[k] / sum - (k == label));
      db[k] += g[k];
    }
    for (int u = 0; u < 4; ++u) {
      const int p = first + u * groups;
      float d[4] = {};
      for (int k = 0; k < KS; ++k) {
        const float gu = __shfl_sync(~0u, g[k], lane - lane % lanes + u);
        for (int j = 0; j < 4; ++j) {
          d[j] += gu * ws[j][k];
          dw[j][k] += gu * v[u][j];
        }
      }
      for (int j = 0; j < 4; ++j)
        if (gated && !(v[u][j] > 0.0f)) d[j] = 0.0f;
      store4(dx + p * C, d, p < count ? left : 0, fours);
    }
  }
  if (wanted) {
    for (int k = 0; k < KS; ++k) {
      for (int m = lanes; m < 32; m *= 2) {
        for (int j = 0; j < 4; ++j) dw[j][k] += __shfl_xor_sync(~0u, dw[j][k], m);
        db[k] += __shfl_xor_sync(~0u, db[k], m);
      }
      for (int m = 1; m < 4; m *= 2) db[k] += __shfl_xor_sync(~0u, db[k], m);
      if (k < K && lane < lanes)
        for (int j = 0; j < 4; ++j)
          if (j < left) sums[warp][(c + j) * K + k] = dw[j][k];
      if (k < K && lane == 0) sums[warp][C * K + k] = db[k];
    }
    __syncthreads();  // waits for the sums of all warps: threads read what others have written
    for (int i = threadIdx.x; i < C * K + K; i += BLOCK) {
      float sum = 0;
      for (int k = 0; k < WARPS; ++k) sum += sums[k][i];
      part[static_cast<long long>(i) * gridDim.x + blockIdx.x] = sum;
    }
  }
  loss = block_sum<BLOCK>(lane % lanes < 4 ? loss : 0.0);  // each of four lanes has its own pixels
  if (threadIdx.x == 0) losses[blockIdx.x] = loss;
}

// Up to 2, 4 and MOST classes; the number of blocks that a multiprocessor is to hold at once.
extern "C" __global__ void __launch_bounds__(BLOCK, 3)
    head_loss_pass_2(const real* __restrict__ x, const real* __restrict__ w,
                     const float* __restrict__ b, const int* __restrict__ t,
                     const float* __restrict__ weights, const double* __restrict__ weight,
                     const float* __restrict__ dy, real* __restrict__ dx, float* __restrict__ part,
                     double* __restrict__ losses, int P, int C, int K, int wanted, int gated) {
  pass<2>(x, w, b, t, weights, weight, dy, dx, part, losses, P, C, K, wanted, gated);
}
extern "C" __global__ void __launch_bounds__(BLOCK, 2)
    head_loss_pass_4(const real* __restrict__ x, const real* __restrict__ w,
                     const float* __restrict__ b, const int* __restrict__ t,
                     const float* __restrict__ weights, const double* __restrict__ weight,
                     const float* __restrict__ dy, real* __restrict__ dx, float* __restrict__ part,
                     double* __restrict__ losses, int P, int C, int K, int wanted, int gated) {
  pass<4>(x, w, b, t, weights, weight, dy, dx, part, losses, P, C, K, wanted, gated);
}
extern "C" __global__ void __launch_bounds__(BLOCK, 1)
    head_loss_pass_8(const real* __restrict__ x, const real* __restrict__ w,
                     const float* __restrict__ b, const int* __restrict__ t,
                     const float* __restrict__ weights, const double* __restrict__ weight,
                     const float* __restrict__ dy, real* __restrict__ dx, float* __restrict__ part,
                     double* __restrict__ losses, int P, int C, int K, int wanted, int gated) {
  pass<MOST>(x, w, b, t, weights, weight, dy, dx, part, losses, P, C, K, wanted, gated);
}

// Adds up what the blocks of the pass have left. Grid: block 0 makes L and, if gradients are wanted,
// block 1 + i element i of dw (size elements) and db.
extern "C" __global__ void head_loss_sum(const float* __restrict__ part,
                                         const double* __restrict__ losses, float* __restrict__ dw,
                                         float* __restrict__ db, float* __restrict__ L, int count,
                                         int size) {
  const int i = static_cast<int>(blockIdx.x) - 1;
  double sum = 0;
  for (int j = threadIdx.x; j < count; j += BLOCK)
    sum += i < 0 ? losses[j] : static_cast<double>(part[static_cast<long long>(i) * count + j]);
  sum = block_sum<BLOCK>(sum);
  if (threadIdx.x > 0) return;
  if (i < 0)
    L[0] = static_cast<float>(sum);
  else if (i < size)
    dw[i] = static_cast<float>(sum);
  else
    db[i - size] = static_cast<float>(sum);
}
