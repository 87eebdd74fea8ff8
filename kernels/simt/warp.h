// warp.h: how lanes of a warp come together; for warp.cpp and mma.cpp.
#pragma once
#include "runtime.h"

namespace simt {
// The running lane comes to a collective of the lanes in `mask` and brings `operand`. When all are
// here, `work` is called once; it finds them in meeting.here and warp.operands.
void meet(uint32_t mask, const char* what, Place place, void* operand,
          void (*work)(Warp&, Meeting&));
}  // namespace simt
