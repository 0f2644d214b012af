// count_hooks.cpp: the hooks of the count flavor, whose code is compiled with -fsanitize-coverage=trace-pc too.
#include "emu/count_hooks.h"

#include "emu/access_hooks.h"
#include "emu/scheduler.h"

namespace {

void record_access(const void* address, std::size_t bytes, emu::Use use, const void* code) {
  if (!emu::in_kernel) return;
  const emu::OutsideKernel outside;
  emu::record(address, bytes, use, code);
}

// A struct of another size is accessed one word at a time, as far as the hook knows.
void record_words(const void* address, std::size_t bytes, emu::Use use, const void* code) {
  if (!emu::in_kernel) return;
  const emu::OutsideKernel outside;
  const char* byte = static_cast<const char*>(address);
  constexpr std::size_t kWord = 4;
  for (; bytes >= kWord; bytes -= kWord, byte += kWord) emu::record(byte, kWord, use, code);
  for (; bytes > 0; --bytes, ++byte) emu::record(byte, 1, use, code);
}

}  // namespace

EMU_ACCESS_HOOKS(record_access, record_words, emu::Use::kLoad, emu::Use::kStore)

extern "C" {

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

}  // extern "C"
