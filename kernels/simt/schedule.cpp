// schedule.cpp: whose turn it is, __syncthreads, and what to say when nobody can go on.
//
// A thread runs until it must wait or ends; then comes the next one of its warp that can go on, or
// else of the warps behind it. Threads that have not started yet wait for nothing. A stack whose
// thread has ended starts the next one, so a kernel without barriers is a plain loop on one stack.
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "runtime.h"

namespace simt {
thread_local Worker* current __attribute__((tls_model("initial-exec"))) = nullptr;

uint3 thread_index() noexcept { return current->now->at; }
uint3 block_index() noexcept { return current->block; }
uint3 block_size() noexcept { return current->launch->block; }
uint3 grid_size() noexcept { return current->launch->grid; }

void fail(const char* format, ...) {
  char text[2000];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  Worker& w = *current;
  const uint3 b = w.block, t = w.now->at;
  char head[400];
  snprintf(head, sizeof head, "%s: block (%u,%u,%u) thread (%u,%u,%u): ", w.launch->kernel->name,
           b.x, b.y, b.z, t.x, t.y, t.z);
  w.error.assign(head).append(text);
  void* abandoned;  // like the block's other fibers; what lies on their stacks is simply dropped
  switch_context(&abandoned, w.main_context);
  __builtin_unreachable();
}

void make_ready(Worker& w, unsigned warp_slot, uint32_t lanes) {
  w.ready[warp_slot] |= lanes;
  if (w.ready[warp_slot]) w.ready_warps |= 1u << warp_slot;
}

namespace {
// The lowest bit above `at`, else the lowest of all.
unsigned next_bit(uint32_t bits, unsigned at) {
  const uint32_t behind = bits & (~1u << at);
  return __builtin_ctz(behind ? behind : bits);
}

// Takes the turn from the running thread; null if nobody can go on.
Thread* next(Worker& w) {
  if (!w.ready_warps) return nullptr;
  unsigned warp = w.now->warp_slot, lane;
  if (w.ready[warp]) {
    lane = next_bit(w.ready[warp], w.now->lane_slot);
  } else {
    warp = next_bit(w.ready_warps, warp);
    lane = __builtin_ctz(w.ready[warp]);
  }
  w.ready[warp] &= ~(1u << lane);
  if (!w.ready[warp]) w.ready_warps &= ~(1u << warp);
  return w.slots[warp][lane];
}

bool same(const char* a, const char* b) { return a == b || !strcmp(a, b); }
bool same(const Place& a, const Place& b) { return a.line == b.line && same(a.file, b.file); }

// Names every group of threads that waits, with one thread of each.
[[noreturn]] void report_deadlock(Worker& w) {
  char text[1600] = "";
  size_t used = 0;
  unsigned ended = 0, groups = 0;
  for (Thread& t : w.threads) {
    if (t.done) {
      ++ended;
      continue;
    }
    bool told = false;
    unsigned count = 0;
    for (const Thread& other : w.threads) {
      if (other.done || !same(other.what, t.what) || !same(other.place, t.place)) continue;
      told |= other.index < t.index;
      ++count;
    }
    if (told || groups == 4) continue;
    if (!groups++) w.now = &t;
    used += snprintf(text + used, sizeof text - used,
                     "%u in %s at %s:%d, the first is (%u,%u,%u); ", count, t.what, t.place.file, t.place.line, t.at.x, t.at.y, t.at.z);
    used = used < sizeof text ? used : sizeof text - 1;
  }
  fail("deadlock, no thread can go on: %s%u of %zu have ended", text, ended, w.threads.size());
}

void complete_barrier(Worker& w) {
  w.votes = {w.arrived, w.yes};
  w.arrived = w.yes = 0;
  for (Warp& warp : w.warps) {
    make_ready(w, warp.slot, w.waiting[warp.slot]);
    w.waiting[warp.slot] = 0;
  }
  if (w.watch) w.watch->barrier();
}

// A stack's life: it runs one thread after the other, until another stack's turn comes.
void fiber_main() {
  for (;;) {
    Worker& w = *current;
    Thread& t = *w.now;
    w.launch->kernel->run(w.launch->arguments);
    t.done = true;
    --w.live;
    lane_ends(w, t);
    if (w.live && w.arrived == w.live) complete_barrier(w);  // it waits for those that still run
    Thread* n = next(w);
    if (!n && w.live) report_deadlock(w);
    void* over;
    if (n && !n->context) {
      n->stack = t.stack;
      n->context = n;  // started; it is a real context once the thread has waited
      w.now = n;
      continue;
    }
    w.spare.push_back(t.stack);
    if (n) w.now = n;
    switch_context(&over, n ? n->context : w.main_context);
  }
}

void start(Worker& w, Thread& t) {
  t.stack = take_stack(w);
  t.context = new_context(t.stack, t.lane_slot, fiber_main);
}
// Inlined: behind a switch, each return to a caller is one that the CPU has not foreseen.
inline __attribute__((always_inline)) void pause(Worker& w, const char* what, Place place) {
  Thread& t = *w.now;
  t.what = what;
  t.place = place;
  Thread* n = next(w);
  if (!n) report_deadlock(w);
  if (!n->context) start(w, *n);
  w.now = n;
  switch_context(&t.context, n->context);
}
}  // namespace

void wait(Worker& w, const char* what, Place place) { pause(w, what, place); }

void run_threads(Worker& w) {
  Thread* first = w.slots[0][0];
  w.ready[0] &= ~1u;
  if (!w.ready[0]) w.ready_warps &= ~1u;
  w.now = first;
  start(w, *first);
  switch_context(&w.main_context, first->context);
  w.now = nullptr;
}

Votes block_barrier(const char* what, bool mine, Place place) {
  Worker& w = *current;
  Thread& t = *w.now;
  if (!w.arrived) {
    w.first = &t;
    t.what = what;
    t.place = place;
  } else if (!same(w.first->what, what) || !same(w.first->place, place)) {
    const uint3 at = w.first->at;
    fail("divergent barriers: this thread has come to %s at %s:%d, thread (%u,%u,%u) to %s at "
         "%s:%d",
         what, place.file, place.line, at.x, at.y, at.z, w.first->what, w.first->place.file,
         w.first->place.line);
  }
  w.yes += mine;
  if (++w.arrived == w.live) {
    complete_barrier(w);
  } else {
    w.waiting[t.warp_slot] |= 1u << t.lane_slot;
    pause(w, what, place);
  }
  return w.votes;
}
}  // namespace simt
