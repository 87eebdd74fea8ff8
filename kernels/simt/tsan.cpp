// tsan.cpp: the functions that compilers call for `-fsanitize=thread` (and bounds, overflow): ours.
//
// The compiler puts a call before each load and store of a kernel; libtsan is never linked. What
// they are told goes to the running block's Watch. Outside kernels they do nothing.
#include <stdint.h>

#include "runtime.h"
#include "watch.h"

namespace simt {
namespace {
inline void touch(const volatile void* address, size_t bytes, unsigned use, const void* pc) {
  Worker* worker = current;
  if (worker && worker->now && worker->watch)
    worker->watch->access(const_cast<const void*>(address), bytes, use, pc);
}

// What -fsanitize=bounds,... hands over: where it happened.
struct Position {
  const char* file;
  uint32_t line, column;
};

void undefined(const void* data, const char* what) {
  const Position& at = *static_cast<const Position*>(data);
  Worker* worker = current;
  if (worker && worker->now) fail("%s:%u: %s", at.file, at.line, what);
}
}  // namespace
}  // namespace simt

#pragma GCC visibility push(default)
extern "C" {
#define PC __builtin_return_address(0)
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}

#define PLAIN(NAME, USE)                                                                      \
  void __tsan_##NAME##1(void* p) { simt::touch(p, 1, USE, PC); }                              \
  void __tsan_##NAME##2(void* p) { simt::touch(p, 2, USE, PC); }                              \
  void __tsan_##NAME##4(void* p) { simt::touch(p, 4, USE, PC); }                              \
  void __tsan_##NAME##8(void* p) { simt::touch(p, 8, USE, PC); }                              \
  void __tsan_##NAME##16(void* p) { simt::touch(p, 16, USE, PC); }
PLAIN(read, simt::READ)
PLAIN(write, simt::WRITE)
PLAIN(volatile_read, simt::READ)
PLAIN(volatile_write, simt::WRITE)
PLAIN(unaligned_read, simt::READ | simt::UNALIGNED)
PLAIN(unaligned_write, simt::WRITE | simt::UNALIGNED)
void __tsan_read_range(void* p, unsigned long n) {
  if (n) simt::touch(p, n, simt::READ | simt::UNALIGNED, PC);
}
void __tsan_write_range(void* p, unsigned long n) {
  if (n) simt::touch(p, n, simt::WRITE | simt::UNALIGNED, PC);
}
void __tsan_vptr_update(void*, void*) {}
void __tsan_vptr_read(void*) {}

#define CHANGE simt::WRITE | simt::ATOMIC
#define FETCH(BITS, T, NAME)                                                                  \
  T __tsan_atomic##BITS##_##NAME(volatile T* p, T value, int) {                               \
    simt::touch(p, sizeof(T), CHANGE, PC);                                                    \
    return __atomic_##NAME(p, value, __ATOMIC_SEQ_CST);                                       \
  }
#define ATOMIC(BITS, T)                                                                       \
  T __tsan_atomic##BITS##_load(const volatile T* p, int) {                                    \
    simt::touch(p, sizeof(T), simt::READ | simt::ATOMIC, PC);                                 \
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                              \
  }                                                                                           \
  void __tsan_atomic##BITS##_store(volatile T* p, T value, int) {                             \
    simt::touch(p, sizeof(T), CHANGE, PC);                                                    \
    __atomic_store_n(p, value, __ATOMIC_SEQ_CST);                                             \
  }                                                                                           \
  T __tsan_atomic##BITS##_exchange(volatile T* p, T value, int) {                             \
    simt::touch(p, sizeof(T), CHANGE, PC);                                                    \
    return __atomic_exchange_n(p, value, __ATOMIC_SEQ_CST);                                   \
  }                                                                                           \
  int __tsan_atomic##BITS##_compare_exchange_strong(volatile T* p, T* expected, T value, int, \
                                                    int) {                                    \
    simt::touch(p, sizeof(T), CHANGE, PC);                                                    \
    return __atomic_compare_exchange_n(p, expected, value, false, __ATOMIC_SEQ_CST,           \
                                       __ATOMIC_SEQ_CST);                                     \
  }                                                                                           \
  int __tsan_atomic##BITS##_compare_exchange_weak(volatile T* p, T* expected, T value, int,   \
                                                  int) {                                      \
    simt::touch(p, sizeof(T), CHANGE, PC);                                                    \
    return __atomic_compare_exchange_n(p, expected, value, false, __ATOMIC_SEQ_CST,           \
                                       __ATOMIC_SEQ_CST);                                     \
  }                                                                                           \
  T __tsan_atomic##BITS##_compare_exchange_val(volatile T* p, T expected, T value, int, int) { \
    simt::touch(p, sizeof(T), CHANGE, PC);                                                    \
    __atomic_compare_exchange_n(p, &expected, value, false, __ATOMIC_SEQ_CST,                 \
                                __ATOMIC_SEQ_CST);                                            \
    return expected;                                                                          \
  }                                                                                           \
  FETCH(BITS, T, fetch_add)                                                                   \
  FETCH(BITS, T, fetch_sub)                                                                   \
  FETCH(BITS, T, fetch_and)                                                                   \
  FETCH(BITS, T, fetch_or)                                                                    \
  FETCH(BITS, T, fetch_xor)
ATOMIC(8, uint8_t)
ATOMIC(16, uint16_t)
ATOMIC(32, uint32_t)
ATOMIC(64, uint64_t)
void __tsan_atomic_thread_fence(int) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
void __tsan_atomic_signal_fence(int) {}

// Undefined arithmetic: data begins with the position in the source.
#define UNDEFINED(NAME, WHAT) \
  void __ubsan_handle_##NAME(void* data, void*, void*) { simt::undefined(data, WHAT); }
UNDEFINED(add_overflow, "an addition of integers overflows")
UNDEFINED(sub_overflow, "a subtraction of integers overflows")
UNDEFINED(mul_overflow, "a multiplication of integers overflows")
UNDEFINED(divrem_overflow, "a division of integers by zero, or one that overflows")
UNDEFINED(shift_out_of_bounds, "a shift by more bits than there are, or of a sign bit")
void __ubsan_handle_negate_overflow(void* data, void*) {
  simt::undefined(data, "the negative of an integer overflows");
}
void __ubsan_handle_out_of_bounds(void* data, void* index) {
  // data: position, type of the array, type of the index; the name of a type is behind 4 bytes.
  const char* array = *reinterpret_cast<const char* const*>(static_cast<char*>(data) + 16);
  char what[200];
  snprintf(what, sizeof what, "index %lld is outside an array of type %s",
           static_cast<long long>(static_cast<int>(reinterpret_cast<intptr_t>(index))), array + 4);
  simt::undefined(data, what);
}
}
#pragma GCC visibility pop
