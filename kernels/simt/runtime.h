// runtime.h: the SIMT runtime inside. One worker, an OS thread, runs one block at a time; each of
// the block's CUDA threads is a fiber, which runs until it must wait.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <memory>
#include <new>
#include <string>
#include <vector>

#include "api.h"
#include "watch.h"

namespace simt {
constexpr unsigned WARP = 32, MOST_THREADS = 1024, MOST_WARPS = MOST_THREADS / WARP;
constexpr size_t MOST_SHARED = 227 << 10, STACK_BYTES = 64 << 10;
// What memory is protected by. Elsewhere a page may have 16 or 64 KiB: this is a multiple of all.
#if defined(__x86_64__)
constexpr size_t PAGE = 4096;
#else
constexpr size_t PAGE = 65536;
#endif

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
    bool redirected;              // its code asks us where they lie
    char* (*anchor)();            // the address of one byte of it
    const ModuleTable* table;
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

struct BoxCopy {  // of a box that has not landed
  char* target;
  TensorMap map;
  int at[4];
  unsigned by;  // the thread
  const void* pc;
};
struct Barrier {  // an mbarrier, and what is on its way to it
  const void* address;
  unsigned arrivals, left;  // of a phase; those still to come
  long long bytes;          // still to come
  unsigned phase;           // the number of the one that goes on
  uint32_t waiting[MOST_WARPS];
  std::vector<BoxCopy> copies;
};

struct Product {  // a wgmma that has not been done
  float* d;
  int columns;
  uint64_t a, b;  // descriptors
  Half format;
  bool a_turned, b_turned;
  unsigned group;
  Place place;
  const void* pc;
};
struct Sums {  // of such products, while their place is poison
  float* d;
  std::vector<float> values;
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
  unsigned product_groups;  // committed
  std::vector<Product> products;
  std::vector<Sums> sums;
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
  uint32_t pending;           // meetings where somebody waits
  Meeting meetings[WARP];     // by the lowest lane of their mask
  void* operands[WARP];       // what each lane brings
};

// Memory that ends at a page that faults, and starts behind one.
class SharedMap {
 public:
  SharedMap() = default;
  SharedMap(const SharedMap&) = delete;
  ~SharedMap();
  // `bytes` of it at a multiple of `align`, as far back as possible.
  char* place(size_t bytes, size_t align);
  // Fills what was placed, and what lies beside it, with 0xFF.
  void poison();
  // What lies beside it and should not have changed but has: bytes past its end (or, below 0,
  // before its start); 0 if all is well.
  long trespass() const;
  bool holds(const void* address) const { return base_ && address >= base_ && address < end_; }

 private:
  char *base_ = nullptr, *end_ = nullptr, *placed_ = nullptr;
  size_t bytes_ = 0;
};

struct Worker {
  const Launch* launch = nullptr;
  Watch* watch = nullptr;
  Thread* now = nullptr;  // the running one; null between blocks
  std::vector<Thread> threads;  // by index
  std::vector<Warp> warps;

  unsigned long long block_number;  // of the running block, x fastest
  uint3 block;
  std::string error;

  // Shared memory of the running block. `smem` is what was asked for at launch; `tls` holds the
  // module's __shared__ variables.
  char *smem = nullptr, *tls = nullptr;
  size_t smem_bytes = 0, tls_bytes = 0;
  size_t tls_module = 0;  // 0 until the running block first asks for one of them
  SharedMap smem_map, tls_map;

  struct Shape {  // what threads, warps and slots were made for
    uint3 block;
    Order order;
    uint64_t seed;
    bool operator==(const Shape& o) const {
      return block.x == o.block.x && block.y == o.block.y && block.z == o.block.z &&
             order == o.order && seed == o.seed;
    }
  } shape;

  // Turns: bit `lane_slot` of ready[warp_slot] is set while the thread could go on.
  uint32_t ready[MOST_WARPS], ready_warps;
  Thread* slots[MOST_WARPS][WARP];

  // __syncthreads
  unsigned live, arrived, yes;
  Votes votes;
  uint32_t waiting[MOST_WARPS];
  const Thread* first;  // to arrive

  std::vector<Barrier> barriers;  // mbarriers of the running block

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
void lay_out_shared(Worker& worker);  // for a launch
void poison_shared(Worker& worker);   // for a block
std::string trespass(const Worker& worker);  // behind a block: what was overrun, or ""
bool in_shared(const Worker& worker, const void* address, size_t bytes);

// boxes.cpp
std::string left_behind(const Worker& worker);  // behind a block: a copy that nobody waited for, or ""

Launch::Statics find_statics(const ModuleTable& table);

inline bool on_stack(const Worker& worker, const void* address) {
  const char* p = static_cast<const char*>(address);
  return p >= worker.now->stack && p < worker.now->stack + STACK_BYTES;
}
// Where dynamic shared memory could lie, whatever the launch has asked for.
inline bool in_dynamic_window(const Worker& worker, const void* address) {
  return worker.smem_map.holds(address);
}

// launch.cpp: runs all blocks; returns "" or "kernel: block (x,y,z) thread (x,y,z): what".
std::string launch(const Launch& launch);

// faults.cpp: while it lives, a fault of a kernel is an error of its launch.
class Faults {
 public:
  Faults();
  ~Faults();
  Faults(const Faults&) = delete;
};
class SignalStack {  // for this OS thread: the stack it runs on may be what has overflowed
 public:
  SignalStack();
  ~SignalStack();
  SignalStack(const SignalStack&) = delete;

 private:
  struct Saved;
  std::unique_ptr<Saved> saved_;
};
}  // namespace simt
