// simt.h: the CUDA dialect of C++ for an ordinary compiler. Put before the text of a .cu file, it
// makes of each kernel a function that the SIMT runtime calls once for every thread.
#pragma once
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <tuple>
#include <type_traits>
#include <utility>

#include "api.h"

#define SIMT_HOST 1  // ptx.cuh: host bodies in place of inline assembly
#define __global__
#define __device__
#define __host__
#define __constant__
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
// A block never leaves its OS thread: one variable per OS thread is one per block.
#define __shared__ thread_local

namespace simt {
// A parameter's type as a letter; the same letters as NumPy's dtype.char, for 64 bits 'q' and 'Q'.
template <class T>
struct Type;
#define SIMT_TYPE(T, LETTER) \
  template <>                \
  struct Type<T> {           \
    static constexpr char letter = LETTER; \
  };
SIMT_TYPE(float, 'f') SIMT_TYPE(double, 'd') SIMT_TYPE(int, 'i') SIMT_TYPE(unsigned, 'I')
SIMT_TYPE(signed char, 'b') SIMT_TYPE(unsigned char, 'B') SIMT_TYPE(short, 'h')
SIMT_TYPE(unsigned short, 'H') SIMT_TYPE(long long, 'q') SIMT_TYPE(unsigned long long, 'Q')
SIMT_TYPE(TensorMap, 'M')
#undef SIMT_TYPE

template <class P>
struct Passing {
  static constexpr char letter = 'v', type = Type<std::remove_cv_t<P>>::letter;
};
template <class T>
struct Passing<T*> {
  static constexpr char letter = std::is_const_v<T> ? 'r' : 'w';
  static constexpr char type = Type<std::remove_cv_t<T>>::letter;
};

// The uninstrumented step between the runtime and a kernel.
template <auto KERNEL>
struct Entry;
template <class... P, void (*KERNEL)(P...)>
struct Entry<KERNEL> {
  static constexpr char types[] = {Passing<std::remove_cv_t<P>>::type..., 0};
  static constexpr char passing[] = {Passing<std::remove_cv_t<P>>::letter..., 0};
  template <size_t... I>
  __attribute__((no_sanitize("thread"))) static void call(void** a, std::index_sequence<I...>) {
    KERNEL(*static_cast<std::remove_cv_t<P>*>(a[I])...);
  }
  __attribute__((no_sanitize("thread"))) static void run(void** a) {
    call(a, std::index_sequence_for<P...>{});
  }
};
}  // namespace simt

#define SIMT_KERNEL(name) \
  ::simt::Kernel { #name, ::simt::Entry<name>::types, ::simt::Entry<name>::passing, \
                   ::simt::Entry<name>::run }
#ifdef __AVX2__
#define SIMT_AVX2 true
#else
#define SIMT_AVX2 false
#endif
#define SIMT_MODULE(...)                                                               \
  static thread_local char simt_anchor_byte;                                           \
  static char* simt_anchor() { return &simt_anchor_byte; }                             \
  static const ::simt::Kernel simt_kernels[] = {__VA_ARGS__};                          \
  extern "C" __attribute__((visibility("default"))) const ::simt::ModuleTable simt_module; \
  const ::simt::ModuleTable simt_module = {                                            \
      simt_kernels, sizeof simt_kernels / sizeof *simt_kernels, SIMT_AVX2, simt_anchor};

#define threadIdx (::simt::thread_index())
#define blockIdx (::simt::block_index())
#define blockDim (::simt::block_size())
#define gridDim (::simt::grid_size())
constexpr int warpSize = 32;

// Where a function was called: default arguments are evaluated there.
#define SIMT_PLACE const char *file = __builtin_FILE(), int line = __builtin_LINE()
#define SIMT_HERE (::simt::Place{file, line})
#define SIMT_DEVICE static inline __attribute__((always_inline, unused))

