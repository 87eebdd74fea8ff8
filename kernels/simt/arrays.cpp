// arrays.cpp: copies of arrays between pages that fault; see arrays.h.
#include "arrays.h"

#include <string.h>
#include <sys/mman.h>

#include <new>
#include <stdexcept>

namespace simt {
namespace {
constexpr size_t ALIGN = 16;  // kernels may load four floats at once

size_t rounded_up(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }
}  // namespace

Arrays::~Arrays() {
  for (const Copy& c : copies_) munmap(c.map, c.mapped);
}

char* Arrays::add(char* data, size_t bytes, bool writable, const std::string& name) {
  if (guard_ == Guard::NONE) return data;
  for (Copy& c : copies_) {
    if (c.data == data && c.bytes == bytes) {  // passed twice: one memory, as the kernel has it
      c.writable |= writable;
      return c.guarded;
    }
    if (data < c.data + c.bytes && c.data < data + bytes && (writable || c.writable))
      throw std::runtime_error(c.name + " and " + name +
                               " overlap; guard pages cannot be put between them");
  }
  // [page that faults][body][page that faults]; what the array leaves of the body is poison.
  const size_t page = PAGE, body = rounded_up(bytes ? bytes : 1, page), mapped = body + 2 * page;
  void* map = mmap(nullptr, mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (map == MAP_FAILED) throw std::bad_alloc();
  char* base = static_cast<char*>(map) + page;
  if (mprotect(base, body, PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
  memset(base, 0xff, body);
  char* guarded = guard_ == Guard::BEFORE ? base : base + body - rounded_up(bytes, ALIGN);
  memcpy(guarded, data, bytes);
  copies_.push_back({data, guarded, static_cast<char*>(map), bytes, mapped, writable, name});
  return guarded;
}

void Arrays::protect() {
  for (const Copy& c : copies_)
    if (!c.writable) mprotect(c.map + PAGE, c.mapped - 2 * PAGE, PROT_READ);
}

void Arrays::copy_back() {
  for (const Copy& c : copies_) {
    if (!c.writable) continue;
    const char *begin = c.map + PAGE, *end = c.map + c.mapped - PAGE;
    for (const char* p = begin; p < end; ++p)
      if (*p != '\xff' && (p < c.guarded || p >= c.guarded + c.bytes))
        throw std::runtime_error("something was written outside " + c.name +
                                 ", in the bytes beside it");
    memcpy(c.data, c.guarded, c.bytes);
  }
}
}  // namespace simt
