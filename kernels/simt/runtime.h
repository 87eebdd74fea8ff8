// runtime.h: the SIMT runtime inside. One worker, an OS thread, runs one block at a time; each of
// the block's CUDA threads is a fiber, which runs until it must wait.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <memory>
#include <string>
#include <vector>

#include "api.h"
#include "watch.h"

namespace simt {
constexpr unsigned WARP = 32, MOST_THREADS = 1024, MOST_WARPS = MOST_THREADS / WARP;
constexpr size_t MOST_SHARED = 227 << 10, STACK_BYTES = 64 << 10, PAGE = 4096;

enum class Order { FORWARD, REVERSE, SHUFFLED };

// One launch, the same for all workers.
struct Launch {
  struct Array {  // an argument that is a pointer
    char *base, *end;
    bool writable;
    std::string name;    // of the parameter
    char type;           // of its elements: see Type in simt.h
    bool uninitialised;  // checked mode: all of it is still as device.empty has filled it (0xFF)
  };
  struct Statics {  // the module's __shared__ variables, which are its thread-local storage
    size_t bytes, align, module;  // module: the dynamic linker's number for it; 0: none
    bool redirected;              // they are found through find_static, so memory is ours
    char* (*anchor)();
  };
  const Kernel* kernel;
  void** arguments;  // a pointer to each
  uint3 grid, block;
  size_t shared;  // bytes of dynamic shared memory
  Statics statics;
  Order order;
  uint64_t seed;
  unsigned workers;  // at most; 1 where `watch` is set
  std::vector<Array> arrays;
  Watch* watch;  // checked and profile mode, else null
};

struct Copy {  // a cp.async that has not landed
  char* target;
  const char* source;
  int bytes, valid;
  unsigned group;
  const void* pc;
};

struct Thread {
  uint3 at;
  unsigned index;         // in the block, x fastest
  unsigned warp_slot, lane_slot;  // its place in the order in which threads take turns
  void* context;          // null until started
  char* stack;            // STACK_BYTES
  bool done;
  const char* what;       // what it waits for, and where
  Place place;
  unsigned groups;        // of copies, committed
  std::vector<Copy> copies;
};

// Lanes that come together for a collective. The last one to come does the work for all.
struct Meeting {
  uint32_t mask, here;  // lanes
  uint32_t slots;       // of those who wait
  const char* what;
  Place place;
  void (*work)(struct Warp&, Meeting&);
};

struct Warp {
  unsigned index, slot;
  uint32_t alive;             // lanes that exist and have not ended
  Meeting meetings[WARP];     // by the lowest lane of their mask
  void* operands[WARP];       // what each lane brings
};

struct Worker {
  const Launch* launch;
  Watch* watch;
  Thread* now;  // the running one; null between blocks
  std::vector<Thread> threads;  // by index
  std::vector<Warp> warps;

  unsigned long long ordinal;  // of the block in the order in which blocks are run
  unsigned long long block_number;  // x fastest
  uint3 block;
  std::string error;

  // Shared memory of the running block. `smem` is what was asked for at launch; `tls` holds the
  // module's __shared__ variables. Both end at a page that faults.
  char *smem = nullptr, *tls = nullptr;
  size_t smem_bytes = 0, tls_bytes = 0;
  size_t tls_module = 0;  // 0 until the block first asks for it
  char *smem_map = nullptr, *tls_map = nullptr;
  size_t tls_capacity = 0;

  // Turns: bit `lane_slot` of ready[warp_slot] is set while the thread could go on.
  uint32_t ready[MOST_WARPS], ready_warps;
  Thread* slots[MOST_WARPS][WARP];

  // __syncthreads
  unsigned live, arrived, yes;
  Votes votes;
  uint32_t waiting[MOST_WARPS];
  const Thread* first;  // to arrive

  void* main_context;
  std::vector<char*> stacks, spare;  // all, and those not in use
};

// The worker that runs on this OS thread; null where none does.
extern thread_local Worker* current __attribute__((tls_model("initial-exec")));

// fibers.cpp
char* take_stack(Worker& worker);
void* new_context(char* stack, unsigned colour, void (*entry)());
void switch_context(void** from, void* to);

// schedule.cpp
void run_threads(Worker& worker);  // a block, from first thread to last
void wait(Worker& worker, const char* what, Place place);  // the running thread, until made ready
void make_ready(Worker& worker, unsigned warp_slot, uint32_t lanes);
void lane_ends(Worker& worker, Thread& thread);  // warp.cpp: meetings may be complete without it

// shared.cpp
void lay_out_shared(Worker& worker);     // for a launch
void poison_shared(Worker& worker);      // for a block
void check_slack(Worker& worker);        // behind a block: nobody wrote past the end
bool in_shared(const Worker& worker, const void* address, size_t bytes);
void release_shared(Worker& worker);
Launch::Statics find_statics(const ModuleTable& table);

inline bool on_stack(const Worker& worker, const void* address) {
  const char* p = static_cast<const char*>(address);
  return p >= worker.now->stack && p < worker.now->stack + STACK_BYTES;
}
// Where dynamic shared memory could lie, whatever the launch has asked for.
inline bool in_dynamic_window(const Worker& worker, const void* address) {
  const char* p = static_cast<const char*>(address);
  return p >= worker.smem_map && p < worker.smem_map + MOST_SHARED + 1024;
}

// launch.cpp: runs all blocks; returns "" or "kernel: block (x,y,z) thread (x,y,z): what".
std::string launch(Launch& launch);

// faults.cpp: while it lives, a fault of a kernel is an error of its launch.
class Faults {
 public:
  Faults();
  ~Faults();
  Faults(const Faults&) = delete;

 private:
  struct Saved;
  std::unique_ptr<Saved> saved_;
};
class SignalStack {  // of this OS thread: a fiber's own may be what has overflowed
 public:
  SignalStack();
  ~SignalStack();
  SignalStack(const SignalStack&) = delete;

 private:
  struct Saved;
  std::unique_ptr<Saved> saved_;
};
}  // namespace simt
