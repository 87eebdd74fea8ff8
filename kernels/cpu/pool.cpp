// pool.cpp: see pool.h. One job at a time; whoever is awake takes its next part.
#include "pool.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <new>
#include <thread>
#include <utility>

namespace unetcu {
namespace {

using Call = void (*)(const void*, long, int);

struct Pool {
  std::mutex job;  // held while a job runs: who does not get it runs its parts alone
  std::mutex lock;  // guards what is written below, but for `next`
  std::condition_variable wake, idle;
  int started = 0;  // workers; the caller is not one
  std::atomic<unsigned long> number{0};  // of the job
  bool open = false;  // may workers still join the job?
  int limit = 0;  // workers that may
  std::atomic<int> inside{0};  // workers that did and have not left
  std::exception_ptr trouble;
  Call call = nullptr;
  const void* body = nullptr;
  long parts = 0;
  std::atomic<long> next{0};
};

// Never destroyed: at exit its workers still wait in it.
Pool* pool = new Pool;
std::atomic<int> threads{1};
thread_local bool in_part = false;

void take_parts(Pool& p, int worker) {
  in_part = true;
  try {
    for (long part; (part = p.next.fetch_add(1)) < p.parts;) p.call(p.body, part, worker);
  } catch (...) {
    p.next = p.parts;  // nobody starts another
    const std::lock_guard<std::mutex> hold(p.lock);
    if (!p.trouble) p.trouble = std::current_exception();
  }
  in_part = false;
}

// Waits a moment for what mostly happens within one: the next op, or the last part of another thread.
// Sleeping and being woken takes tens of microseconds, as long as a small op. It yields meanwhile:
// whoever else wants this core, the thread that is waited for perhaps, gets it.
template <class Done>
void wait_a_moment(Done done) {
  constexpr std::chrono::microseconds moment{50};
  const auto start = std::chrono::steady_clock::now();
  while (!done() && std::chrono::steady_clock::now() - start < moment) std::this_thread::yield();
}

void work(Pool* p, int me) {
  unsigned long seen = 0;
  std::unique_lock<std::mutex> hold(p->lock);
  while (true) {
    hold.unlock();
    wait_a_moment([&] { return p->number != seen; });
    hold.lock();
    p->wake.wait(hold, [&] { return p->number != seen; });
    seen = p->number;
    if (!p->open || me > p->limit) continue;
    p->inside++;
    hold.unlock();
    take_parts(*p, me);
    hold.lock();
    if (--p->inside == 0) p->idle.notify_one();
  }
}

// A child of fork() has the memory of the pool but none of its threads: it starts afresh.
void after_fork_in_child() {
  pool = new Pool;
  in_part = false;
}
const int registered = pthread_atfork(nullptr, nullptr, after_fork_in_child);

std::atomic<std::size_t> held{0};

struct Buffer {
  float* data = nullptr;
  std::size_t bytes = 0;
  ~Buffer() { drop(); }
  void drop() {
    std::free(data);
    held -= bytes;
    data = nullptr, bytes = 0;
  }
};
constexpr int SLOTS = 8;
thread_local Buffer buffers[SLOTS];

// What a rehearsal (pool.h) was asked for, in bytes: by ops, and by the parts of their jobs.
struct Rehearsal {
  bool on = false;
  std::size_t op[SLOTS] = {}, part[SLOTS] = {};
};
thread_local Rehearsal rehearsal;

}  // namespace

void set_threads(int count) { threads = count < 1 ? 1 : count; }
int get_threads() { return threads; }

void run_parts(long parts, Call call, const void* body) {
  (void)registered;
  if (rehearsal.on) {
    const bool outer = std::exchange(in_part, true);
    if (parts > 0) call(body, 0, 0);
    in_part = outer;
    return;
  }
  Pool& p = *pool;
  const long helpers = (parts < threads ? parts : long(threads)) - 1;
  std::unique_lock<std::mutex> mine(p.job, std::defer_lock);
  if (helpers <= 0 || in_part || !mine.try_lock()) {
    for (long part = 0; part < parts; part++) call(body, part, 0);
    return;
  }
  {
    const std::lock_guard<std::mutex> hold(p.lock);
    for (; p.started < helpers; p.started++) std::thread(work, &p, p.started + 1).detach();
    p.number++;
    p.call = call, p.body = body, p.parts = parts, p.next = 0;
    p.limit = int(helpers), p.open = true, p.trouble = nullptr;
  }
  p.wake.notify_all();
  take_parts(p, 0);
  wait_a_moment([&] { return p.inside == 0; });
  std::unique_lock<std::mutex> hold(p.lock);
  p.open = false;  // a worker that did not wake up in time is not waited for
  p.idle.wait(hold, [&] { return p.inside == 0; });
  if (p.trouble) std::rethrow_exception(p.trouble);
}

float* scratch(int slot, std::size_t count) {
  Buffer& buffer = buffers[slot];
  const std::size_t bytes = (count * sizeof(float) + 63) / 64 * 64;
  if (rehearsal.on) {
    std::size_t& most = (in_part ? rehearsal.part : rehearsal.op)[slot];
    most = std::max(most, bytes);
  }
  if (buffer.bytes < bytes) {
    buffer.drop();
    buffer.data = static_cast<float*>(std::aligned_alloc(64, bytes));
    if (!buffer.data) throw std::bad_alloc();
    held += buffer.bytes = bytes;
  }
  return buffer.data;
}

std::size_t scratch_bytes() { return held; }

std::size_t rehearse(bool on) {
  std::size_t sum = 0;
  for (int i = 0; i < SLOTS; i++) {
    const std::size_t part = rehearsal.part[i];
    sum += std::max(rehearsal.op[i], part) + std::size_t(threads - 1) * part;
  }
  rehearsal = {};
  rehearsal.on = on, in_part = false;
  return sum;
}

}  // namespace unetcu
