// fiber.cpp: switches fibers by a few instructions on x86-64, by ucontext elsewhere. AddressSanitizer is told of every
// switch.
#include "emu/fiber.h"

#include <sys/mman.h>

#include <new>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <pthread.h>
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if !defined(__x86_64__) || defined(EMU_UCONTEXT)
#define EMU_USES_UCONTEXT 1
#include <ucontext.h>
#endif

namespace emu {
namespace {

std::vector<char*> free_stacks;

char* new_stack() {
  constexpr std::size_t kGuardBytes = 4096;
  void* memory = mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  mprotect(memory, kGuardBytes, PROT_NONE);
  return static_cast<char*>(memory) + kGuardBytes;
}

}  // namespace

#ifdef EMU_USES_UCONTEXT

// The stack pointer of a fiber that is switched out is the address of its saved context.
static void switch_stack(void** save, void* load) {
  ucontext_t context;
  *save = &context;
  swapcontext(&context, static_cast<ucontext_t*>(load));
}

static void* first_frame(char* stack, void (*entry)()) {
  auto* context = new (stack) ucontext_t;
  getcontext(context);
  context->uc_stack.ss_sp = stack + sizeof *context;
  context->uc_stack.ss_size = kStackBytes - sizeof *context;
  context->uc_link = nullptr;
  makecontext(context, entry, 0);
  return context;
}

#else

// Saves what a called function must preserve, changes stacks, restores it and returns into the other stack's caller.
extern "C" __attribute__((visibility("hidden"))) void emu_switch_stack(void** save, void* load);
asm(R"(
  .text
  .globl emu_switch_stack
  .hidden emu_switch_stack
  .type emu_switch_stack, @function
emu_switch_stack:
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
  ret
  .size emu_switch_stack, .-emu_switch_stack
)");

static void switch_stack(void** save, void* load) { emu_switch_stack(save, load); }

// As if entry had been interrupted before its first instruction: six registers, and entry as the return address. The
// word above it keeps the stack aligned as after a call.
static void* first_frame(char* stack, void (*entry)()) {
  constexpr int kSavedRegisters = 6;
  void** top = reinterpret_cast<void**>(stack + kStackBytes);
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < kSavedRegisters; ++i) *--top = nullptr;
  return top;
}

#endif

Fiber caller_fiber() {
  Fiber fiber;
#if defined(__SANITIZE_ADDRESS__)
  pthread_attr_t attributes;
  pthread_getattr_np(pthread_self(), &attributes);
  void* lowest = nullptr;
  pthread_attr_getstack(&attributes, &lowest, &fiber.stack_bytes);
  pthread_attr_destroy(&attributes);
  fiber.stack = static_cast<char*>(lowest);
#endif
  return fiber;
}

void start_fiber(Fiber& fiber, void (*entry)()) {
  if (free_stacks.empty()) free_stacks.push_back(new_stack());
  fiber.stack = free_stacks.back();
  fiber.stack_bytes = kStackBytes;
  free_stacks.pop_back();
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(fiber.stack, kStackBytes);  // a kernel that was abandoned here left its red zones
#endif
  fiber.stack_pointer = first_frame(fiber.stack, entry);
}

void release_stack(Fiber& fiber) {
  free_stacks.push_back(fiber.stack);
  fiber.stack = nullptr;
}

void switch_fiber(Fiber& from, const Fiber& to) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&from.fake_stack, to.stack, to.stack_bytes);
  switch_stack(&from.stack_pointer, to.stack_pointer);
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#else
  switch_stack(&from.stack_pointer, to.stack_pointer);
#endif
}

void leave_fiber(const Fiber& to) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(nullptr, to.stack, to.stack_bytes);
#endif
  void* never_used = nullptr;
  switch_stack(&never_used, to.stack_pointer);
  __builtin_unreachable();
}

void fiber_entered() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
}

}  // namespace emu
