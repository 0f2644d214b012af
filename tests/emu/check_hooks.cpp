// check_hooks.cpp: the hooks of the check flavor.
#include <cstddef>
#include <cstdint>

#include "emu/access_hooks.h"
#include "emu/check_memory.h"
#include "emu/check_order.h"

namespace {

void on_access(const void* address, std::size_t bytes, emu::AccessKind kind, const void* caller) {
  if (!emu::in_kernel) return;
  const emu::OutsideKernel outside;
  const bool device_memory = emu::check_access(address, static_cast<int>(bytes), kind, caller);
  // Never at private memory, which the update of an atomic uses.
  if (device_memory && emu::options.preempt > 0 && emu::random_below(emu::options.preempt) == 0) emu::yield();
}

}  // namespace

EMU_ACCESS_HOOKS(on_access, on_access, emu::AccessKind::kRead, emu::AccessKind::kWrite)

extern "C" {

void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}

}  // extern "C"
