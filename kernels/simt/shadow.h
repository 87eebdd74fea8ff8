// shadow.h: what the checker remembers of every four bytes of shared memory and of arrays.
#pragma once
#include <stdint.h>

#include <memory>
#include <vector>

namespace simt {
// When a thread did something. Two things of one block are ordered if they were done by the same
// thread, if a __syncthreads lies between, or if a chain of __syncwarps does.
struct Moment {
  uint32_t epoch = 0;  // how many __syncthreads the block had behind it
  uint32_t stamp = 0;  // the number of the thread's last __syncwarp, counted in its warp
  uint32_t pc = 0;     // where, as an index into the checker's table of addresses
  uint16_t thread = 0; // its number in the block
};

// The uses of one word (or byte) that a coming use may conflict with.
struct Cell {
  uint32_t block = 0;         // serial of the block that all below belongs to; 0: nothing yet
  uint32_t earlier_block = 0;  // of arrays: one that has used it before, as `earlier` says; 0: none
  Moment write, read;         // the last ones
  Moment other_read;          // a read since the same __syncthreads by another warp than `read`'s
  Moment earlier;
  uint32_t lanes = 0;         // of the warp of `read`: whose reads no later read is ordered behind
  bool earlier_wrote = false;
  bool written = false;       // `write` means something, likewise `lanes` and `other` for reads
  bool other = false;
  bool atomic = false;        // `write` was atomic; and `others`: so were unordered ones before it
  bool others = false;
  bool in_flight = false;     // the target of the cp.async at `write`
  bool initialised = false;
};

// Cells of a piece of memory: one for each word, or for each of its bytes once they are used apart.
class Shadow {
 public:
  explicit Shadow(size_t bytes);
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
    void operator()(void* p) const;
  };
  std::unique_ptr<Cell[], Free> cells_;       // calloc: pages that are never used cost nothing
  std::unique_ptr<uint32_t[], Free> splits_;  // 0, or 1 + the number of the word's four bytes
  std::vector<Cell> bytes_;
};
}  // namespace simt
