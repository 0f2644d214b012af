// unchecked.cpp: the plain and asan flavors' side of checker.h: poisoned memory, and nothing else.
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

void checker_restart() {}
void order_begin_work(cudaStream_t, bool) {}
void order_end_work() {}
void order_host_access(const void*, std::size_t, bool, const char*) {}
void order_new_stream(cudaStream_t, bool) {}
void order_record(cudaEvent_t, cudaStream_t) {}
void order_stream_waits(cudaStream_t, cudaEvent_t) {}
void order_host_waits(cudaEvent_t) {}
void order_host_waits(cudaStream_t) {}
void order_host_waits_for_all() {}
void order_begin_grid(std::size_t) {}
void order_begin_block(Block&) {}
void order_end_block(Block&) {}
void order_block_barrier(Block&) {}
void order_cluster_barrier(const std::vector<Block*>&) {}
void order_grid_barrier() {}
void order_warp(Block&, unsigned, unsigned) {}
void order_atomic(void*, int, Scope, void*) {}
void order_fence(Scope) {}
void order_wait_for_predecessor() {}
void order_begin_copy(const Copy&) {}
void order_end_copy(const Copy&) {}
void order_keep_copy(const Copy&) {}

}  // namespace emu