SIMT_DEVICE void __syncthreads(SIMT_PLACE) {
  simt::block_barrier("__syncthreads", true, SIMT_HERE);
}
SIMT_DEVICE int __syncthreads_count(int predicate, SIMT_PLACE) {
  return simt::block_barrier("__syncthreads_count", predicate != 0, SIMT_HERE).yes;
}
SIMT_DEVICE int __syncthreads_and(int predicate, SIMT_PLACE) {
  const simt::Votes votes = simt::block_barrier("__syncthreads_and", predicate != 0, SIMT_HERE);
  return votes.yes == votes.all;
}
SIMT_DEVICE int __syncthreads_or(int predicate, SIMT_PLACE) {
  return simt::block_barrier("__syncthreads_or", predicate != 0, SIMT_HERE).yes != 0;
}
SIMT_DEVICE void __syncwarp(unsigned mask = 0xffffffffu, SIMT_PLACE) {
  simt::warp_barrier(mask, SIMT_HERE);
}
SIMT_DEVICE void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
SIMT_DEVICE void __threadfence_block() {}  // a block's threads take turns on one OS thread

SIMT_DEVICE unsigned __ballot_sync(unsigned mask, int predicate, SIMT_PLACE) {
  return simt::warp_vote("__ballot_sync", mask, predicate != 0, SIMT_HERE);
}
SIMT_DEVICE int __any_sync(unsigned mask, int predicate, SIMT_PLACE) {
  return simt::warp_vote("__any_sync", mask, predicate != 0, SIMT_HERE) != 0;
}
SIMT_DEVICE int __all_sync(unsigned mask, int predicate, SIMT_PLACE) {
  return simt::warp_vote("__all_sync", mask, predicate == 0, SIMT_HERE) == 0;
}

namespace simt {
template <class T>
SIMT_DEVICE T shuffled(Shuffle kind, unsigned mask, T value, int operand, int width, Place place) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 4 or 8 bytes");
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof(T));
  bits = warp_shuffle(kind, mask, bits, operand, width, place);
  memcpy(static_cast<void*>(&value), &bits, sizeof(T));
  return value;
}
}  // namespace simt
#define SIMT_SHUFFLE(NAME, KIND, OPERAND)                                                    \
  template <class T>                                                                         \
  SIMT_DEVICE T NAME(unsigned mask, T value, OPERAND by, int width = 32, SIMT_PLACE) {       \
    return simt::shuffled(simt::Shuffle::KIND, mask, value, by, width, SIMT_HERE);           \
  }
SIMT_SHUFFLE(__shfl_sync, INDEX, int)
SIMT_SHUFFLE(__shfl_up_sync, UP, unsigned)
SIMT_SHUFFLE(__shfl_down_sync, DOWN, unsigned)
SIMT_SHUFFLE(__shfl_xor_sync, XOR, int)
#undef SIMT_SHUFFLE

// Atomics, of integers only: the order of float additions would change results from run to run.
#define SIMT_ATOMIC(NAME, CHANGED)                                                        \
  template <class T, class = std::enable_if_t<std::is_integral_v<T>>>                     \
  SIMT_DEVICE T NAME(T* at, std::common_type_t<T> by) {                                   \
    T old = __atomic_load_n(at, __ATOMIC_RELAXED);                                        \
    while (!__atomic_compare_exchange_n(at, &old, static_cast<T>(CHANGED), false,         \
                                        __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {            \
    }                                                                                     \
    return old;                                                                           \
  }
SIMT_ATOMIC(atomicAdd, old + by)
SIMT_ATOMIC(atomicSub, old - by)
SIMT_ATOMIC(atomicMin, old < by ? old : by)
SIMT_ATOMIC(atomicMax, old > by ? old : by)
SIMT_ATOMIC(atomicAnd, old & by)
SIMT_ATOMIC(atomicOr, old | by)
SIMT_ATOMIC(atomicXor, old ^ by)
SIMT_ATOMIC(atomicExch, by)
SIMT_ATOMIC(atomicInc, old >= by ? 0 : old + 1)
SIMT_ATOMIC(atomicDec, old == 0 || old > by ? by : old - 1)
#undef SIMT_ATOMIC
template <class T, class = std::enable_if_t<std::is_integral_v<T>>>
SIMT_DEVICE T atomicCAS(T* at, std::common_type_t<T> compare, std::common_type_t<T> value) {
  T old = compare;
  __atomic_compare_exchange_n(at, &old, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  return old;
}

#ifdef SIMT_PROFILE  // the kernel's own floating-point numbers count what is done with them
#include "counted.h"
namespace simt {
template <class T>
struct Type<Counted<T>> : Type<T> {};
}  // namespace simt
#define float ::simt::Counted<float>
#define double ::simt::Counted<double>
#endif

// Two modules may have kernels of the same name: none of what follows is seen outside its own.
#pragma GCC visibility push(hidden)
#include "numbers.h"
