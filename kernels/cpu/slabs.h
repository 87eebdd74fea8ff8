// slabs.h: sums that were made side by side, added in a fixed order.
#pragma once

#include "pool.h"
#include "vec.h"

namespace unetcu::UNETCU_ISA {

// slabs[slab][size] is added up over slabs, ascending; the first `cut` sums go to a, the rest to b.
static inline void add_slabs(const float* slabs, long count, long size, float* a, long cut,
                             float* b) {
  constexpr long PART = 1 << 12;
  parallel(ceil_div(size, PART), [&](long part, int) {
    const long end = smaller(size, (part + 1) * PART);
    for (long i = part * PART; i < end; i += LANES) {
      const int valid = int(smaller<long>(LANES, end - i));
      vec sum = load(slabs + i, valid);
      for (long s = 1; s < count; s++) sum += load(slabs + s * size + i, valid);
      if (i + LANES <= cut) {
        store(a + i, sum);
      } else {
        for (int j = 0; j < valid; j++) (i + j < cut ? a[i + j] : b[i + j - cut]) = sum[j];
      }
    }
  });
}

}  // namespace unetcu::UNETCU_ISA
