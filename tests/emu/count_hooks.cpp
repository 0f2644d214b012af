// count_hooks.cpp: what code compiled with -fsanitize=thread -fsanitize-coverage=trace-pc calls, in the count flavour.
// There is no libtsan in the program. The names and meanings are those of GCC's gcc/sanitizer.def.
#include "emu/count_hooks.h"

#include "emu/scheduler.h"

namespace {

// A struct of another size is accessed a word at a time, as far as the hook knows.
void record_words(const void* address, std::size_t bytes, emu::Use use, const void* code) {
  if (!emu::in_kernel) return;
  const emu::OutsideKernel outside;
  const char* byte = static_cast<const char*>(address);
  constexpr std::size_t kWord = 4;
  for (; bytes >= kWord; bytes -= kWord, byte += kWord) emu::record(byte, kWord, use, code);
  for (; bytes > 0; --bytes, ++byte) emu::record(byte, 1, use, code);
}

}  // namespace

#define EMU_HOOK(name, bytes, use)                                           \
  extern "C" void name(void* address) {                                      \
    if (!emu::in_kernel) return;                                             \
    const emu::OutsideKernel outside;                                        \
    emu::record(address, bytes, emu::Use::use, __builtin_return_address(0)); \
  }

#define EMU_HOOKS(bytes)                                 \
  EMU_HOOK(__tsan_read##bytes, bytes, kLoad)             \
  EMU_HOOK(__tsan_write##bytes, bytes, kStore)           \
  EMU_HOOK(__tsan_unaligned_read##bytes, bytes, kLoad)   \
  EMU_HOOK(__tsan_unaligned_write##bytes, bytes, kStore) \
  EMU_HOOK(__tsan_volatile_read##bytes, bytes, kLoad)    \
  EMU_HOOK(__tsan_volatile_write##bytes, bytes, kStore)

EMU_HOOKS(1)
EMU_HOOKS(2)
EMU_HOOKS(4)
EMU_HOOKS(8)
EMU_HOOKS(16)

extern "C" {

void __tsan_init() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}

void __tsan_func_entry(void* call_site) {
  if (!emu::in_kernel) return;
  const emu::OutsideKernel outside;
  emu::record_call(call_site);
}

void __tsan_func_exit() {
  if (!emu::in_kernel) return;
  const emu::OutsideKernel outside;
  emu::record_return();
}

void __sanitizer_cov_trace_pc() {
  if (!emu::in_kernel) return;
  const emu::OutsideKernel outside;
  emu::record_basic_block(__builtin_return_address(0));
}

void __tsan_read_range(void* address, size_t bytes) {
  record_words(address, bytes, emu::Use::kLoad, __builtin_return_address(0));
}

void __tsan_write_range(void* address, size_t bytes) {
  record_words(address, bytes, emu::Use::kStore, __builtin_return_address(0));
}

}  // extern "C"
