// boxes.cpp: mbarriers, and copies of boxes by TMA that end their phases.
//
// A copy lands as late as allowed: when a thread waits for the phase it belongs to and all have
// arrived. Until then its target is poison. How rows of 128 bytes are swizzled is laid down in the
// PTX ISA under "Swizzling modes"; there is the one that swizzles pieces of 16 bytes within 1024.
#include <string.h>

#include <algorithm>

#include "runtime.h"

namespace simt {
namespace {
constexpr int ROW = 128, PIECE = 16, ELEMENT = 2;
constexpr size_t ALIGN = 1024;  // of targets: the pattern of pieces begins there

Barrier& known(Worker& w, const void* address, const char* what, Place place) {
  for (Barrier& b : w.barriers)
    if (b.address == address) return b;
  fail("%s at %s:%d: there is no mbarrier; nobody has made it with init", what, place.file,
       place.line);
}

bool anybody_waits(const Barrier& b) {
  return std::any_of(b.waiting, b.waiting + MOST_WARPS, [](uint32_t lanes) { return lanes; });
}

// Calls use(target, source, bytes that are inside) for each row of a box.
template <class F>
void each_row(const BoxCopy& c, F use) {
  const TensorMap& m = c.map;
  int inside = std::min(m.sizes[0] - c.at[0], m.box[0]);  // elements of a row, from its first
  if (c.at[0] < 0) inside = 0;
  char* target = c.target;
  int i[4] = {};
  for (;;) {
    const char* source = m.base + static_cast<long long>(c.at[0]) * ELEMENT;
    bool there = inside > 0;
    for (int d = 1; d < m.rank; ++d) {
      const int at = c.at[d] + i[d];
      there = there && at >= 0 && at < m.sizes[d];
      source += at * m.strides[d];
    }
    use(target, source, there ? inside * ELEMENT : 0);
    target += ROW;
    int d = 1;
    while (d < m.rank && ++i[d] == m.box[d]) i[d++] = 0;
    if (d == m.rank) return;
  }
}

void land(Worker& w, const BoxCopy& c) {
  Thread* waiter = w.now;
  w.now = &w.threads[c.by];
  each_row(c, [&](char* target, const char* source, int inside) {
    const size_t row = (target - w.smem) / ROW % 8;
    for (int j = 0; j < ROW / PIECE; ++j) {
      char* piece = target + (j ^ row) * PIECE;
      const int valid = std::clamp(inside - j * PIECE, 0, PIECE);
      if (valid) memcpy(piece, source + j * PIECE, valid);
      memset(piece + valid, 0, PIECE - valid);
    }
    if (w.watch) w.watch->copy_lands(target, ROW, source, inside, c.pc);
  });
  w.now = waiter;
}

// Ends the phase if it can: all have arrived, and somebody waits for the copies or there are none.
void advance(Worker& w, Barrier& b, bool waits, Place place) {
  if (b.left || (!b.copies.empty() && !waits)) return;
  for (const BoxCopy& c : b.copies) {
    land(w, c);
    long long size = ROW;
    for (int d = 1; d < c.map.rank; ++d) size *= c.map.box[d];
    b.bytes -= size;
    Thread* waiter = w.now;
    w.now = &w.threads[c.by];
    if (w.watch) w.watch->arrives(b.address, b.phase);
    w.now = waiter;
  }
  b.copies.clear();
  if (b.bytes < 0)
    fail("mbarrier at %s:%d: %lld bytes more have come than it was told to expect", place.file,
         place.line, -b.bytes);
  if (b.bytes) return;
  ++b.phase;
  b.left = b.arrivals;
  for (unsigned slot = 0; slot < MOST_WARPS; ++slot) {
    if (b.waiting[slot]) make_ready(w, slot, b.waiting[slot]);
    b.waiting[slot] = 0;
  }
}
}  // namespace

void mbarrier_init(void* address, unsigned arrivals, Place place) {
  Worker& w = *current;
  if (reinterpret_cast<uintptr_t>(address) % 8 || !in_shared(w, address, 8))
    fail("mbarrier.init at %s:%d: it must lie in shared memory, at a multiple of 8", place.file,
         place.line);
  for (const Barrier& b : w.barriers)
    if (b.address == address)
      fail("mbarrier.init at %s:%d: it is there already", place.file, place.line);
  if (!arrivals) fail("mbarrier.init at %s:%d: for nobody", place.file, place.line);
  if (w.watch) w.watch->access(address, 8, WRITE, __builtin_return_address(0));
  w.barriers.push_back({address, arrivals, arrivals, 0, 0, {}, {}});
}

void mbarrier_arrive(void* address, unsigned bytes, Place place) {
  Worker& w = *current;
  if (w.watch) w.watch->access(address, 8, READ, __builtin_return_address(0));
  Barrier& b = known(w, address, "mbarrier.arrive", place);
  if (!b.left)
    fail("mbarrier.arrive at %s:%d: all %u have arrived, and what they expect is not there",
         place.file, place.line, b.arrivals);
  b.bytes += bytes;
  --b.left;
  if (w.watch) w.watch->arrives(address, b.phase);
  advance(w, b, anybody_waits(b), place);
}

void mbarrier_wait(void* address, unsigned parity, Place place) {
  Worker& w = *current;
  const Thread& t = *w.now;
  if (w.watch) w.watch->access(address, 8, READ, __builtin_return_address(0));
  Barrier* b = &known(w, address, "mbarrier.try_wait", place);
  if (b->phase % 2 == parity) advance(w, *b, true, place);
  while (b->phase % 2 == parity) {
    b->waiting[t.warp_slot] |= 1u << t.lane_slot;
    wait(w, "mbarrier.try_wait", place);
    b = &known(w, address, "mbarrier.try_wait", place);  // others may have made more of them
  }
  if (w.watch) w.watch->has_waited(address, b->phase - 1);
}

void copy_box(void* shared, const TensorMap& map, void* barrier, const int* at, int rank,
              Place place) {
  Worker& w = *current;
  BoxCopy copy{static_cast<char*>(shared), map, {}, w.now->index, __builtin_return_address(0)};
  if (rank != map.rank)
    fail("cp.async.bulk.tensor at %s:%d: %d coordinates for %d dimensions", place.file, place.line,
         rank, map.rank);
  std::copy(at, at + rank, copy.at);
  size_t bytes = ROW;
  for (int d = 1; d < rank; ++d) bytes *= map.box[d];
  if (!in_shared(w, shared, bytes) || (copy.target - w.smem) % ALIGN)
    fail("cp.async.bulk.tensor at %s:%d: the target must lie in shared memory, at a multiple of %zu",
         place.file, place.line, ALIGN);
  if (w.watch) w.watch->access(barrier, 8, READ, copy.pc);
  Barrier& b = known(w, barrier, "cp.async.bulk.tensor", place);
  each_row(copy, [&](char* target, const char* source, int inside) {
    if (w.watch) w.watch->copy_begins(target, ROW, source, inside, copy.pc);
    for (int i = 0; i < inside; ++i) static_cast<void>(static_cast<const volatile char*>(source)[i]);
    memset(target, 0xff, ROW);
  });
  b.copies.push_back(copy);
  advance(w, b, anybody_waits(b), place);
}

std::string left_behind(const Worker& w) {
  for (const Barrier& b : w.barriers)
    if (!b.copies.empty()) return "it ends while a copy is under way, for which nobody has waited";
  return "";
}
}  // namespace simt
