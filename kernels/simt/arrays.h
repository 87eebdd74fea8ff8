// arrays.h: the arrays of a launch, where they are or between pages that fault.
#pragma once
#include <string>
#include <vector>

#include "runtime.h"

namespace simt {
enum class Guard { NONE, AFTER, BEFORE };

// Guarded arrays are copies, one for each distinct array; those written to are copied back.
class Arrays {
 public:
  explicit Arrays(Guard guard) : guard_(guard) {}
  ~Arrays();
  Arrays(const Arrays&) = delete;
  // Where the kernel finds this array. Throws if it lies across another one and guards are asked.
  char* add(char* data, size_t bytes, bool writable, const std::string& name);
  void protect();    // before the launch: what is not written to may not be written to
  void copy_back();  // behind it

 private:
  struct Copy {
    char *data, *guarded, *map;
    size_t bytes, mapped;
    bool writable;
    std::string name;
  };
  Guard guard_;
  std::vector<Copy> copies_;
};
}  // namespace simt
