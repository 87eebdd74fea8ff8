// source.h: from an address in a kernel's machine code to the line of the .cu file.
#pragma once
#include <string>
#include <vector>

namespace simt {
struct SourceLine {
  std::string file;    // "kernels/fours.cuh"; "module.so+0x1a2b" where the line cannot be found
  int line = 0;        // 0 where it cannot be found
  std::string caller;  // "kernels/conv3x3.cu:88", where a function of a .cuh was inlined, or ""
  std::string text() const;
};

// The lines that these return addresses come from; all unknown ones are looked up in one go.
// A function of simt.h or ptx.cuh stands for the line that called it.
std::vector<SourceLine> source_lines(const std::vector<const void*>& addresses);
std::string source_line(const void* address);  // of one, as text
}  // namespace simt
