// warp.cpp: what the lanes of a warp do together: __syncwarp, votes, shuffles.
//
// Each lane leaves a pointer to what it brings; the last one to come does the work for all. Lanes
// that have ended are not waited for.
#include "warp.h"

#include <string.h>

namespace simt {
namespace {
bool same(const char* a, const char* b) { return a == b || !strcmp(a, b); }

void close(Worker& w, Warp& warp, Meeting& meeting) {
  meeting.work(warp, meeting);
  make_ready(w, warp.slot, meeting.slots);
  warp.pending &= ~(1u << (&meeting - warp.meetings));
  meeting.here = meeting.slots = 0;
}
}  // namespace

void meet(uint32_t mask, const char* what, Place place, void* operand,
          void (*work)(Warp&, Meeting&)) {
  Worker& w = *current;
  Thread& t = *w.now;
  Warp& warp = w.warps[t.index / WARP];
  const unsigned lane = t.index % WARP;
  if (!(mask >> lane & 1))
    fail("%s at %s:%d: lane %u calls with mask 0x%08x, which leaves it out", what, place.file,
         place.line, lane, mask);
  Meeting& m = warp.meetings[__builtin_ctz(mask)];
  if (!m.here) {
    m.mask = mask;
    m.what = what;
    m.place = place;
    m.work = work;
    warp.pending |= 1u << __builtin_ctz(mask);
  } else if (m.mask != mask || !same(m.what, what) || m.place.line != place.line ||
             !same(m.place.file, place.file)) {
    fail("lanes of a warp diverge: lane %u has come to %s at %s:%d with mask 0x%08x, lane %d to %s "
         "at %s:%d with mask 0x%08x",
         lane, what, place.file, place.line, mask, __builtin_ctz(m.here), m.what, m.place.file,
         m.place.line, m.mask);
  }
  m.here |= 1u << lane;
  warp.operands[lane] = operand;
  if (m.here == (mask & warp.alive)) {
    close(w, warp, m);
  } else {
    m.slots |= 1u << t.lane_slot;
    wait(w, what, place);
  }
}

void lane_ends(Worker& w, Thread& thread) {
  Warp& warp = w.warps[thread.index / WARP];
  warp.alive &= ~(1u << thread.index % WARP);
  for (uint32_t left = warp.pending; left; left &= left - 1) {
    Meeting& m = warp.meetings[__builtin_ctz(left)];
    if (m.here == (m.mask & warp.alive)) close(w, warp, m);
  }
}

void warp_barrier(unsigned mask, Place place) {
  meet(mask, "__syncwarp", place, nullptr, [](Warp& warp, Meeting& m) {
    if (current->watch) current->watch->warp_barrier(warp.index, m.here);
  });
}

uint32_t warp_vote(const char* what, unsigned mask, bool mine, Place place) {
  uint32_t vote = mine;
  meet(mask, what, place, &vote, [](Warp& warp, Meeting& m) {
    uint32_t votes = 0;
    for (unsigned lane = 0; lane < WARP; ++lane)
      if (m.here >> lane & 1) votes |= *static_cast<uint32_t*>(warp.operands[lane]) << lane;
    for (unsigned lane = 0; lane < WARP; ++lane)
      if (m.here >> lane & 1) *static_cast<uint32_t*>(warp.operands[lane]) = votes;
  });
  return vote;
}

namespace {
struct Exchange {
  Shuffle kind;
  int operand, width;
  uint64_t mine, got;
};

// The lane that `lane` reads from, as the PTX ISA defines shfl.sync.
int source_lane(const Exchange& e, int lane) {
  const int first = lane & -e.width, last = first + e.width - 1, by = e.operand & 31;
  switch (e.kind) {
    case Shuffle::INDEX: return first + (e.operand & (e.width - 1));
    case Shuffle::UP: return lane - by >= first ? lane - by : lane;
    case Shuffle::DOWN: return lane + by <= last ? lane + by : lane;
    default: return (lane ^ by) <= last ? lane ^ by : lane;
  }
}

void exchange(Warp& warp, Meeting& m) {
  for (int lane = 0; lane < 32; ++lane) {
    if (!(m.here >> lane & 1)) continue;
    auto& e = *static_cast<Exchange*>(warp.operands[lane]);
    const int from = source_lane(e, lane);
    if (!(m.here >> from & 1))
      fail("%s at %s:%d: lane %d reads from lane %d, which takes no part", m.what, m.place.file,
           m.place.line, lane, from);
    e.got = static_cast<Exchange*>(warp.operands[from])->mine;
  }
}
}  // namespace

uint64_t warp_shuffle(Shuffle kind, unsigned mask, uint64_t mine, int operand, int width,
                      Place place) {
  static const char* const names[] = {"__shfl_sync", "__shfl_up_sync", "__shfl_down_sync",
                                      "__shfl_xor_sync"};
  const char* name = names[static_cast<int>(kind)];
  if (width < 1 || width > 32 || (width & (width - 1)))
    fail("%s at %s:%d: the width is %d, which is no power of two up to 32", name, place.file,
         place.line, width);
  Exchange e{kind, operand, width, mine, 0};
  meet(mask, name, place, &e, exchange);
  return e.got;
}
}  // namespace simt
