// unchecked.cpp: the plain and asan flavours' side of checker.h. Poisoned memory, nothing else.
#include <cstdlib>
#include <cstring>

#include "emu/checker.h"

namespace emu {

void* allocate(std::size_t bytes, std::size_t alignment, Memory) {
  void* memory = nullptr;
  if (posix_memalign(&memory, alignment, bytes == 0 ? 1 : bytes) != 0) return nullptr;
  std::memset(memory, poison_byte(), bytes);
  return memory;
}

void release(void* memory, std::size_t, Memory) { std::free(memory); }

void host_wrote(const void*, std::size_t) {}
void host_reads(const void*, std::size_t) {}
void checker_restart() {}
void order_begin_block(Block&) {}
void order_block_barrier(Block&) {}
void order_warp(Block&, unsigned, unsigned) {}
void order_atomic(void*, int, void*) {}
void order_fence() {}

}  // namespace emu
