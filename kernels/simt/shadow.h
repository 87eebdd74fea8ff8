// shadow.h: what the checker remembers of every four bytes of shared memory and of arrays.
#pragma once
#include <stdint.h>
#include <stdlib.h>

#include <memory>
#include <new>
#include <vector>

namespace simt {
// When a thread did something. Two things of one block are ordered if they were done by the same
// thread, if a __syncthreads lies between, or if a chain of __syncwarps and mbarriers does (clocks.h).
struct Moment {
  uint32_t epoch;   // how many __syncthreads the block had behind it
  uint32_t stamp;   // the number of the thread's last event in clocks.h, counted in its warp
  uint32_t pc;      // where: an offset in the module
  uint16_t thread;  // its number in the block, or a copier's (clocks.h)
};

// The uses of one word (or byte) that a coming use may conflict with. All zeros: none.
struct Cell {
  uint32_t block;          // serial of the block that all below belongs to; 0: none
  uint32_t earlier_block;  // of arrays: one that has used it before, as `earlier` says; 0: none
  uint32_t lanes;          // of the warp of `read`: whose reads no later read is ordered behind
  Moment write, read;      // the last ones
  Moment other_read;       // by another thread than `read`, since the same __syncthreads; ...
  Moment earlier;
  bool other;              // ... the last one of another warp: of several, the others are forgotten
  bool written;            // `write` means something; `lanes` says it for reads
  bool earlier_wrote;      // else it has only read
  bool atomic;             // `write` was atomic; so were those before it that it is not ordered
  bool others;             // behind: by other warps, and
  uint32_t atomics;        // by these lanes of its own
  bool in_flight;          // the target of the cp.async at `write`
  bool initialised;        // written at all
};

// Cells of a piece of memory: one for each word, or for each of its bytes once they are used apart.
class Shadow {
 public:
  explicit Shadow(size_t bytes)
      : cells_(zeros<Cell>(bytes / 4 + 1)), splits_(zeros<uint32_t>(bytes / 4 + 1)) {}
  // Calls use(cell, offset of its first byte) for all cells that the bytes [at, at + size) touch.
  template <class F>
  void each(size_t at, size_t size, F use) {
    for (size_t word = at / 4; word * 4 < at + size; ++word) {
      const size_t from = at > word * 4 ? at - word * 4 : 0;
      const size_t to = at + size < word * 4 + 4 ? at + size - word * 4 : 4;
      uint32_t& split = splits_[word];
      if (!split && to - from == 4) {
        use(cells_[word], word * 4);
        continue;
      }
      if (!split) {
        bytes_.insert(bytes_.end(), 4, cells_[word]);
        split = static_cast<uint32_t>(bytes_.size() / 4);
      }
      for (size_t i = from; i < to; ++i) use(bytes_[(split - 1) * 4 + i], word * 4 + i);
    }
  }

 private:
  struct Free {
    void operator()(void* p) const { free(p); }
  };
  template <class T>
  static T* zeros(size_t count) {  // from calloc: pages that are never used cost nothing
    void* memory = calloc(count, sizeof(T));
    if (!memory) throw std::bad_alloc();
    return static_cast<T*>(memory);
  }

  std::unique_ptr<Cell[], Free> cells_;
  std::unique_ptr<uint32_t[], Free> splits_;  // 0, or 1 + the number of the word's four bytes
  std::vector<Cell> bytes_;
};
}  // namespace simt
