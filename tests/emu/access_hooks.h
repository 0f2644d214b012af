// access_hooks.h: the hooks that code compiled with -fsanitize=thread calls at each access. One file of a flavor
// defines them; there is no libtsan in the program. The names are those of GCC's gcc/sanitizer.def.
#pragma once

#define EMU_ACCESS_HOOK(name, bytes, on_access, kind) \
  extern "C" void name(void* address) { on_access(address, bytes, kind, __builtin_return_address(0)); }

#define EMU_ACCESS_HOOKS_OF(bytes, on_access, read, write)                \
  EMU_ACCESS_HOOK(__tsan_read##bytes, bytes, on_access, read)             \
  EMU_ACCESS_HOOK(__tsan_write##bytes, bytes, on_access, write)           \
  EMU_ACCESS_HOOK(__tsan_unaligned_read##bytes, bytes, on_access, read)   \
  EMU_ACCESS_HOOK(__tsan_unaligned_write##bytes, bytes, on_access, write) \
  EMU_ACCESS_HOOK(__tsan_volatile_read##bytes, bytes, on_access, read)    \
  EMU_ACCESS_HOOK(__tsan_volatile_write##bytes, bytes, on_access, write)

// Each calls on_access(address, bytes, read or write, return address); those for ranges, of any size, call on_range.
#define EMU_ACCESS_HOOKS(on_access, on_range, read, write)               \
  EMU_ACCESS_HOOKS_OF(1, on_access, read, write)                         \
  EMU_ACCESS_HOOKS_OF(2, on_access, read, write)                         \
  EMU_ACCESS_HOOKS_OF(4, on_access, read, write)                         \
  EMU_ACCESS_HOOKS_OF(8, on_access, read, write)                         \
  EMU_ACCESS_HOOKS_OF(16, on_access, read, write)                        \
  extern "C" void __tsan_read_range(void* address, std::size_t bytes) {  \
    on_range(address, bytes, read, __builtin_return_address(0));         \
  }                                                                      \
  extern "C" void __tsan_write_range(void* address, std::size_t bytes) { \
    on_range(address, bytes, write, __builtin_return_address(0));        \
  }                                                                      \
  extern "C" void __tsan_init() {}                                       \
  extern "C" void __tsan_vptr_update(void**, void*) {}                   \
  extern "C" void __tsan_vptr_read(void**) {}
