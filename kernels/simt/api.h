// api.h: what a compiled kernel asks of the runtime, and what it tells about itself.
//
// Kernels are compiled against simt.h, which words these calls as CUDA does. Calls that may wait
// carry the place in the .cu file, for reports.
#pragma once
#include <stddef.h>
#include <stdint.h>

#define SIMT_API __attribute__((visibility("default")))

struct uint3 {
  unsigned x, y, z;
};

namespace simt {
struct Place {
  const char* file;
  int line;
};

// The running thread. Constant while a thread runs, so a compiler may ask once.
SIMT_API uint3 thread_index() noexcept __attribute__((const));
SIMT_API uint3 block_index() noexcept __attribute__((const));
SIMT_API uint3 block_size() noexcept __attribute__((const));
SIMT_API uint3 grid_size() noexcept __attribute__((const));

// Ends the launch with an error that names kernel, block and thread. For the runtime's own use and
// for host bodies of instructions.
[[noreturn]] SIMT_API void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

// The bytes asked for at launch, aligned to 1024.
SIMT_API void* dynamic_shared() noexcept;

// __syncthreads, alone or with a vote: how many threads came, how many with `mine`.
struct Votes {
  unsigned all, yes;
};
SIMT_API Votes block_barrier(const char* what, bool mine, Place place);

// Warp collectives. Every lane of the mask that has not ended comes; `what` is the name to report.
SIMT_API void warp_barrier(unsigned mask, Place place);
SIMT_API uint32_t warp_vote(const char* what, unsigned mask, bool mine, Place place);
enum class Shuffle { INDEX, UP, DOWN, XOR };
SIMT_API uint64_t warp_shuffle(Shuffle kind, unsigned mask, uint64_t mine, int operand, int width,
                               Place place);

// Tensor cores: fragments as the PTX ISA lays them out over the 32 lanes; d: four floats.
SIMT_API void ldmatrix(unsigned* out, int matrices, bool transposed, const void* row, Place place);
enum class Half { BF16, F16 };
SIMT_API void mma_16x8x16(void* d, const unsigned* a, const unsigned* b, Half format, Place place);
SIMT_API void mma_16x8x8_tf32(void* d, const unsigned* a, const unsigned* b, Place place);

// cp.async: the target is poison from here on, and holds the data behind the wait that covers it.
SIMT_API void copy_async(void* shared, const void* global, int bytes, int valid, Place place);
SIMT_API void copy_commit();
SIMT_API void copy_wait(int keep);

// How copies of boxes see an array of 16-bit numbers: up to four sizes, the first fastest, the bytes
// from one to the next of the others, and the box that is copied at once. As large as a GPU's own.
struct alignas(64) TensorMap {
  const char* base;
  int rank, box[4], sizes[4];
  long long strides[4];  // in bytes; strides[0] is 2
};
static_assert(sizeof(TensorMap) == 128, "the size of CUtensorMap");

// mbarrier: arrivals, and the bytes of copies told to it, end a phase. Parities: 0 1 0 1 ...
SIMT_API void mbarrier_init(void* barrier, unsigned arrivals, Place place);
SIMT_API void mbarrier_arrive(void* barrier, unsigned expected_bytes, Place place);
SIMT_API void mbarrier_wait(void* barrier, unsigned parity, Place place);
// A box whose first element is `at`, into rows of 128 bytes, swizzled; zeros outside the sizes. The
// target is poison until somebody waits for the phase of the barrier that this copy belongs to.
SIMT_API void copy_box(void* shared, const TensorMap& map, void* barrier, const int* at,
                       int rank, Place place);

// wgmma, the product of a warpgroup: 64 rows by `columns`, 16 deep, of 16-bit numbers in shared
// memory, whose places descriptors tell; d: the thread's columns / 2 sums. They are poison from here
// on, and right behind the wait that covers it; `turned`: rows of A (columns of B) are fastest.
SIMT_API unsigned shared_offset(const void* address);  // in dynamic shared memory
SIMT_API void wgmma(void* d, int columns, uint64_t a, uint64_t b, Half format, bool a_turned,
                    bool b_turned, Place place);
SIMT_API void wgmma_commit();
SIMT_API void wgmma_wait(int keep, Place place);

// What a kernel module exports, as `simt_module`.
struct Kernel {
  const char* name;
  const char* types;       // of each parameter, a letter: see Type in simt.h
  const char* passing;     // of each: 'v' by value, 'r' pointer to const, 'w' pointer
  void (*run)(void** arguments);
};
struct ModuleTable {
  const Kernel* kernels;
  int count;
  bool needs_avx2;  // and FMA and F16C
  char* (*anchor)();  // where one thread-local byte lies: __shared__ variables are beside it
};
}  // namespace simt
