// faults.cpp: a kernel that touches a page it may not, or divides by zero, ends its launch with an
// error; faults elsewhere stay what they were.
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>

#include "runtime.h"

namespace simt {
namespace {
constexpr int SIGNALS[] = {SIGSEGV, SIGBUS, SIGFPE};
constexpr int COUNT = sizeof SIGNALS / sizeof *SIGNALS;
struct sigaction before[COUNT];  // launches run one at a time

const char* verb(int signal, void* context) {
#if defined(__x86_64__) && defined(__linux__)
  if (signal == SIGSEGV)
    return static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_ERR] & 2 ? "writes" : "reads";
#endif
  static_cast<void>(signal);
  static_cast<void>(context);
  return "touches";
}

struct Nearest {
  const char* p;
  size_t distance = ~size_t{0};
  char text[200] = "";

  // Remembers the piece of memory if none was nearer.
  void consider(const char* begin, const char* end, const char* kind, const char* name) {
    const bool behind = p >= end, before = p < begin;
    const size_t away = behind ? p - end : before ? begin - p : 0;
    if (!begin || away >= distance) return;
    distance = away;
    if (behind || before)
      snprintf(text, sizeof text, "%zu bytes %s %s%s", away, behind ? "past the end of" : "before",
               kind, name);
    else
      snprintf(text, sizeof text, "inside %s%s, which may not be written", kind, name);
  }
};

void explain(Worker& w, int signal, const siginfo_t* info, void* context) {
  if (signal == SIGFPE) fail("divides an integer by zero");
  const char* p = static_cast<const char*>(info->si_addr);
  for (const char* stack : w.stacks)
    if (p >= stack - PAGE && p < stack)
      fail("its local variables need more than the %zu KB of a thread's stack", STACK_BYTES >> 10);
  Nearest nearest{p};
  for (const Launch::Array& a : w.launch->arrays)
    nearest.consider(a.base, a.end, "", a.name.c_str());
  if (w.smem_bytes)
    nearest.consider(w.smem, w.smem + w.smem_bytes, "dynamic shared memory", "");
  if (w.tls_module)
    nearest.consider(w.tls, w.tls + w.tls_bytes, "the __shared__ variables", "");
  if (p < reinterpret_cast<char*>(1 << 16))
    fail("%s through a null pointer (address %p)", verb(signal, context), info->si_addr);
  fail("%s memory it may not: %s", verb(signal, context),
       nearest.distance == ~size_t{0} ? "it has no arrays" : nearest.text);
}

void on_fault(int signal, siginfo_t* info, void* context) {
  if (current && current->now && info->si_code > 0) explain(*current, signal, info, context);
  for (int i = 0; i < COUNT; ++i)  // not ours: it happens again, and goes to whom it belongs
    if (SIGNALS[i] == signal) sigaction(signal, &before[i], nullptr);
  if (info->si_code <= 0) raise(signal);
}
}  // namespace

Faults::Faults() {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;  // it may never return
  for (int i = 0; i < COUNT; ++i) sigaction(SIGNALS[i], &action, &before[i]);
}

Faults::~Faults() {
  for (int i = 0; i < COUNT; ++i) sigaction(SIGNALS[i], &before[i], nullptr);
}

struct SignalStack::Saved {
  stack_t before;
  alignas(16) char memory[1 << 16];
};

SignalStack::SignalStack() : saved_(new Saved) {
  stack_t mine;
  memset(&mine, 0, sizeof mine);
  mine.ss_sp = saved_->memory;
  mine.ss_size = sizeof saved_->memory;
  sigaltstack(&mine, &saved_->before);
}

SignalStack::~SignalStack() { sigaltstack(&saved_->before, nullptr); }
}  // namespace simt
