// count_blocks.cpp: the count flavor's side of checker.h. It keeps the traces of each block's threads, and counts the
// requests of a warp's lanes when they meet.
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <new>

#include "emu/checker.h"
#include "emu/count_hooks.h"
#include "emu/count_requests.h"

extern "C" __attribute__((visibility("hidden"))) char __ehdr_start;  // of this program or library, by the linker
extern "C" __attribute__((visibility("hidden"))) char _end;

namespace emu {

// The traces of a block. When the block ends, so do they, and its last requests are counted.
struct BlockOrder {
  explicit BlockOrder(const Block& of)
      : block(of), traces(of.threads.size()), paths((of.threads.size() + kWarpSize - 1) / kWarpSize) {}
  struct LongestPath {
    uint64_t loads = 0, shared = 0;
  };

  const Block& block;
  std::vector<ThreadTrace> traces;
  std::vector<LongestPath> paths;  // by warp
  uint64_t barriers = 0;
};

namespace {

constexpr std::size_t kSharedArena = std::size_t(256) << 20;  // of address space

char* shared_arena;
char* shared_unused;
std::map<std::size_t, std::vector<char*>> free_shared;  // by size

void merge_warp(BlockOrder& order, unsigned warp) {
  ThreadTrace* traces[kWarpSize] = {};
  unsigned present = 0;
  for (unsigned lane = 0; lane < kWarpSize && warp * kWarpSize + lane < order.traces.size(); ++lane) {
    traces[lane] = &order.traces[warp * kWarpSize + lane];
    present |= 1u << lane;
  }
  BlockOrder::LongestPath& path = order.paths[warp];
  merge(traces, present, [&path](const Request& request) {
    count(request);
    const Event& event = request.first;
    path.loads += event.space == Space::kGlobal && event.use == Use::kLoad;
    path.shared += event.space == Space::kShared;
  });
}

void merge_block(BlockOrder& order) {
  for (unsigned warp = 0; warp < order.paths.size(); ++warp) merge_warp(order, warp);
}

bool within(const char* byte, const char* begin, std::size_t bytes) { return byte >= begin && byte < begin + bytes; }

// A kernel's own stack, its arguments, and constants in the program.
bool is_private(const char* byte) {
  return within(byte, current->fiber.stack, kStackBytes) ||
         within(byte, static_cast<const char*>(running.kernel.arguments), running.kernel.argument_bytes) ||
         within(byte, &__ehdr_start, static_cast<std::size_t>(&_end - &__ehdr_start));
}

}  // namespace

void record(const void* address, std::size_t bytes, Use use, const void* code) {
  const char* byte = static_cast<const char*>(address);
  if (is_private(byte)) return;
  ThreadTrace& trace = current->block->order->traces[current->number];
  const Space space = within(byte, shared_arena, kSharedArena) ? Space::kShared : Space::kGlobal;
  trace.events.push_back({static_cast<const char*>(code), byte, trace.path, static_cast<uint8_t>(bytes), space, use});
}

void record_basic_block(const void* code) {
  ThreadTrace& trace = current->block->order->traces[current->number];
  trace.events.push_back({static_cast<const char*>(code), nullptr, trace.path, 0, Space::kGlobal, Use::kLoad});
}

void record_call(const void* call_site) {
  ThreadTrace& trace = current->block->order->traces[current->number];
  trace.path = path_into(trace.path, call_site);
}

void record_return() {
  ThreadTrace& trace = current->block->order->traces[current->number];
  trace.path = path_out_of(trace.path);
}

// ---- checker.h ------------------------------------------------------------------------------------------------------

void* allocate(std::size_t bytes, std::size_t alignment, Memory kind) {
  void* memory = nullptr;
  if (kind == Memory::kGlobal) {
    if (posix_memalign(&memory, alignment, std::max<std::size_t>(bytes, 1)) != 0) return nullptr;
  } else if (std::vector<char*>& reusable = free_shared[bytes]; !reusable.empty()) {
    memory = reusable.back();
    reusable.pop_back();
  } else {
    if (shared_arena == nullptr) {
      void* arena =
          mmap(nullptr, kSharedArena, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (arena == MAP_FAILED) throw std::bad_alloc();
      shared_arena = shared_unused = static_cast<char*>(arena);
    }
    memory = shared_unused;
    shared_unused += (bytes + 1023) / 1024 * 1024;
    if (shared_unused > shared_arena + kSharedArena) throw std::bad_alloc();
  }
  std::memset(memory, poison_byte(), bytes);
  return memory;
}

void release(void* memory, std::size_t bytes, Memory kind) {
  if (kind == Memory::kGlobal) {
    std::free(memory);
  } else {
    free_shared[bytes].push_back(static_cast<char*>(memory));
  }
}

void checker_restart() {}
void order_begin_work(cudaStream_t, bool) {}
void order_end_work() {}
void order_host_access(const void*, std::size_t bytes, bool, const char* function) {
  if (std::strcmp(function, "cudaMemset") == 0) count_memset(bytes);
}
void order_new_stream(cudaStream_t, bool) {}
void order_record(cudaEvent_t, cudaStream_t) {}
void order_stream_waits(cudaStream_t, cudaEvent_t) {}
void order_host_waits(cudaEvent_t) {}
void order_host_waits(cudaStream_t) {}
void order_host_waits_for_all() {}

void order_begin_grid(std::size_t) { begin_launch(); }

void order_begin_block(Block& block) { block.order = std::make_shared<BlockOrder>(block); }

void order_end_block(Block& block) {
  BlockOrder& order = *block.order;
  merge_block(order);
  LaunchCounts& launch = last_launch();
  launch.barriers = std::max(launch.barriers, order.barriers);
  launch.static_shared = std::max(launch.static_shared, block.static_bytes);
  for (const BlockOrder::LongestPath& path : order.paths) {
    launch.longest_loads = std::max(launch.longest_loads, path.loads);
    launch.longest_shared = std::max(launch.longest_shared, path.shared);
  }
}

void order_block_barrier(Block& block) {
  merge_block(*block.order);
  block.order->barriers += 1;
}

void order_cluster_barrier(const std::vector<Block*>& blocks) {
  for (Block* block : blocks) order_block_barrier(*block);
}

void order_grid_barrier() {
  for (const auto& block : running.resident) order_block_barrier(*block);
}

// Only where the whole warp meets: what some lanes did before they met alone, they may have done with the others.
void order_warp(Block& block, unsigned warp, unsigned lanes) {
  const std::size_t others = block.threads.size() - std::size_t(warp) * kWarpSize;
  const unsigned all = others >= kWarpSize ? ~0u : (1u << others) - 1;
  if ((all & ~lanes) == 0) merge_warp(*block.order, warp);
}

void order_atomic(void* address, int bytes, Scope, void* caller) {
  record(address, static_cast<std::size_t>(bytes), Use::kAtomic, caller);
}

void order_fence(Scope) {}
void order_wait_for_predecessor() {}

void order_begin_copy(const Copy& copy) {
  if (copy.zeros < copy.bytes) record(copy.from, copy.bytes - copy.zeros, Use::kLoad, copy.caller);
  record(copy.to, copy.bytes, Use::kStore, copy.caller);
}

void order_end_copy(const Copy&) {}
void order_keep_copy(const Copy&) {}

}  // namespace emu
