// profiler.h: the class behind profile mode; see profiler.cpp.
#pragma once
#include <string>
#include <unordered_map>
#include <vector>

#include "runtime.h"
#include "variables.h"
#include "watch.h"

namespace simt {
// What one source line costs in one launch: one kind of use of one array.
struct Row {
  std::string file;   // "kernels/conv3x3.cu"
  int line;           // 0 where it is not known; file is then an offset in the module
  std::string caller; // of a function in a .cuh: "kernels/conv3x3.cu:88"; else ""
  std::string kind;   // "global load", "global store", "shared load", "shared store", "flops"
  std::string array;  // the argument, or the __shared__ variable; "" for dynamic shared memory
  uint64_t requests = 0;    // instructions of a warp
  uint64_t lanes = 0;       // threads that took part, summed over them: 32 each at best
  uint64_t bytes = 0;       // asked for by these threads
  uint64_t sectors = 0;     // global: pieces of 32 bytes that a request touches
  uint64_t wavefronts = 0;  // shared: passes that the 32 banks need, ...
  uint64_t ideal = 0;       // ... and how many they would need without conflicts
  uint64_t flops = 0;
};

class Profiler : public Watch {
 public:
  explicit Profiler(const Launch& launch);
  void block_begins(Worker& worker) override;
  void block_ends() override { flush(); }
  void barrier() override { flush(); }
  void warp_barrier(unsigned warp, uint32_t mask) override;
  void arrives(const void*, unsigned) override {}
  void has_waited(const void*, unsigned) override {}
  void box_issued(unsigned) override {}
  void boxes_act(int) override {}
  void access(const void* address, size_t bytes, unsigned how, const void* pc) override;
  void copy_begins(void* target, size_t bytes, const void* source, size_t valid,
                   const void* pc) override;
  void copy_lands(void*, size_t, const void*, size_t, const void*) override {}
  void flops(int operations, const void* pc) override;
  std::vector<Row> rows() const;  // sorted by file, line, caller, kind, array

 private:
  enum Kind { GLOBAL_LOAD, GLOBAL_STORE, SHARED_LOAD, SHARED_STORE, FLOPS };
  struct Request {  // one instruction of a warp, as far as its lanes have come to it
    uint32_t mask = 0, bytes = 0;
    uint64_t at[32];  // by lane: where, in bytes; different pieces of memory are far apart
  };
  // One site for one warp. The n-th time that a lane comes to it belongs to the n-th request.
  struct Lanes {
    uint32_t count[32] = {};
    std::vector<Request> pending;   // not of FLOPS; those before `done` are finished,
    uint32_t first = 0, done = 0;   // and pending[0] is request number `first`
  };
  // An instruction in the machine code, in one kind of use of one array.
  struct Site {
    const void* pc;
    Kind kind;
    int array;           // argument; behind those, __shared__ variable; -1: none
    int operations = 0;  // of FLOPS: what one lane counts
    Row sums = {};
    std::vector<Lanes> warps = {};
  };
  struct Recent {
    uint64_t key = 0;
    uint32_t number = 0;
  };

  std::string name_of(int array) const;
  Site& site(const void* pc, Kind kind, int array);
  void note(Site& site, uint64_t at, size_t bytes);
  void finish(Site& site, const Request& request);
  void flush_warp(Site& site, Lanes& lanes);
  void flush();

  const Launch& launch_;
  const std::vector<Variable>& variables_;
  Worker* worker_ = nullptr;
  std::vector<Site> sites_;
  std::unordered_map<uint64_t, uint32_t> numbers_;  // of sites
  std::vector<Recent> recent_ = std::vector<Recent>(1024);  // part of numbers_, found faster
  std::vector<uint64_t> touched_;                            // by one request: sectors or words
};

std::unique_ptr<Profiler> make_profiler(const Launch& launch);
}  // namespace simt
