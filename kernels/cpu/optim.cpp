// optim.cpp: the optimizers' steps over the flat array of all parameters, in one pass each.
//
//   SGD      v <- momentum v + g;   p <- p - lr v
//   AdamW    m <- m + (1-b1) (g - m);   s <- s + (1-b2) (g^2 - s)
//            p <- p (1 - lr decay) - lr / (1-b1^t) * m / (sqrt(s / (1-b2^t)) + eps)
//   Average  a <- a + share (p - a)
//
// Shapes   p, g, v, m, s, a (count). What is the same for all elements is worked out by the caller.
// Split    PART consecutive elements: by the count alone; no element has two writers.
// Cost     SGD 20 bytes a parameter, AdamW 28, Average 12: memory-bound.
// Bits     every operation is rounded by itself, in the order of unetcu/optim.py: those of NumPy.
//          (Hence -ffp-contract=off for this file in CMakeLists.txt.)
//
// Called by unetcu/optim.py. Tested by tests/test_optim.py and tests/test_optim_float32.py.
#include "isa.h"
#include "pool.h"
#include "vec.h"

namespace unetcu::UNETCU_ISA {
namespace {

constexpr long PART = 1 << 15;

template <class Body>
void over_elements(long count, Body body) {
  parallel(ceil_div(count, PART), [&](long part, int) {
    const long to = smaller(count, (part + 1) * PART);
    for (long i = part * PART; i < to; ++i) body(i);
  });
}

}  // namespace

void sgd(float* p, const float* g, float* v, long count, float lr, float momentum) {
  over_elements(count, [=](long i) {
    v[i] = v[i] * momentum + g[i];
    p[i] -= lr * v[i];
  });
}

// of_mean = 1 - b1, of_square = 1 - b2, square = 1 / (1 - b2^t), keep = 1 - lr decay,
// rate = lr / (1 - b1^t).
void adamw(float* p, const float* g, float* m, float* s, long count, float of_mean, float of_square,
           float square, float eps, float keep, float rate) {
  over_elements(count, [=](long i) {
    m[i] += of_mean * (g[i] - m[i]);
    s[i] += of_square * (g[i] * g[i] - s[i]);
    const float size = __builtin_sqrtf(s[i] * square) + eps;
    p[i] = p[i] * keep - rate * (m[i] / size);
  });
}

void average(float* a, const float* p, long count, float share) {
  over_elements(count, [=](long i) { a[i] += share * (p[i] - a[i]); });
}

}  // namespace unetcu::UNETCU_ISA
