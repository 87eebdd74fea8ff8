// checker.h: the class behind checked mode; see checker.cpp.
#pragma once
#include <string>

#include "clocks.h"
#include "runtime.h"
#include "shadow.h"
#include "watch.h"

namespace simt {
class Checker : public Watch {
 public:
  explicit Checker(const Launch& launch);
  void block_begins(Worker& worker) override;
  void block_ends() override {}
  void barrier() override { ++epoch_; }
  void warp_barrier(unsigned warp, uint32_t mask) override;
  void arrives(const void* barrier, unsigned phase) override;
  void has_waited(const void* barrier, unsigned phase) override;
  void box_issued(unsigned barrier) override;
  void boxes_act(int barrier) override { boxes_ = barrier; }
  void access(const void* address, size_t bytes, unsigned how, const void* pc) override;
  void copy_begins(void* target, size_t bytes, const void* source, size_t valid,
                   const void* pc) override;
  void copy_lands(void* target, size_t bytes, const void* source, size_t valid,
                  const void* pc) override;
  void flops(int, const void*) override {}

 private:
  struct Use {  // one load or store
    enum Kind { STATIC, DYNAMIC, ARRAY } kind;
    unsigned how;
    const void* pc;
    const char* address;
    size_t bytes, offset;        // offset in shared memory or in the array
    const Launch::Array* array;  // of ARRAY
  };
  struct Extent {  // arguments that overlap, as one piece of memory
    const char *base, *end;
    bool writable;
    std::unique_ptr<Shadow> shadow;  // where writable
  };

  unsigned actor() const;
  Moment now(const Use& use) const;
  bool ordered(const Moment& then, unsigned thread) const;
  void check(Cell& c, size_t offset, const Use& use);
  void next_block(Cell& c);
  bool behind_writes(const Cell& c) const;
  void remember_write(Cell& c, const Use& use, bool atomic);
  void remember_read(Cell& c, const Use& use);
  void read_of_array(const Use& use);
  const Launch::Array* array_at(const char* p, bool write) const;
  template <class F>
  void each_shared(void* target, size_t bytes, F change);

  // report.cpp: what is wrong, in words. Each of them ends the launch.
  [[noreturn]] void report(const Use& use, size_t offset, const std::string& trouble);
  [[noreturn]] void race(const Use& use, size_t offset, const Moment& other, const char* what,
                         uint32_t block);
  [[noreturn]] void in_flight(const Use& use, size_t offset, const Moment& copy);
  [[noreturn]] void unwritten(const Use& use, size_t offset);
  [[noreturn]] void misaligned(const Use& use);
  [[noreturn]] void outside(const Use& use, size_t size);
  [[noreturn]] void constant(const Use& use);
  [[noreturn]] void nowhere(const Use& use);

  const Launch& launch_;
  Worker* worker_ = nullptr;
  const char* module_ = nullptr;  // where the kernel's machine code lies
  uint32_t serial_ = 0, epoch_ = 0;
  int boxes_ = -1;  // the number of the mbarrier whose copies act; -1: the running thread does
  std::vector<unsigned long long> blocks_;  // the number in the grid of each block, by serial - 1
  Clocks clocks_;
  std::vector<Extent> extents_;
  std::unique_ptr<Shadow> statics_, dynamic_;
};
}  // namespace simt
