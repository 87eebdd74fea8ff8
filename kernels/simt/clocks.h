// clocks.h: which thread is ordered behind what of another, but for __syncthreads: a vector clock.
//
// Events are numbered in each warp: a __syncwarp of its lanes, the arrival of one at an mbarrier. What
// a thread did before its event number s, others know of once they are ordered behind that event.
//
// Copies of boxes go their own ways: those that end with one mbarrier count as a thread of their own,
// a "copier", whose number lies behind those of the block.
#pragma once
#include <stdint.h>

#include <algorithm>
#include <vector>

namespace simt {
class Clocks {
 public:
  // A block of so many threads begins.
  void begin(unsigned threads) {
    threads = (threads + 31) / 32 * 32 + COPIERS;
    if (threads == threads_ && !used_) return;
    threads_ = threads;
    used_ = crossed_ = false;
    events_.assign(threads / 32, 0);
    stamps_.assign(threads, 0);
    seen_.assign(size_t{threads} * threads, 0);
    released_.clear();
  }
  // The copier of the block's mbarrier of this number (of more than 32, some share one).
  unsigned copier(unsigned barrier) const { return threads_ - COPIERS + barrier % COPIERS; }
  bool copies(unsigned thread) const { return thread >= threads_ - COPIERS; }
  // The thread's last event.
  uint32_t stamp(unsigned thread) const { return stamps_[thread]; }
  // Is `me` ordered behind what `other` did when that was its stamp?
  bool behind(unsigned me, unsigned other, uint32_t stamp) const {
    return used_ && row(me)[other] > stamp;
  }
  // Lanes of a warp come together.
  void meet(unsigned warp, uint32_t mask) {
    used_ = true;
    const unsigned first = crossed_ ? 0 : warp * 32;  // before that, lanes know of their warp only
    const unsigned last = crossed_ ? threads_ : std::min(threads_, first + 32);
    joined_.assign(last - first, 0);
    const uint32_t event = ++events_[warp];
    each(warp, mask, [&](unsigned t) {
      for (unsigned i = first; i < last; ++i)
        joined_[i - first] = std::max(joined_[i - first], row(t)[i]);
      stamps_[t] = event;
    });
    each(warp, mask, [&](unsigned t) { joined_[t - first] = event; });
    each(warp, mask, [&](unsigned t) { std::copy(joined_.begin(), joined_.end(), row(t) + first); });
  }
  // A thread arrives at an mbarrier, in a phase; another has waited for the end of that phase.
  void release(unsigned thread, const void* barrier, unsigned phase) {
    used_ = crossed_ = true;
    row(thread)[thread] = stamps_[thread] = ++events_[thread / 32];
    uint32_t* seen = of(barrier, phase).data();
    if (copies(thread))
      seen[thread] = row(thread)[thread];  // what it has copied is there, but nothing that its thread did
    else
      join(seen, row(thread));
  }
  // A copier goes on behind what a thread has done.
  void follow(unsigned copier, unsigned thread) {
    used_ = crossed_ = true;
    row(thread)[thread] = stamps_[thread] = ++events_[thread / 32];
    join(row(copier), row(thread));
  }
  void acquire(unsigned thread, const void* barrier, unsigned phase) {
    for (const Release& r : released_)
      if (r.barrier == barrier && r.phase[phase % 2] == phase)
        join(row(thread), r.seen[phase % 2].data());
  }

 private:
  static constexpr unsigned COPIERS = 32;
  struct Release {  // of the last two phases of an mbarrier: what its arrivals had seen
    const void* barrier;
    unsigned phase[2];
    std::vector<uint32_t> seen[2];
  };

  uint32_t* row(unsigned thread) { return seen_.data() + size_t{thread} * threads_; }
  const uint32_t* row(unsigned thread) const { return seen_.data() + size_t{thread} * threads_; }
  void join(uint32_t* to, const uint32_t* from) const {
    for (unsigned i = 0; i < threads_; ++i) to[i] = std::max(to[i], from[i]);
  }
  template <class F>
  void each(unsigned warp, uint32_t mask, F use) {
    for (unsigned t = warp * 32; t < threads_ && t < warp * 32 + 32; ++t)
      if (mask >> t % 32 & 1) use(t);
  }
  // Each phase comes behind the one before.
  std::vector<uint32_t>& of(const void* barrier, unsigned phase) {
    Release* found = nullptr;
    for (Release& r : released_)
      if (r.barrier == barrier) found = &r;
    if (!found) {
      released_.push_back({barrier, {~0u, ~0u}, {}});
      found = &released_.back();
      for (auto& seen : found->seen) seen.assign(threads_, 0);
    }
    if (found->phase[phase % 2] != phase) {
      found->seen[phase % 2] = found->seen[(phase + 1) % 2];
      found->phase[phase % 2] = phase;
    }
    return found->seen[phase % 2];
  }

  unsigned threads_ = COPIERS;
  bool used_ = false, crossed_ = false;  // any event; any between warps
  std::vector<uint32_t> events_;         // of each warp: how many
  std::vector<uint32_t> stamps_;         // of each thread
  std::vector<uint32_t> seen_;           // [i][j]: the last event of thread j that i is behind
  std::vector<uint32_t> joined_;
  std::vector<Release> released_;
};
}  // namespace simt
