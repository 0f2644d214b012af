// check_hooks.cpp: what code compiled with -fsanitize=thread calls. There is no libtsan in the program.
// The names and meanings are those of GCC's gcc/sanitizer.def.
#include <cstddef>
#include <cstdint>

#include "emu/check_memory.h"
#include "emu/check_order.h"

namespace {

void on_access(const void* address, int bytes, emu::AccessKind kind, const void* caller) {
  if (!emu::in_kernel) return;
  const emu::OutsideKernel outside;
  const bool device_memory = emu::check_access(address, bytes, kind, caller);
  // Never at private memory, which the update of an atomic uses.
  if (device_memory && emu::options.preempt > 0 && emu::random_below(emu::options.preempt) == 0) emu::yield();
}

}  // namespace

#define EMU_HOOK(name, bytes, kind) \
  extern "C" void name(void* address) { on_access(address, bytes, emu::AccessKind::kind, __builtin_return_address(0)); }

#define EMU_HOOKS(bytes)                                 \
  EMU_HOOK(__tsan_read##bytes, bytes, kRead)             \
  EMU_HOOK(__tsan_write##bytes, bytes, kWrite)           \
  EMU_HOOK(__tsan_unaligned_read##bytes, bytes, kRead)   \
  EMU_HOOK(__tsan_unaligned_write##bytes, bytes, kWrite) \
  EMU_HOOK(__tsan_volatile_read##bytes, bytes, kRead)    \
  EMU_HOOK(__tsan_volatile_write##bytes, bytes, kWrite)

EMU_HOOKS(1)
EMU_HOOKS(2)
EMU_HOOKS(4)
EMU_HOOKS(8)
EMU_HOOKS(16)

extern "C" {

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}

void __tsan_read_range(void* address, size_t bytes) {
  on_access(address, static_cast<int>(bytes), emu::AccessKind::kRead, __builtin_return_address(0));
}

void __tsan_write_range(void* address, size_t bytes) {
  on_access(address, static_cast<int>(bytes), emu::AccessKind::kWrite, __builtin_return_address(0));
}

}  // extern "C"
