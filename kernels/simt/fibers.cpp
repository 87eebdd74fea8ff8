// fibers.cpp: stacks of their own for the threads of a block, and how to go from one to another.
//
// A context is the stack pointer of a fiber that does not run; all else it needs lies on its stack.
#include <stdint.h>
#include <sys/mman.h>

#include <new>

#include "runtime.h"

#if defined(SIMT_UCONTEXT) || !(defined(__x86_64__) || defined(__aarch64__))
#include <ucontext.h>

namespace simt {
// Any other machine: right, but each switch is a system call, about 30 times slower.
void switch_context(void** from, void* to) {
  ucontext_t here;  // stays where it is until this fiber goes on
  *from = &here;
  swapcontext(&here, static_cast<ucontext_t*>(to));
}

constexpr size_t CONTEXT = 8192;  // room for a ucontext_t, a multiple of what stacks are aligned to

void* new_context(char* stack, unsigned, void (*entry)()) {
  auto* context = reinterpret_cast<ucontext_t*>(stack);  // at the bottom, out of the way
  getcontext(context);
  context->uc_stack.ss_sp = stack + CONTEXT;
  context->uc_stack.ss_size = STACK_BYTES - CONTEXT;
  context->uc_link = nullptr;
  makecontext(context, entry, 0);
  return context;
}
}  // namespace simt

#else
extern "C" void simt_switch(void** from, void* to) __asm__("simt_switch");

// Registers that a function must preserve go onto the stack; the rest the caller has saved.
#if defined(__x86_64__)
asm(R"(
.text
.globl simt_switch
simt_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  popq %rcx
  jmp *%rcx
)");
namespace simt {
static void* first_frame(char* top, void (*entry)()) {
  void** sp = reinterpret_cast<void**>(top);
  *--sp = nullptr;  // the return address of `entry`: its stack is 8 off a multiple of 16
  *--sp = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--sp = nullptr;
  return sp;
}
}  // namespace simt
#else
asm(R"(
.text
.p2align 2
.globl simt_switch
simt_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
)");
namespace simt {
static void* first_frame(char* top, void (*entry)()) {
  void** sp = reinterpret_cast<void**>(top) - 20;
  for (int i = 0; i < 20; ++i) sp[i] = nullptr;
  sp[11] = reinterpret_cast<void*>(entry);  // x30, where `ret` goes
  return sp;
}
}  // namespace simt
#endif

namespace simt {
void switch_context(void** from, void* to) { simt_switch(from, to); }

// Tops of stacks differ in their low address bits, or all would fight for the same cache sets.
void* new_context(char* stack, unsigned colour, void (*entry)()) {
  return first_frame(stack + STACK_BYTES - colour % 32 * 192, entry);
}
}  // namespace simt
#endif

namespace simt {
char* take_stack(Worker& worker) {
  if (worker.spare.empty()) {
    void* map = mmap(nullptr, PAGE + STACK_BYTES, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) fail("no memory for the stack of a thread");
    if (mprotect(map, PAGE, PROT_NONE) != 0) fail("a thread's stack cannot be guarded");
    worker.stacks.push_back(static_cast<char*>(map) + PAGE);
    worker.spare.push_back(worker.stacks.back());
  }
  char* stack = worker.spare.back();
  worker.spare.pop_back();
  return stack;
}
}  // namespace simt
