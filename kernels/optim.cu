// optim.cu: the optimizers' steps over the flat array of all parameters. No gradient.
//
//   SGD      v <- momentum v + g;   p <- p - lr v
//   AdamW    m <- m + (1-b1) (g - m);   s <- s + (1-b2) (g^2 - s)
//            p <- p (1 - lr decay) - lr / (1-b1^t) * m / (sqrt(s / (1-b2^t)) + eps)
//   Average  a <- a + max(1 - decay, 10 / (t + 10)) (p - a)
//
// Shapes   p, g, v, m, s, a (count)   hyper (2), doubles: lr, t   factors (3): optim_adamw_begin
// Threads  one an element: neighbours read and write neighbours.
// Cost     SGD 20 bytes a parameter, AdamW 28, Average 12: memory-bound.
// lr and t change from step to step and are therefore read from memory: a replayed graph, whose
// arguments are frozen, sees their new values. t is counted up on the device.
//
// Launched by unetcu/optim.py. Tested by tests/test_optim.py.
#include "common.cuh"

// Also counts the step: t <- t + 1. No other thread reads t.
extern "C" __global__ void optim_sgd(float* __restrict__ p, const float* __restrict__ g,
                                     float* __restrict__ v, double* __restrict__ hyper,
                                     float momentum, long long count) {
  const long long i = thread_index();
  if (i == 0) hyper[1] += 1;
  if (i >= count) return;
  v[i] = momentum * v[i] + g[i];
  p[i] -= static_cast<float>(hyper[0]) * v[i];
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
extern "C" __global__ void optim_adamw(float* __restrict__ p, const float* __restrict__ g,
                                       float* __restrict__ m, float* __restrict__ s,
                                       const float* __restrict__ factors, float of_mean,
                                       float of_square, float eps, long long count) {
  const long long i = thread_index();
  if (i >= count) return;
  m[i] += of_mean * (g[i] - m[i]);
  s[i] += of_square * (g[i] * g[i] - s[i]);
  const float size = sqrtf(s[i] * factors[0]) + eps;
  p[i] = p[i] * factors[1] - factors[2] * (m[i] / size);
}

// After step number t = steps[0]; least = 1 - decay.
extern "C" __global__ void optim_average(float* __restrict__ a, const float* __restrict__ p,
                                         const double* __restrict__ steps, float least,
                                         long long count) {
  const long long i = thread_index();
  if (i >= count) return;
  const float share = fmaxf(least, 10.0f / (static_cast<float>(steps[0]) + 10.0f));
  a[i] += share * (p[i] - a[i]);
}
