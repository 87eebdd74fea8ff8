// softmax_loss.cu: softmax over the classes and weighted cross entropy, loss and gradient together.
//
//   q[p,k] = exp(z[p,k]) / sum_j exp(z[p,j])     share[p] = w[p] / sum of w over counted pixels
//   L = - sum_p share[p] log q[p,t[p]]           dz[p,k] = share[p] (q[p,k] - [k = t[p]])
//
// A pixel is counted if 0 <= t < K; the share of another is 0, whatever its w. If the weights sum
// to 0, every share is 0. The largest logit is subtracted first: exp never overflows.
//
// Shapes   z, dz (P,K), K fastest   t, w (P)   P = N H W pixels, no more than 2^31
//          weights (slabs), losses (blocks of softmax_loss_forward): partial sums, doubles
//          weight (): their whole sum, double   L, dy ()
// Threads  one a pixel: neighbours read neighbouring rows of z, a few classes long. A row is read
//          three times (largest, sum, gradient), the second and third time from the cache.
// Shared   2048 bytes: a double a thread.
// Cost     8 (K + 1) bytes a pixel, and 8 for the weights: memory-bound.
// Launches in order: softmax_loss_weights, _weight, _forward, _total; in backward _scale. The order
// of every sum is fixed by the shape.
//
// Launched by unetcu/ops/softmax_loss.py. Tested by tests/ops/test_softmax_loss.py.
#include "common.cuh"

constexpr int BLOCK = 256;
constexpr int SLAB = 512;

__device__ inline bool counted(int label, int K) { return 0 <= label && label < K; }

// Labels of 64 bits as the others want them: -1 where they are no class.
extern "C" __global__ void softmax_loss_labels(const long long* __restrict__ t,
                                               int* __restrict__ label, int P, int K) {
  const long long p = thread_index();
  if (p < P) label[p] = 0 <= t[p] && t[p] < K ? static_cast<int>(t[p]) : -1;
}

// The sum of part[0] ... part[count - 1] by one block; for thread 0 alone.
__device__ inline double add_up(const double* part, int count) {
  double sum = 0;
  for (int i = threadIdx.x; i < count; i += BLOCK) sum += part[i];
  return block_sum<BLOCK>(sum);
}

// Grid: slabs of SLAB pixels; a block adds up the weights of its slab.
extern "C" __global__ void softmax_loss_weights(const int* __restrict__ t,
                                                const float* __restrict__ w,
                                                double* __restrict__ weights, int P, int K) {
  const int from = blockIdx.x * SLAB, to = from + min(SLAB, P - from);
  double sum = 0;
  for (int p = from + threadIdx.x; p < to; p += BLOCK)
    if (counted(t[p], K)) sum += w[p];
  sum = block_sum<BLOCK>(sum);
  if (threadIdx.x == 0) weights[blockIdx.x] = sum;
}

// One block: weight = the sum of the slabs' weights.
extern "C" __global__ void softmax_loss_weight(const double* __restrict__ weights,
                                               double* __restrict__ weight, int count) {
  const double sum = add_up(weights, count);
  if (threadIdx.x == 0) weight[0] = sum;
}

extern "C" __global__ void softmax_loss_forward(const float* __restrict__ z,
                                                const int* __restrict__ t,
                                                const float* __restrict__ w,
                                                const double* __restrict__ weight,
                                                float* __restrict__ dz,
                                                double* __restrict__ losses, int P, int K) {
  const long long p = thread_index();
  double loss = 0;
  if (p < P) {
    const float* row = z + p * K;
    float largest = row[0], sum = 0, at_label = 0;
    for (int k = 1; k < K; ++k) largest = fmaxf(largest, row[k]);  // a NaN will be in the sum
    for (int k = 0; k < K; ++k) {
      const float below = row[k] - largest;
      sum += expf(below);
      if (k == t[p]) at_label = below;
    }
    const bool counts = counted(t[p], K) && weight[0] != 0;
    const float share = counts ? static_cast<float>(w[p] / weight[0]) : 0.0f;
    loss = static_cast<double>(share) * (logf(sum) - at_label);
    for (int k = 0; k < K; ++k)
      dz[p * K + k] = share * (expf(row[k] - largest) / sum - (k == t[p]));
  }
  loss = block_sum<BLOCK>(loss);
  if (threadIdx.x == 0) losses[blockIdx.x] = loss;
}

// One block: L = the sum of the blocks' losses.
extern "C" __global__ void softmax_loss_total(const double* __restrict__ losses,
                                              float* __restrict__ L, int count) {
  const double sum = add_up(losses, count);
  if (threadIdx.x == 0) L[0] = static_cast<float>(sum);
}

// dz <- dz dy, in place: dz is the op's own, and is used once.
extern "C" __global__ void softmax_loss_scale(float* __restrict__ dz, const float* __restrict__ dy,
                                              long long count) {
  const long long i = thread_index();
  if (i < count) dz[i] *= dy[0];
}
