// dropout.cu: sets a random part of all elements to 0 and scales the others up.
//
//   y[i] = x[i] scale  if  word(i) >= threshold,  else x[i] 0          scale = 1 / (1 - rate)
//
// word(i) is word i % 2 of Philox-2x32-10 (Salmon et al., SC 2011) for the counter (i / 2, step)
// and the key seed + layer * 0x632BE5AB. Forward and backward (x = dy) are this same function: the
// words are drawn again, which is cheaper than to keep a mask.
//
// Shapes   x, y: the same, any.   when (2): seed, step, read from memory so that a replayed graph
//          draws anew at each step.
// Threads  one for each two elements, which share their 10 rounds.
// Cost     8 bytes and some 25 integer instructions an element: memory-bound.
//
// Launched by unetcu/ops/dropout.py. Tested by tests/ops/test_dropout.py.
#include "common.cuh"
#include "real.cuh"

extern "C" __global__ void dropout_scale(const real* __restrict__ x,
                                         const unsigned* __restrict__ when, real* __restrict__ y,
                                         long long count, unsigned layer, unsigned threshold,
                                         float scale) {
  const long long first = 2 * thread_index();
  if (first >= count) return;
  unsigned long long left = first / 2;
  unsigned right = when[1], key = when[0] + layer * 0x632BE5ABu;
  for (int round = 0; round < 10; ++round) {
    const unsigned long long product = left * 0xD256D193ull;
    left = static_cast<unsigned>(product >> 32) ^ key ^ right;
    right = static_cast<unsigned>(product);
    key += 0x9E3779B9u;
  }
  const float v = x[first];
  y[first] = v * (left >= threshold ? scale : 0.0f);
  if (first + 1 >= count) return;
  const float next = x[first + 1];
  y[first + 1] = next * (right >= threshold ? scale : 0.0f);
}
