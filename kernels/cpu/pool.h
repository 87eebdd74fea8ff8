// pool.h: worker threads and scratch memory for the CPU's kernels.
//
// An op cuts its work into parts by its shape alone, and whatever it adds up over parts it adds in
// their order: then the number of threads, and which of them does what, changes no bit.
//
// Who waits, sleeps (condition variables), but for a moment before, in which it yields: a worker that
// spins on a busy machine takes the core from the one it waits for, and a step of 0.03 s becomes
// one of 0.8 s.
#pragma once

#include <cstddef>

namespace unetcu {

// From now on at most this many threads, the caller included; they are started when first needed.
void set_threads(int count);
int get_threads();

// One function for every type of body, so that it is compiled once.
void run_parts(long parts, void (*call)(const void* body, long part, int worker), const void* body);

// body(part, worker) for part = 0 ... parts - 1, side by side, and wait for all. worker, from 0
// to get_threads() - 1, tells threads apart. Called inside a part, or while another thread of the program
// is in parallel(), it runs all parts on the calling thread, worker being 0. What a part throws
// comes out of here, after all have stopped.
template <class Body>
static inline void parallel(long parts, const Body& body) {
  run_parts(
      parts,
      [](const void* b, long part, int worker) { (*static_cast<const Body*>(b))(part, worker); },
      &body);
}

// Memory of the calling thread, for this op: `count` floats at a multiple of 64 bytes, not
// cleared. A later call with the same slot (0 to 7) gives the same memory again.
float* scratch(int slot, std::size_t count);

// Bytes of scratch memory that all threads hold now. They are given back when a thread ends.
std::size_t scratch_bytes();

// How much scratch will some ops need? After rehearse(true) the calling thread does of every job
// the first part only, so that ops ask for all that they need and leave nearly all memory alone;
// their results are worth nothing. rehearse(false) ends this and returns the bytes for the number
// of threads that is set.
std::size_t rehearse(bool on);

}  // namespace unetcu
