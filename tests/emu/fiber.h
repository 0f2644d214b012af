// fiber.h: stacks, and switching between them.
#pragma once

#include <cstddef>

namespace emu {

constexpr std::size_t kStackBytes = 128 * 1024;

struct Fiber {
  char* stack = nullptr;  // lowest address; nullptr until the fiber is started
  std::size_t stack_bytes = 0;
  void* stack_pointer = nullptr;  // while it is switched out
  void* fake_stack = nullptr;     // AddressSanitizer's, while it is switched out
};

// The stack that the caller runs on, as a fiber to come back to.
Fiber caller_fiber();

// Gives the fiber a stack; entry runs on it at the first switch, and must not return.
void start_fiber(Fiber& fiber, void (*entry)());

// Takes the stack of a fiber that will not run again.
void release_stack(Fiber& fiber);

void switch_fiber(Fiber& from, const Fiber& to);

// Switches for good. The stack, which must have been released, may be given to the next fiber that is started.
[[noreturn]] void leave_fiber(const Fiber& to);

// To be called first on a fiber's own stack.
void fiber_entered();

}  // namespace emu
