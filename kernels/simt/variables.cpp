// variables.cpp: reads the symbol table of a kernel module. A __shared__ variable is a thread-local
// one there; the value of its symbol is its offset in the block's memory.
#include "variables.h"

#include <dlfcn.h>

#include <algorithm>
#include <map>

#if __has_include(<elf.h>)
#include <cxxabi.h>
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#endif

namespace simt {
#if __has_include(<elf.h>)
namespace {
// "part" of "double block_sum<256>(double)::part".
std::string short_name(const char* symbol) {
  int status = 0;
  char* plain = abi::__cxa_demangle(symbol, nullptr, nullptr, &status);
  std::string name = plain ? plain : symbol;
  free(plain);
  const size_t scope = name.rfind("::");
  return scope == std::string::npos ? name : name.substr(scope + 2);
}

std::string bytes_of(const char* path) {
  std::string bytes;
  FILE* file = fopen(path, "rb");
  if (!file) return bytes;
  char part[1 << 14];
  for (size_t n; (n = fread(part, 1, sizeof part, file)) > 0;) bytes.append(part, n);
  fclose(file);
  return bytes;
}

// The i-th T of a table at `offset`; all zeros if it is not inside the file.
template <class T>
T entry(const std::string& file, size_t offset, size_t i) {
  T value;
  memset(&value, 0, sizeof value);
  const size_t at = offset + i * sizeof(T);
  if (at >= offset && at + sizeof(T) <= file.size()) memcpy(&value, &file[at], sizeof value);
  return value;
}

std::vector<Variable> read_variables(const char* path) {
  std::vector<Variable> found;
  const std::string file = bytes_of(path);
  const auto head = entry<Elf64_Ehdr>(file, 0, 0);
  if (memcmp(head.e_ident, ELFMAG, SELFMAG) || head.e_ident[EI_CLASS] != ELFCLASS64) return found;
  for (size_t i = 0; i < head.e_shnum; ++i) {
    const auto table = entry<Elf64_Shdr>(file, head.e_shoff, i);
    if (table.sh_type != SHT_SYMTAB) continue;
    const auto names = entry<Elf64_Shdr>(file, head.e_shoff, table.sh_link);
    for (size_t k = 0; k < table.sh_size / sizeof(Elf64_Sym); ++k) {
      const auto symbol = entry<Elf64_Sym>(file, table.sh_offset, k);
      const size_t name = names.sh_offset + symbol.st_name;
      if (ELF64_ST_TYPE(symbol.st_info) != STT_TLS || !symbol.st_size || name >= file.size())
        continue;
      found.push_back({symbol.st_value, symbol.st_value + symbol.st_size, short_name(&file[name])});
    }
  }
  std::sort(found.begin(), found.end(), [](auto& a, auto& b) { return a.begin < b.begin; });
  return found;
}
}  // namespace
#else
static std::vector<Variable> read_variables(const char*) { return {}; }
#endif

const std::vector<Variable>& shared_variables(const void* code) {
  static std::map<std::string, std::vector<Variable>> known;
  Dl_info module;
  const char* path = dladdr(code, &module) && module.dli_fname ? module.dli_fname : "";
  const auto [at, is_new] = known.try_emplace(path);
  if (is_new) at->second = read_variables(path);
  return at->second;
}

std::string byte_of_shared(const std::vector<Variable>& variables, size_t offset) {
  for (const Variable& v : variables)
    if (offset >= v.begin && offset < v.end)
      return "byte " + std::to_string(offset - v.begin) + " of " + v.name;
  return "byte " + std::to_string(offset) + " of the __shared__ memory";
}
}  // namespace simt
