// checker.cpp: checked mode. Every load and store of a kernel is held against what other threads
// have done to the same bytes: is it inside an array of this launch, or shared memory? has anything
// been written there? does a barrier order it behind the others' uses?
//
// What orders two uses of one block: __syncthreads, __syncwarp, mbarriers, nothing else. A copy of a
// box comes behind what its thread did before; behind the copy comes only who waits for its mbarrier.
// Uses of two blocks of a launch are ordered by nothing; only atomics may meet. So a kernel that passes
// data between blocks through flags and __threadfence is reported (there is none here: a second launch
// does it). Blocks run one after the other, threads in turns; a race is seen whether or not it did harm.
#include "checker.h"

#include <dlfcn.h>
#include <string.h>

#include <algorithm>

namespace simt {
namespace {
// What device.empty fills arrays with. As a float it is a NaN that no arithmetic makes of numbers.
bool poisoned(const char* at, char type) {
  if (type == 'd') {
    uint64_t bits;
    memcpy(&bits, at, sizeof bits);
    return bits == ~uint64_t{0};
  }
  uint32_t bits;
  memcpy(&bits, at, sizeof bits);
  return type == 'f' && bits == ~uint32_t{0};
}
}  // namespace

Checker::Checker(const Launch& launch) : launch_(launch) {
  Dl_info module;
  if (dladdr(reinterpret_cast<void*>(launch.kernel->run), &module))
    module_ = static_cast<const char*>(module.dli_fbase);
  std::vector<const Launch::Array*> sorted;
  for (const Launch::Array& array : launch.arrays) sorted.push_back(&array);
  std::sort(sorted.begin(), sorted.end(), [](auto* a, auto* b) { return a->base < b->base; });
  for (const Launch::Array* array : sorted) {  // arguments that overlap share their cells
    if (extents_.empty() || array->base >= extents_.back().end)
      extents_.push_back({array->base, array->end, false, nullptr});
    Extent& extent = extents_.back();
    extent.end = std::max<const char*>(extent.end, array->end);
    extent.writable |= array->writable;
  }
  for (Extent& extent : extents_)
    if (extent.writable) extent.shadow = std::make_unique<Shadow>(extent.end - extent.base);
}

void Checker::block_begins(Worker& worker) {
  worker_ = &worker;
  ++serial_;
  blocks_.push_back(worker.block_number);
  epoch_ = 0;
  if (!statics_) statics_ = std::make_unique<Shadow>(worker.tls_bytes);
  if (!dynamic_) dynamic_ = std::make_unique<Shadow>(worker.smem_bytes);
  clocks_.begin(static_cast<unsigned>(worker.threads.size()));
}

void Checker::warp_barrier(unsigned warp, uint32_t mask) { clocks_.meet(warp, mask); }
void Checker::arrives(const void* barrier, unsigned phase) {
  clocks_.release(actor(), barrier, phase);
}
void Checker::box_issued(unsigned barrier) {
  clocks_.follow(clocks_.copier(barrier), worker_->now->index);
}
void Checker::has_waited(const void* barrier, unsigned phase) {
  clocks_.acquire(worker_->now->index, barrier, phase);
}

// Who does what the checker is told: the running thread, or copies, which are threads of their own.
unsigned Checker::actor() const {
  return boxes_ < 0 ? worker_->now->index : clocks_.copier(static_cast<unsigned>(boxes_));
}

Moment Checker::now(const Use& use) const {
  const unsigned thread = actor();
  return {epoch_, clocks_.stamp(thread),
          static_cast<uint32_t>(static_cast<const char*>(use.pc) - module_),
          static_cast<uint16_t>(thread)};
}

// Does what `thread` did in this block, at the epoch and stamp of `then`, come before now?
bool Checker::ordered(const Moment& then, unsigned thread) const {
  const unsigned me = actor();
  return thread == me || then.epoch < epoch_ || clocks_.behind(me, thread, then.stamp);
}

// The rules for one cell; `offset` is that of its first byte.
void Checker::check(Cell& c, size_t offset, const Use& use) {
  const bool shared = use.kind != Use::ARRAY, write = use.how & WRITE, atomic = use.how & ATOMIC;
  if (c.block != serial_) {
    if (shared) c = Cell();  // another block's shared memory: nothing of it is left
    next_block(c);
  }
  if (c.earlier_block && (write || c.earlier_wrote) && !(atomic && c.earlier_wrote && c.atomic))
    race(use, offset, c.earlier, c.earlier_wrote ? "written" : "read", c.earlier_block);
  if (c.in_flight) in_flight(use, offset, c.write);
  const bool both_atomic = atomic && c.atomic;
  if (c.written && !both_atomic && !behind_writes(c)) race(use, offset, c.write, "written", 0);
  if (!write) {
    const bool unknown = shared || use.array->uninitialised;
    if (unknown && !c.initialised) unwritten(use, offset);
    if (!atomic) remember_read(c, use);
    return;
  }
  if (c.lanes && c.read.epoch == epoch_) {
    if (!ordered(c.read, c.read.thread)) race(use, offset, c.read, "read", 0);  // its line is known
    if (c.other && !ordered(c.other_read, c.other_read.thread))
      race(use, offset, c.other_read, "read", 0);
    for (unsigned lane = 0; lane < 32; ++lane) {
      const unsigned thread = c.read.thread / 32 * 32 + lane;
      if (!(c.lanes >> lane & 1) || ordered(c.read, thread)) continue;
      Moment then = c.other_read.thread == thread ? c.other_read : c.read;
      then.thread = static_cast<uint16_t>(thread);  // the line may be that of another lane's read
      race(use, offset, then, "read", 0);
    }
  }
  remember_write(c, use, atomic);
}

// Is the running thread ordered behind the last write, and all atomic ones that belong to it?
bool Checker::behind_writes(const Cell& c) const {
  if (c.write.epoch < epoch_) return true;
  if (c.others) return false;
  if (!c.atomic) return ordered(c.write, c.write.thread);
  for (unsigned lane = 0; lane < 32; ++lane)
    if (c.atomics >> lane & 1 && !ordered(c.write, c.write.thread / 32 * 32 + lane)) return false;
  return true;
}

void Checker::remember_write(Cell& c, const Use& use, bool atomic) {
  Moment write = now(use);
  const uint32_t lane = 1u << write.thread % 32;
  const bool joins = atomic && c.atomic && c.written && c.write.epoch == epoch_;
  if (joins && c.write.thread / 32 == write.thread / 32) {
    c.atomics |= lane;  // as for reads, all share the oldest stamp
    write.stamp = std::min(write.stamp, c.write.stamp);
  } else {
    c.others = joins;
    c.atomics = lane;
  }
  c.write = write;
  c.lanes = 0;
  c.written = c.initialised = true;
  c.other = false;
  c.atomic = atomic;
}

// Begins anew with this block; one thing is kept of what earlier ones did to the same element.
void Checker::next_block(Cell& c) {
  if (c.written || (c.lanes && !c.earlier_block)) {
    c.earlier = c.written ? c.write : c.read;
    c.earlier_wrote = c.written;
    c.earlier_block = c.block;
  }
  c.block = serial_;
  c.lanes = 0;
  c.written = c.other = c.others = false;
}

// A coming write must be ordered behind every read that is not itself ordered before a later one.
void Checker::remember_read(Cell& c, const Use& use) {
  Moment read = now(use);
  const uint32_t lane = 1u << read.thread % 32;
  if (!c.lanes || c.read.epoch != epoch_) {
    c.lanes = lane;
    c.other = false;
    c.other_read = read;
  } else if (c.read.thread / 32 != read.thread / 32) {
    c.other_read = c.read;
    c.other = true;
    c.lanes = lane;
  } else if (c.read.stamp == read.stamp) {
    c.lanes |= lane;
  } else {
    // Lanes that a __syncwarp has ordered before this read are done with. Those left share the
    // oldest stamp: after a __syncwarp of part of a warp a race may be missed, never invented.
    for (unsigned i = 0; i < 32; ++i)
      if (ordered(c.read, read.thread / 32 * 32 + i)) c.lanes &= ~(1u << i);
    if (c.lanes) read.stamp = std::min(read.stamp, c.read.stamp);
    c.lanes |= lane;
  }
  if (!c.other && c.lanes != lane && c.read.thread != read.thread) c.other_read = c.read;
  c.read = read;
}

void Checker::access(const void* address, size_t bytes, unsigned how, const void* pc) {
  const char* p = static_cast<const char*>(address);
  const Worker& w = *worker_;
  if (on_stack(w, p)) return;
  Use use{Use::STATIC, how, pc, p, bytes, 0, nullptr};
  if (bytes <= 16 && !(how & UNALIGNED) && reinterpret_cast<uintptr_t>(p) % bytes)
    misaligned(use);
  if (p >= w.tls && p < w.tls + w.tls_bytes) {
    use.offset = p - w.tls;
    if (use.offset + bytes > w.tls_bytes) outside(use, w.tls_bytes);
    statics_->each(use.offset, bytes, [&](Cell& c, size_t at) { check(c, at, use); });
    return;
  }
  if (in_dynamic_window(w, p)) {
    use.kind = Use::DYNAMIC;
    use.offset = p - w.smem;
    if (p < w.smem || use.offset + bytes > w.smem_bytes) outside(use, w.smem_bytes);
    dynamic_->each(use.offset, bytes, [&](Cell& c, size_t at) { check(c, at, use); });
    return;
  }
  use.kind = Use::ARRAY;
  for (Extent& extent : extents_) {
    if (p < extent.base || p >= extent.end) continue;
    use.array = array_at(p, how & WRITE);
    use.offset = p - use.array->base;
    if (p + bytes > use.array->end) outside(use, use.array->end - use.array->base);
    if ((how & WRITE) && !use.array->writable) constant(use);
    if (!(how & WRITE)) read_of_array(use);
    const size_t from = p - extent.base, shift = use.offset - from;
    if (extent.shadow)
      extent.shadow->each(from, bytes, [&](Cell& c, size_t at) { check(c, at + shift, use); });
    return;
  }
  Dl_info module;  // constants of the kernel's own file are part of its machine code
  if (!dladdr(p, &module) || module.dli_fbase != module_) nowhere(use);
}

void Checker::read_of_array(const Use& use) {
  const Launch::Array& array = *use.array;
  if (array.uninitialised && !array.writable) unwritten(use, use.offset);
  const size_t size = array.type == 'd' ? 8 : 4;
  if (array.type != 'f' && array.type != 'd') return;
  const size_t end = std::min<size_t>(use.offset + use.bytes, array.end - array.base);
  for (size_t at = use.offset / size * size; at + size <= end; at += size)
    if (poisoned(array.base + at, array.type)) unwritten(use, at);
}

// The argument that holds this byte; where several do, one that may be written, if that is asked.
const Launch::Array* Checker::array_at(const char* p, bool write) const {
  const Launch::Array* found = nullptr;
  for (const Launch::Array& array : launch_.arrays)
    if (p >= array.base && p < array.end && (!found || (write && array.writable))) found = &array;
  return found;
}

template <class F>
void Checker::each_shared(void* target, size_t bytes, F change) {
  const char* p = static_cast<const char*>(target);
  const bool is_static = p >= worker_->tls && p < worker_->tls + worker_->tls_bytes;
  Shadow& shadow = is_static ? *statics_ : *dynamic_;
  shadow.each(p - (is_static ? worker_->tls : worker_->smem), bytes,
              [&](Cell& c, size_t) { change(c); });
}

void Checker::copy_begins(void* target, size_t bytes, const void* source, size_t valid,
                          const void* pc) {
  if (valid) access(source, valid, READ | UNALIGNED, pc);
  access(target, bytes, WRITE, pc);
  each_shared(target, bytes, [](Cell& c) { c.in_flight = true; });
}

void Checker::copy_lands(void* target, size_t bytes, const void* source, size_t valid,
                         const void* pc) {
  each_shared(target, bytes, [](Cell& c) { c.in_flight = false; });
  if (valid) access(source, valid, READ | UNALIGNED, pc);  // it was read at any time up to now
  access(target, bytes, WRITE, pc);
}

std::unique_ptr<Watch> make_checker(const Launch& launch) {
  return std::make_unique<Checker>(launch);
}
}  // namespace simt
