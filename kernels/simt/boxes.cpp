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
constexpr uintptr_t ALIGN = 1024;  // of targets: the pattern of pieces begins there

// What lies in an mbarrier's eight bytes; the rest of it is beside the memory that kernels see.
uint64_t mark(const void* address) {
  return reinterpret_cast<uintptr_t>(address) ^ 0x6d62617272696572;
}

Barrier& known(Worker& w, const void* address, const char* what, Place place) {
  for (Barrier& b : w.barriers) {
    if (b.address != address) continue;
    const uint64_t right = mark(address);
    if (memcmp(address, &right, sizeof right))
      fail("%s at %s:%d: something else has been written over the mbarrier", what, place.file,
           place.line);
    return b;
  }
  fail("%s at %s:%d: there is no mbarrier; nobody has made it with init", what, place.file,
       place.line);
}

bool anybody_waits(const Barrier& b) {
  return std::any_of(b.waiting, b.waiting + MOST_WARPS, [](uint32_t lanes) { return lanes; });
}

long long size_of(const BoxCopy& c) {
  long long bytes = ROW;
  for (int d = 1; d < c.map.rank; ++d) bytes *= c.map.box[d];
  return bytes;
}

// Calls use(target, bytes of the row before the array's first, source, bytes from there on that are
// inside) for each row of a box.
template <class F>
void each_row(const BoxCopy& c, F use) {
  const TensorMap& m = c.map;
  const long long first = c.at[0], width = m.box[0];
  const long long begin = std::clamp(-first, 0ll, width);
  const long long end = std::clamp(m.sizes[0] - first, begin, width);
  char* target = c.target;
  int i[4] = {};
  for (;;) {
    long long source = (first + begin) * ELEMENT;
    bool there = true;
    for (int d = 1; d < m.rank; ++d) {
      const long long at = static_cast<long long>(c.at[d]) + i[d];
      there = there && at >= 0 && at < m.sizes[d];
      if (there) source += at * m.strides[d];
    }
    there = there && end > begin;
    use(target, begin * ELEMENT, there ? m.base + source : nullptr,
        there ? (end - begin) * ELEMENT : 0);
    target += ROW;
    int d = 1;
    while (d < m.rank && ++i[d] == m.box[d]) i[d++] = 0;
    if (d == m.rank) return;
  }
}

// What the watch is told meanwhile is not the running thread's work.
template <class F>
void watched_as_copies(Worker& w, const Barrier& b, F work) {
  if (w.watch) w.watch->boxes_act(static_cast<int>(&b - w.barriers.data()));
  work();
  if (w.watch) w.watch->boxes_act(-1);
}

void land(Worker& w, const BoxCopy& c) {
  each_row(c, [&](char* target, size_t before, const char* source, size_t inside) {
    char row[ROW] = {};
    if (inside) memcpy(row + before, source, inside);
    const size_t swizzle = reinterpret_cast<uintptr_t>(target) / ROW % 8;
    for (size_t j = 0; j < ROW / PIECE; ++j)
      memcpy(target + (j ^ swizzle) * PIECE, row + j * PIECE, PIECE);
    if (w.watch) w.watch->copy_lands(target, ROW, source, inside, c.pc);
  });
}

// Ends the phase if it can: all have arrived, and as many bytes as they expect have been asked for, if
// any. Those land now; but only if somebody waits for them.
void advance(Worker& w, Barrier& b, bool waits, Place place) {
  if (b.left) return;
  long long coming = 0;
  for (const BoxCopy& c : b.copies) coming += size_of(c);
  if (coming > b.bytes)
    fail("mbarrier at %s:%d: %lld bytes more are coming than it was told to expect", place.file,
         place.line, coming - b.bytes);
  if (coming < b.bytes || (coming && !waits)) return;
  Thread* running = w.now;
  watched_as_copies(w, b, [&] {
    for (const BoxCopy& c : b.copies) {
      w.now = &w.threads[c.by];  // whom a report names
      land(w, c);
    }
    w.now = running;
    if (w.watch && coming) w.watch->arrives(b.address, b.phase);
  });
  b.copies.clear();
  b.bytes = 0;
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
  const uint64_t right = mark(address);
  memcpy(address, &right, sizeof right);
  w.barriers.push_back({address, arrivals, arrivals, 0, 0, {}, {}});
}

void mbarrier_arrive(void* address, unsigned bytes, Place place) {
  Worker& w = *current;
  if (w.watch) w.watch->access(address, 8, READ, __builtin_return_address(0));
  Barrier& b = known(w, address, "mbarrier.arrive", place);
  if (!b.left)
    fail("mbarrier.arrive at %s:%d: all %u have arrived, and the phase has not ended",
         place.file, place.line, b.arrivals);
  b.bytes += bytes;
  --b.left;
  if (w.watch) w.watch->arrives(address, b.phase);
  advance(w, b, anybody_waits(b), place);
}

void mbarrier_wait(void* address, unsigned parity, Place place) {
  Worker& w = *current;
  const Thread& t = *w.now;
  if (parity > 1)
    fail("mbarrier.try_wait at %s:%d: the parity is %u, neither 0 nor 1", place.file, place.line,
         parity);
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
  if (!in_shared(w, shared, size_of(copy)) || reinterpret_cast<uintptr_t>(shared) % ALIGN)
    fail("cp.async.bulk.tensor at %s:%d: the target must lie in shared memory, at a multiple of %zu",
         place.file, place.line, ALIGN);
  if (w.watch) w.watch->access(barrier, 8, READ, copy.pc);
  Barrier& b = known(w, barrier, "cp.async.bulk.tensor", place);
  if (w.watch) {
    w.watch->copy_begins(shared, size_of(copy), nullptr, 0, copy.pc);
    w.watch->box_issued(static_cast<unsigned>(&b - w.barriers.data()));
  }
  watched_as_copies(w, b, [&] {
    each_row(copy, [&](char* target, size_t, const char* source, size_t inside) {
      if (w.watch && inside) w.watch->access(source, inside, READ | UNALIGNED, copy.pc);
      const volatile char* byte = source;
      for (size_t i = 0; i < inside; ++i) static_cast<void>(byte[i]);
      memset(target, 0xff, ROW);
    });
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
