// optim.cu: the optimizers' steps over the flat array of all parameters. No gradient.
//
//   SGD      v <- momentum v + g;   p <- p - lr v
//   AdamW    m <- m + (1-b1) (g - m);   s <- s + (1-b2) (g^2 - s)
//            p <- p (1 - lr decay) - lr / (1-b1^t) * m / (sqrt(s / (1-b2^t)) + eps)
//   Average  a <- a + max(1 - decay, 10 / (t + 10)) (p - a)
//
// g is grads[i] factor[0]; where the factor is 0 the step is left out. It is 1 unless the loss was
// scaled up, as fp16 needs (Micikevicius et al., ICLR 2018): gradients below 6e-8 would be lost. The
// scale is halved where a gradient was not finite, and doubled after PATIENCE steps without.
//
// Shapes   p, grads, v, m, s, a, rounded (count): rounded is p as convolutions take it, if `rounds`
//          hyper (2), doubles: lr, t   factors (3): optim_adamw_begin
//          parts (blocks): is there a gradient that is not finite?
//          scaling (3): the loss's scale, the factor, how many steps since it was changed
// Threads  one an element: neighbours read and write neighbours.
// Cost     SGD 20 bytes a parameter, AdamW 28, and 2 for 16 bits rounded; Average 12: memory-bound.
// lr, t and the scale change from step to step and are therefore read from memory: a replayed graph,
// whose arguments are frozen, sees their new values. t is counted up on the device.
//
// Launched by unetcu/optim.py. Tested by tests/test_optim.py.
#include "common.cuh"
#include "real.cuh"

constexpr int BLOCK = 256;
constexpr int SPAN = 8192;  // gradients that a block of optim_finite looks at
constexpr int PATIENCE = 1000;
constexpr float LARGEST = 16777216.0f;

// Also counts the step: t <- t + 1. No other thread reads t.
extern "C" __global__ void optim_sgd(float* __restrict__ p, const float* __restrict__ grads,
                                     float* __restrict__ v, real* __restrict__ rounded,
                                     double* __restrict__ hyper, const float* __restrict__ factor,
                                     float momentum, long long count, int rounds) {
  const long long i = thread_index();
  if (i == 0) hyper[1] += 1;
  if (i >= count || factor[0] == 0.0f) return;
  v[i] = momentum * v[i] + grads[i] * factor[0];
  p[i] -= static_cast<float>(hyper[0]) * v[i];
  if (rounds) rounded[i] = p[i];
}

// One thread, before optim_adamw: t <- t + 1, and what the step multiplies by, computed in double:
// 1 - b^t and 1 - lr decay would cancel in float.
extern "C" __global__ void optim_adamw_begin(double* __restrict__ hyper,
                                             float* __restrict__ factors, double b1, double b2,
                                             double decay) {
  const double lr = hyper[0], t = hyper[1] + 1;
  hyper[1] = t;
  factors[0] = static_cast<float>(1 / (1 - pow(b2, t)));
  factors[1] = static_cast<float>(1 - lr * decay);
  factors[2] = static_cast<float>(lr / (1 - pow(b1, t)));
}

// of_mean = 1 - b1, of_square = 1 - b2.
extern "C" __global__ void optim_adamw(float* __restrict__ p, const float* __restrict__ grads,
                                       float* __restrict__ m, float* __restrict__ s,
                                       real* __restrict__ rounded,
                                       const float* __restrict__ factors,
                                       const float* __restrict__ factor, float of_mean,
                                       float of_square, float eps, long long count, int rounds) {
  const long long i = thread_index();
  if (i >= count || factor[0] == 0.0f) return;
  const float g = grads[i] * factor[0];
  m[i] += of_mean * (g - m[i]);
  s[i] += of_square * (g * g - s[i]);
  const float size = sqrtf(s[i] * factors[0]) + eps;
  p[i] = p[i] * factors[1] - factors[2] * (m[i] / size);
  if (rounds) rounded[i] = p[i];
}

// After the optimizer's step, which has counted t; least = 1 - decay.
extern "C" __global__ void optim_average(float* __restrict__ a, const float* __restrict__ p,
                                         const double* __restrict__ hyper, float least,
                                         long long count) {
  const long long i = thread_index();
  if (i >= count) return;
  const float share = fmaxf(least, 10.0f / (static_cast<float>(hyper[1]) + 10.0f));
  a[i] += share * (p[i] - a[i]);
}

// Grid: spans of SPAN gradients. parts[block] = how many of them are not finite.
extern "C" __global__ void __launch_bounds__(BLOCK)
optim_finite(const float* __restrict__ grads, double* __restrict__ parts, long long count) {
  const long long from = static_cast<long long>(blockIdx.x) * SPAN;
  double found = 0;
  for (long long i = from + threadIdx.x; i < min(count, from + SPAN); i += BLOCK)
    if (!(fabsf(grads[i]) <= 3.402823466e38f)) found += 1;
  found = block_sum<BLOCK>(found);
  if (threadIdx.x == 0) parts[blockIdx.x] = found;
}

// One block, after optim_finite: the factor for this step, and the scale of the next.
extern "C" __global__ void __launch_bounds__(BLOCK)
optim_scale(const double* __restrict__ parts, float* __restrict__ scaling, int blocks) {
  double found = 0;
  for (int i = threadIdx.x; i < blocks; i += BLOCK) found += parts[i];
  found = block_sum<BLOCK>(found);
  if (threadIdx.x > 0) return;
  const float scale = scaling[0], since = scaling[2] + 1;
  scaling[1] = found > 0 ? 0.0f : 1.0f / scale;
  if (found > 0)
    scaling[0] = fmaxf(scale / 2, 1.0f);
  else if (since >= PATIENCE)
    scaling[0] = fminf(scale * 2, LARGEST);
  scaling[2] = found > 0 || since >= PATIENCE ? 0.0f : since;
}
