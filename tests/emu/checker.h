// checker.h: what the scheduler tells the checker. check_*.cpp implement it by CUDA's rules for the check flavour;
// count_blocks.cpp counts, for the count flavour; unchecked.cpp, for the others, only allocates.
//
// In the check flavour the compiler's -fsanitize=thread reports every memory access of a kernel to hooks of our own
// (there is no libtsan). Every 4 bytes of device memory have a shadow that knows what is allocated, what was written,
// and who accessed it last. An access is an error if it is out of bounds, or reads what was never written (as a copy to
// the host may too), or races: another thread accessed the same bytes, one of the two wrote, not both were atomic, and
// no rule orders them. The rules:
//   - a kernel's end orders everything;
//   - __syncthreads orders the block;
//   - __syncwarp(mask) orders the lanes in its mask; shuffles and votes order nothing;
//   - write; __threadfence(); atomic, then in the other thread: atomic on that address; __threadfence(); read.
// Not seen: memcpy and memset calls inside a kernel, which the compiler does not report.
#pragma once

#include "emu/scheduler.h"

namespace emu {

enum class Memory { kGlobal, kShared };

// Poisoned memory, or nullptr when there is none left.
void* allocate(std::size_t bytes, std::size_t alignment, Memory kind);
void release(void* memory, std::size_t bytes, Memory kind);
void host_wrote(const void* memory, std::size_t bytes);
void host_reads(const void* memory, std::size_t bytes);

void checker_restart();
void order_begin_block(Block& block);
void order_block_barrier(Block& block);
void order_warp(Block& block, unsigned warp, unsigned lanes);
void order_atomic(void* address, int bytes, void* caller);
void order_fence();

inline unsigned char poison_byte() { return options.seed % 2 == 1 ? 0xFF : 0xCD; }  // 0xFFFFFFFF is a NaN

}  // namespace emu
