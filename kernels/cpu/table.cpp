// table.cpp: the table of functions of one instruction set (see isa.h); compiled once for each.
#include "isa.h"

#define UNETCU_TEXT(name) #name
#define UNETCU_NAME(name) UNETCU_TEXT(name)

namespace unetcu::UNETCU_ISA {

const Ops& table() {
  static constexpr Ops functions{
      UNETCU_NAME(UNETCU_ISA),
#define UNETCU_ENTRY(name, result, arguments) &name,
      UNETCU_ALL(UNETCU_ENTRY)
#undef UNETCU_ENTRY
  };
  return functions;
}

}  // namespace unetcu::UNETCU_ISA
