// launch.cpp: the blocks of a launch over OS threads.
//
// Blocks are handed out one by one, so which thread runs which block is chance; kernels whose
// result depends on it are wrong. If several blocks fail, the one that comes first is reported.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <numeric>
#include <thread>

#include "runtime.h"

namespace simt {
namespace {
uint64_t random_bits(uint64_t& state) {  // SplitMix64
  uint64_t z = state += 0x9e3779b97f4a7c15;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
  z = (z ^ z >> 27) * 0x94d049bb133111eb;
  return z ^ z >> 31;
}

void shuffle(std::vector<unsigned>& items, uint64_t& state) {
  for (size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[random_bits(state) % i]);
}

// 0 ... count - 1 in the order of the launch.
std::vector<unsigned> ordered(unsigned count, Order order, uint64_t& state) {
  std::vector<unsigned> items(count);
  std::iota(items.begin(), items.end(), 0);
  if (order == Order::REVERSE) std::reverse(items.begin(), items.end());
  if (order == Order::SHUFFLED) shuffle(items, state);
  return items;
}

// The threads of a block of this launch, and their turns.
void prepare(Worker& w, const Launch& launch) {
  w.launch = &launch;
  w.watch = launch.watch;
  w.error.clear();
  lay_out_shared(w);
  const uint3 b = launch.block;
  const unsigned count = b.x * b.y * b.z, warps = (count + WARP - 1) / WARP;
  const Worker::Shape shape{b, launch.order, launch.seed};
  if (!w.threads.empty() && shape == w.shape) return;
  w.shape = shape;
  w.threads.resize(count);
  w.warps.assign(warps, Warp());
  for (unsigned i = 0; i < count; ++i) {
    w.threads[i].at = {i % b.x, i / b.x % b.y, i / b.x / b.y};
    w.threads[i].index = i;
  }
  uint64_t state = launch.seed;
  const std::vector<unsigned> warp_order = ordered(warps, launch.order, state);
  for (unsigned slot = 0; slot < warps; ++slot) {
    const unsigned warp = warp_order[slot], lanes = std::min(WARP, count - warp * WARP);
    w.warps[warp].index = warp;
    w.warps[warp].slot = slot;
    const std::vector<unsigned> lane_order = ordered(lanes, launch.order, state);
    for (unsigned place = 0; place < lanes; ++place) {
      Thread& t = w.threads[warp * WARP + lane_order[place]];
      t.warp_slot = slot;
      t.lane_slot = place;
      w.slots[slot][place] = &t;
    }
  }
}

bool run_block(Worker& w) {
  for (Thread& t : w.threads) {
    t.context = nullptr;
    t.done = false;
    t.groups = 0;
    t.copies.clear();
    t.product_groups = 0;
    t.products.clear();
    t.sums.clear();
  }
  const unsigned count = w.threads.size();
  w.ready_warps = 0;
  for (Warp& warp : w.warps) {
    const unsigned lanes = std::min(WARP, count - warp.index * WARP);
    warp.alive = ~0u >> (WARP - lanes);
    w.ready[warp.slot] = w.waiting[warp.slot] = 0;
    make_ready(w, warp.slot, warp.alive);  // the slots of n lanes are the first n too
  }
  w.live = count;
  w.arrived = w.yes = 0;
  w.barriers.clear();
  poison_shared(w);
  if (w.watch) w.watch->block_begins(w);
  run_threads(w);
  if (w.error.empty()) {
    const std::string overrun = trespass(w) + left_behind(w);
    if (!overrun.empty())
      w.error = std::string(w.launch->kernel->name) + ": block (" + std::to_string(w.block.x) +
                "," + std::to_string(w.block.y) + "," + std::to_string(w.block.z) + "): " + overrun;
  }
  if (!w.error.empty()) {
    w.spare = w.stacks;  // whatever ran on them is gone
    for (Warp& warp : w.warps) {
      warp.pending = 0;
      for (Meeting& m : warp.meetings) m.here = m.slots = 0;
    }
    return false;
  }
  if (w.watch) w.watch->block_ends();
  return true;
}

// The work of one launch, shared by the OS threads that take part.
struct Job {
  explicit Job(const Launch& l) : launch(l) {
    blocks = 1ull * l.grid.x * l.grid.y * l.grid.z;
    uint64_t state = l.seed;
    if (l.order != Order::SHUFFLED || blocks < 3) return;
    offset = random_bits(state) % blocks;
    do factor = 1 + random_bits(state) % (blocks - 1);
    while (std::gcd(factor, blocks) != 1);
  }
  unsigned long long number(unsigned long long ordinal) const {
    if (launch.order == Order::FORWARD) return ordinal;
    if (launch.order == Order::REVERSE) return blocks - 1 - ordinal;
    return (static_cast<unsigned __int128>(ordinal) * factor + offset) % blocks;
  }

  void work(Worker& w) {
    try {
      prepare(w, launch);
    } catch (const std::exception&) {
      report(0, std::string(launch.kernel->name) + ": no memory for a block");
      return;
    }
    current = &w;
    while (!failed) {
      const unsigned long long ordinal = taken++;
      if (ordinal >= blocks) break;
      const unsigned long long n = w.block_number = number(ordinal);
      const uint3 g = launch.grid;
      w.block = {static_cast<unsigned>(n % g.x), static_cast<unsigned>(n / g.x % g.y),
                 static_cast<unsigned>(n / g.x / g.y)};
      if (!run_block(w)) report(ordinal, w.error);
    }
    current = nullptr;
  }
  void report(unsigned long long ordinal, const std::string& text) {
    const std::lock_guard<std::mutex> lock(mutex);
    if (!failed || ordinal < first) {
      error = text;
      first = ordinal;
    }
    failed = true;
  }

  const Launch& launch;
  unsigned long long blocks, factor = 1, offset = 0, first = 0;
  std::atomic<unsigned long long> taken{0};
  std::atomic<bool> failed{false};
  std::mutex mutex;
  std::string error;
};

// OS threads that wait for jobs; made when first needed, and never ended.
class Pool {
 public:
  void run(Job& job, unsigned helpers) {
    std::unique_lock<std::mutex> lock(mutex_);
    while (threads_ < helpers) std::thread(&Pool::help, this, threads_++).detach();
    job_ = &job;
    places_ = helpers;
    lock.unlock();
    if (helpers) wake_.notify_all();
    job.work(own_);
    lock.lock();
    job_ = nullptr;  // who comes now comes too late
    done_.wait(lock, [&] { return !busy_; });
  }

 private:
  void help(unsigned) {
    const SignalStack stack;
    Worker worker;
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return job_ && places_; });
      Job& job = *job_;
      --places_;
      ++busy_;
      lock.unlock();
      job.work(worker);
      lock.lock();
      if (!--busy_) done_.notify_one();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  Job* job_ = nullptr;
  unsigned threads_ = 0, places_ = 0, busy_ = 0;
  Worker own_;  // of whoever launches
};

std::mutex launching;
Pool* pool = nullptr;
pid_t pool_of = 0;
}  // namespace

std::string launch(const Launch& launch) {
  const std::lock_guard<std::mutex> lock(launching);
  if (pool_of != getpid()) {  // after a fork there are no helpers; the parent's pool is left alone
    pool = new Pool;
    pool_of = getpid();
  }
  Job job(launch);
  const unsigned workers =
      launch.watch ? 1 : std::min<unsigned long long>(launch.workers, job.blocks);
  const Faults faults;
  const SignalStack stack;
  pool->run(job, workers - 1);
  return job.error;
}
}  // namespace simt
