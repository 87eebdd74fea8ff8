// watch.h: what checked mode and profile mode are told about a running kernel.
//
// A Watch is made for one launch. In these modes one worker runs all blocks, one after the other,
// and calls the functions below from the fiber of the thread that acts (Worker::now).
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <memory>

namespace simt {
struct Launch;
struct Worker;

// Or'ed together. UNASKED: by a tensor core, by itself; no thread has asked for it.
enum Use : unsigned { READ = 0, WRITE = 1, ATOMIC = 2, UNALIGNED = 4, UNASKED = 8 };

class Watch {
 public:
  virtual ~Watch() = default;
  // A block starts: the worker's shared memory is laid out, none of its threads has run.
  virtual void block_begins(Worker& worker) = 0;
  virtual void block_ends() = 0;
  // Every thread of the block that still runs has come to a __syncthreads.
  virtual void barrier() = 0;
  // Every lane of `mask` has come to a __syncwarp of this warp. (Shuffles and votes order no
  // memory and are not told.)
  virtual void warp_barrier(unsigned warp, uint32_t mask) = 0;
  // The running thread arrives at an mbarrier, in this phase; or has waited for the end of it.
  virtual void arrives(const void* barrier, unsigned phase) = 0;
  virtual void has_waited(const void* barrier, unsigned phase) = 0;
  // The running thread has issued a copy of a box that ends with the block's mbarrier of this number.
  virtual void box_issued(unsigned barrier) = 0;
  // What is told from here on is done by such copies and not by the running thread; -1: no longer.
  virtual void boxes_act(int barrier) = 0;
  // The running thread touches memory; pc lies behind the call in the kernel's machine code.
  virtual void access(const void* address, size_t bytes, unsigned use, const void* pc) = 0;
  // A cp.async from `source` (`valid` bytes; the rest of the target becomes zeros), or a row of a box,
  // which needs no alignment, is issued by the running thread; and lands.
  virtual void copy_begins(void* target, size_t bytes, const void* source, size_t valid,
                           const void* pc) = 0;
  virtual void copy_lands(void* target, size_t bytes, const void* source, size_t valid,
                          const void* pc) = 0;
  // The running thread does floating-point operations (only told by modules made for profiles).
  virtual void flops(int operations, const void* pc) = 0;
};

std::unique_ptr<Watch> make_checker(const Launch& launch);
}  // namespace simt
