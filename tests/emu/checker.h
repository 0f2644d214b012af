// checker.h: what the scheduler tells the checker. check_*.cpp implement it by CUDA's rules for the check flavor;
// count_blocks.cpp counts, for the count flavor; unchecked.cpp, for the others, only allocates.
//
// In the check flavor the compiler's -fsanitize=thread reports every memory access of a kernel to the emulator's hooks
// (there is no libtsan). Every 4 bytes of device memory have a shadow that knows what is allocated, what was written,
// and who accessed it last. An access is an error if it is out of bounds, or reads what was never written (a copy to
// the host may do so too), or races: another thread accessed the same bytes, one of the two wrote, not both were
// atomic, and no rule orders them. The rules, within a launch:
//   - __syncthreads orders the block;
//   - __syncwarp(mask) orders the lanes in its mask; shuffles and votes order nothing;
//   - write; fence; atomic, then in the other thread: atomic on that address; fence; read. Both fences and both atomics
//     must reach: __threadfence_block and atomics named _block count between threads of one block only, and atomics
//     named _block race with those of other blocks;
//   - grid_barrier orders the grid; it needs a cooperative launch, and every thread of the grid;
//   - cluster_barrier orders the cluster. Another block's shared memory may be accessed after the first such barrier,
//     and every access must be ordered before that block's end;
//   - an asynchronous copy reads and writes at any moment until its thread's __pipeline_wait_prior: until then, nothing
//     that comes after its start is ordered with it, not even the thread's own accesses. From then on it counts as that
//     thread's access at its wait. To exit without having waited for a copy is an error.
// Between launches, memsets and copies by the host ("works"):
//   - a work comes after the one before it in its stream, after all that this one comes after, and after what the host
//     and the stream (by an event) have waited for. The default stream and blocking streams come after one another.
//   - A programmatic launch, at first, comes after no more than what its predecessor came after at first. In threads
//     that have called wait_for_predecessor, and in those that barriers or fences order after them, it also comes after
//     the predecessor. trigger_dependents changes nothing.
//   - What comes after a programmatic launch comes after its predecessor only if at least one of its threads has
//     waited. CUDA promises less of a chain of launches than a stream does, and this is all that holds in a captured
//     graph too. What the host waits for is the whole stream. cudaMemcpy waits where it copies to the host, and not to
//     a device.
// Not seen: memcpy and memset calls inside a kernel, which the compiler does not report.
#pragma once

#include "emu/scheduler.h"

namespace emu {

enum class Memory { kGlobal, kShared };

// Poisoned memory, or nullptr when there is none left.
void* allocate(std::size_t bytes, std::size_t alignment, Memory kind);
void release(void* memory, std::size_t bytes, Memory kind);

void checker_restart();

// ---- works, and what they come after ------------------------------------------------------------------------------

void order_begin_work(cudaStream_t stream, bool programmatic);
void order_end_work();
void order_host_access(const void* memory, std::size_t bytes, bool writes, const char* function);  // by the work

void order_new_stream(cudaStream_t stream, bool blocking);
void order_record(cudaEvent_t event, cudaStream_t stream);
void order_stream_waits(cudaStream_t stream, cudaEvent_t event);
void order_host_waits(cudaEvent_t event);
void order_host_waits(cudaStream_t stream);
void order_host_waits_for_all();

// ---- within a launch -----------------------------------------------------------------------------------------------

void order_begin_grid(std::size_t blocks);
void order_begin_block(Block& block);
void order_end_block(Block& block);
void order_block_barrier(Block& block);
void order_cluster_barrier(const std::vector<Block*>& blocks);
void order_grid_barrier();
void order_warp(Block& block, unsigned warp, unsigned lanes);
void order_atomic(void* address, int bytes, Scope scope, void* caller);
void order_fence(Scope scope);
void order_wait_for_predecessor();
void order_begin_copy(const Copy& copy);
void order_end_copy(const Copy& copy);
void order_keep_copy(const Copy& copy);  // still in flight, though one of its thread with bytes in common has ended

inline unsigned char poison_byte() { return options.seed % 2 == 1 ? 0xFF : 0xCD; }  // 0xFFFFFFFF is a NaN

}  // namespace emu
