// variables.h: the names of a kernel module's __shared__ variables, for reports.
#pragma once
#include <stddef.h>

#include <string>
#include <vector>

namespace simt {
struct Variable {
  size_t begin, end;  // in the block's static shared memory
  std::string name;   // as in the kernel: "tile"
};

// Of the module that holds this machine code, by `begin`; none where they cannot be read.
const std::vector<Variable>& shared_variables(const void* code);

// "byte 12 of tile"; "byte 12 of the __shared__ memory" where no name is known.
std::string byte_of_shared(const std::vector<Variable>& variables, size_t offset);
}  // namespace simt
