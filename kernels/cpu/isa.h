// isa.h: one table of functions for each instruction set.
//
// The files of the ops (table.cpp and those it names) are compiled once for each set: portable
// (16-byte vectors: SSE2, NEON), avx2 (with FMA) and avx512. CMake defines UNETCU_ISA as the name
// of the set; all they define lies in namespace unetcu::UNETCU_ISA. native.cpp chooses a table
// when it is loaded, and nothing else is ever called directly.
//
// A file of an op, NAME.cpp, has a list of its functions in NAME.h:
//     #define UNETCU_MOVES(OP) OP(fill, void, (float* y, long count, float value)) ...
// From it come the declaration, the member of Ops and the entry in the table.
//
// What an op's file must not do: use a template of the standard library that the compiler may not
// inline (std::vector, std::function), or an inline function outside namespace UNETCU_ISA. The
// linker keeps one copy of each, perhaps the one with AVX-512 in it, for all sets. Memory and
// threads come from pool.h, whose code is compiled once.
#pragma once

#include "exact.h"
#include "loss.h"
#include "moves.h"
#include "optim.h"
#include "products.h"
#include "view.h"
#include "winograd.h"

#define UNETCU_ALL(OP)                                                                    \
  UNETCU_MOVES(OP) UNETCU_WINOGRAD(OP) UNETCU_EXACT(OP) UNETCU_PRODUCTS(OP) UNETCU_LOSS(OP) \
  UNETCU_OPTIM(OP)

namespace unetcu {

struct Ops {
  const char* name;  // portable, avx2 or avx512
#define UNETCU_MEMBER(name, result, arguments) result(*name) arguments;
  UNETCU_ALL(UNETCU_MEMBER)
#undef UNETCU_MEMBER
};

const Ops& ops();  // of the chosen set: for the bind_*.cpp only

namespace portable {
const Ops& table();
}
namespace avx2 {
const Ops& table();
}
namespace avx512 {
const Ops& table();
}

#ifdef UNETCU_ISA
namespace UNETCU_ISA {
#define UNETCU_DECLARE(name, result, arguments) result name arguments;
UNETCU_ALL(UNETCU_DECLARE)
#undef UNETCU_DECLARE
}  // namespace UNETCU_ISA
#endif

}  // namespace unetcu
