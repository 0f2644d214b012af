// count_hooks.h: what the hooks of instrumented code record of the current thread.
#pragma once

#include <cstddef>

#include "emu/counts.h"

namespace emu {

void record(const void* address, std::size_t bytes, Use use, const void* code);
void record_basic_block(const void* code);
void record_call(const void* call_site);
void record_return();

}  // namespace emu
