// copies.cpp: cp.async, as late as allowed. The target is poison from the moment of issue until the
// wait that covers the copy; the source is read only then.
#include <string.h>

#include "runtime.h"

namespace simt {
void copy_async(void* shared, const void* global, int bytes, int valid, Place place) {
  Worker& w = *current;
  Thread& t = *w.now;
  auto* target = static_cast<char*>(shared);
  auto* source = static_cast<const char*>(global);
  if (valid < 0 || valid > bytes)
    fail("cp.async at %s:%d: %d of %d bytes cannot be valid", place.file, place.line, valid, bytes);
  if (reinterpret_cast<uintptr_t>(target) % bytes)
    fail("cp.async at %s:%d: the target is not aligned to %d bytes", place.file, place.line, bytes);
  if (valid && reinterpret_cast<uintptr_t>(source) % bytes)
    fail("cp.async at %s:%d: the source is not aligned to %d bytes", place.file, place.line, bytes);
  if (!in_shared(w, target, bytes))
    fail("cp.async at %s:%d: the target lies outside shared memory", place.file, place.line);
  const void* pc = __builtin_return_address(0);
  if (w.watch) w.watch->copy_begins(target, bytes, source, valid, pc);
  for (int i = 0; i < valid; ++i) static_cast<void>(static_cast<const volatile char*>(source)[i]);
  memset(target, 0xff, bytes);
  t.copies.push_back({target, source, bytes, valid, t.groups, pc});
}

void copy_commit() { ++current->now->groups; }

void copy_wait(int keep) {
  Worker& w = *current;
  Thread& t = *w.now;
  size_t landed = 0;
  for (; landed < t.copies.size(); ++landed) {
    const Copy& c = t.copies[landed];
    if (c.group + keep >= t.groups) break;
    if (c.valid) memcpy(c.target, c.source, c.valid);
    memset(c.target + c.valid, 0, c.bytes - c.valid);
    if (w.watch) w.watch->copy_lands(c.target, c.bytes, c.source, c.valid, c.pc);
  }
  t.copies.erase(t.copies.begin(), t.copies.begin() + landed);
}
}  // namespace simt
