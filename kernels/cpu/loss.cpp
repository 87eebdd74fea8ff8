// loss.cpp: softmax over the classes and weighted cross entropy, loss and gradient together.
//
//   q[p,k] = exp(z[p,k]) / sum_j exp(z[p,j])     share[p] = w[p] / sum of w over counted pixels
//   L = - sum_p share[p] log q[p,t[p]]           dz[p,k] = share[p] (q[p,k] - [k = t[p]])
//
// A pixel is counted if 0 <= t < K; the share of another is 0, whatever its w. If the weights sum
// to 0, every share is 0. The largest logit is subtracted first: exp never overflows.
//
// Shapes   z, dz (P,K), K fastest   t, w (P)   P = N H W pixels
// Split    PIXELS consecutive pixels a part; the sums of w and L are doubles, SUMS side by side in a
//          part, parts added in their order: the same bits for any number of threads.
// Cost     one pass over w and t, one over z and dz: memory-bound, but for exp: about 20 operations
//          an element, in vectors. log is libm's, once a pixel.
// Bits     compiled with -ffp-contract=off: those of dz are the same with every instruction set.
//
// Called by unetcu/ops/softmax_loss.py. Tested by tests/ops/test_softmax_loss.py and
// tests/test_native.py.
#include <math.h>

#include <cstdint>
#include <cstring>

#include "isa.h"
#include "pool.h"
#include "vec.h"

namespace unetcu::UNETCU_ISA {
namespace {

constexpr long PIXELS = 1024;  // a part: with two classes its z and dz take 16 kB
constexpr int SUMS = 8;

// e^x within 1 unit in the last place or so, denormal results included; NaN stays NaN.
//
// x = n ln 2 + r with n whole, |r| <= ln 2 / 2. Adding 1.5 2^23 rounds to a whole number and leaves
// it in the last bits. ln 2 is subtracted in two pieces, the first so short that n times it is
// exact. e^r is a polynomial; 2^n is multiplied in as two factors, because a single one may not be
// a float where the result still is.
inline float exponential(float x) {
  x = x < -104.0f ? -104.0f : x;  // below, the result is 0; and not fmaxf: NaN must stay
  x = x > 89.0f ? 89.0f : x;
  constexpr float whole = 12582912.0f;  // 1.5 * 2^23
  const float shifted = x * 1.44269504f + whole, n = shifted - whole;
  const float r = (x - n * 0.693145752f) - n * 1.42860677e-06f;
  float e = 1.98756912e-4f;  // Cody and Waite's form: 1 + r + r^2 q(r), the largest terms last
  e = e * r + 1.39819994e-3f;
  e = e * r + 8.33345205e-3f;
  e = e * r + 4.16657962e-2f;
  e = e * r + 1.66666657e-1f;
  e = e * r + 0.5f;
  e = e * (r * r) + r + 1.0f;
  std::uint32_t bits;
  std::memcpy(&bits, &shifted, 4);
  const std::int32_t power = static_cast<std::int32_t>(bits - 0x4B400000u);
  const std::int32_t half = power >> 1;
  const std::uint32_t low = static_cast<std::uint32_t>(half + 127) << 23;
  const std::uint32_t high = static_cast<std::uint32_t>(power - half + 127) << 23;
  float a, b;
  std::memcpy(&a, &low, 4);
  std::memcpy(&b, &high, 4);
  return e * a * b;
}

// The sum of term(i) for from <= i < to, in double: SUMS sums side by side, then one after another.
template <class Term>
double sum(long from, long to, Term term) {
  double lanes[SUMS] = {};
  long i = from;
  for (; i + SUMS <= to; i += SUMS)
    for (int l = 0; l < SUMS; ++l) lanes[l] += term(i + l);
  for (int l = 0; i < to; ++i, ++l) lanes[l] += term(i);
  double all = 0;
  for (const double lane : lanes) all += lane;
  return all;
}

// of_part(from, to) of every part, side by side; their sum in the order of the parts.
template <class Part>
double sum_of_parts(long P, Part of_part) {
  const long parts = ceil_div(P, PIXELS);
  double* sums = reinterpret_cast<double*>(scratch(0, 2 * parts));
  parallel(parts, [&](long part, int) {
    sums[part] = of_part(part * PIXELS, smaller(P, (part + 1) * PIXELS));
  });
  double all = 0;
  for (long part = 0; part < parts; ++part) all += sums[part];
  return all;
}

// Pixels from..to. CLASSES is K where that is known to the compiler, or 0.
template <int CLASSES, class Label>
double losses(const float* z, const Label* t, const float* w, float* dz, long from, long to, long K,
              double weight) {
  if (CLASSES) K = CLASSES;
  float largest[PIXELS], total[PIXELS], share[PIXELS];
  for (long p = from; p < to; ++p) {
    const float* row = z + p * K;
    float most = row[0];
    for (long k = 1; k < K; ++k) most = row[k] > most ? row[k] : most;  // a NaN will be in the sum
    largest[p - from] = most;
    for (long k = 0; k < K; ++k) dz[p * K + k] = row[k] - most;
  }
  for (long i = from * K; i < to * K; ++i) dz[i] = exponential(dz[i]);
  for (long p = from; p < to; ++p) {
    const float* row = dz + p * K;
    float all = row[0];
    for (long k = 1; k < K; ++k) all += row[k];
    total[p - from] = all;
    const bool counts = t[p] >= 0 && t[p] < K && weight != 0;
    share[p - from] = counts ? static_cast<float>(w[p] / weight) : 0.0f;
  }
  for (long p = from; p < to; ++p) {
    float* row = dz + p * K;
    const float part = share[p - from], all = total[p - from];
    for (long k = 0; k < K; ++k) row[k] = part * (row[k] / all - (k == t[p] ? 1.0f : 0.0f));
  }
  return sum(from, to, [&](long p) {
    const bool known = t[p] >= 0 && t[p] < K;
    const float at_label = known ? z[p * K + t[p]] - largest[p - from] : 0.0f;
    return double{share[p - from]} * (logf(total[p - from]) - at_label);
  });
}

template <class Label>
double loss_and_gradient(const float* z, const Label* t, const float* w, float* dz, long P, long K) {
  const double weight = sum_of_parts(P, [=](long from, long to) {
    return sum(from, to, [=](long p) { return t[p] >= 0 && t[p] < K ? double{w[p]} : 0.0; });
  });
  return sum_of_parts(P, [=](long from, long to) {
    return K == 2 ? losses<2>(z, t, w, dz, from, to, K, weight)
                  : losses<0>(z, t, w, dz, from, to, K, weight);
  });
}

}  // namespace

double softmax_loss(const float* z, const std::int32_t* t, const float* w, float* dz, long P,
                    long K) {
  return loss_and_gradient(z, t, w, dz, P, K);
}

double softmax_loss_wide(const float* z, const std::int64_t* t, const float* w, float* dz, long P,
                         long K) {
  return loss_and_gradient(z, t, w, dz, P, K);
}

// y = e^x: for its test.
void exponentials(const float* x, float* y, long count) {
  for (long i = 0; i < count; ++i) y[i] = exponential(x[i]);
}

}  // namespace unetcu::UNETCU_ISA
