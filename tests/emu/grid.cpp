// grid.cpp: how blocks of one launch wait for one another and share memory: cooperative grids and clusters.
#include <algorithm>

#include "emu/checker.h"

namespace emu {
namespace {

constexpr unsigned kLargestCluster = 8;

std::size_t thread_count(dim3 extent) { return std::size_t(extent.x) * extent.y * extent.z; }

Block* resident_block(uint32_t number) {
  for (const auto& block : running.resident) {
    if (block->number == number) return block.get();
  }
  return nullptr;
}

// The number of the static variable that the address lies in; -1 if none.
int static_variable_at(const Block& block, const char* address, std::size_t& offset) {
  const auto taken = shared_memory_of(block);
  for (std::size_t i = 0; i < block.static_shared.size(); ++i) {
    const char* begin = static_cast<const char*>(block.static_shared[i]);
    for (const auto& [memory, bytes] : taken) {
      if (memory != begin || address < begin || address >= begin + bytes) continue;
      offset = static_cast<std::size_t>(address - begin);
      return static_cast<int>(i);
    }
  }
  return -1;
}

}  // namespace

unsigned blocks_of_multiprocessor(unsigned threads, std::size_t dynamic_shared_bytes) {
  const unsigned whole_warps = (threads + kWarpSize - 1) / kWarpSize * kWarpSize;
  const unsigned by_threads = kThreadsOfMultiprocessor / std::max(whole_warps, 1u);
  const std::size_t by_memory = kSharedBytesOfMultiprocessor / (dynamic_shared_bytes + kSharedBytesReserved);
  return std::min({options.blocks_per_multiprocessor, by_threads, static_cast<unsigned>(by_memory)});
}

cudaError_t check_attributes(const LaunchConfig& config) {
  if (config.cluster_size == 0 || config.cluster_size > kLargestCluster) return cudaErrorInvalidClusterSize;
  if (config.cluster_size > 1 && host.architecture < 90) return cudaErrorNotSupported;
  if (config.grid.x % config.cluster_size != 0) return cudaErrorInvalidClusterSize;
  if (!config.cooperative) return cudaSuccess;
  const auto threads = static_cast<unsigned>(thread_count(config.block));
  const std::size_t most =
      std::size_t(blocks_of_multiprocessor(threads, config.dynamic_shared_bytes)) * options.multiprocessors;
  return thread_count(config.grid) <= most ? cudaSuccess : cudaErrorCooperativeLaunchTooLarge;
}

// ---- the grid barrier ----------------------------------------------------------------------------------------------

// A thread that has exited is missed forever: no thread can go on, which is reported as a deadlock.
void grid_barrier(Site site) {
  OutsideKernel outside;
  Thread& me = *current;
  if (!running.config.cooperative) {
    report(format("grid_barrier at %s:%d in a launch that is not cooperative", site.file, site.line));
    abandon_launch();
  }
  me.site = site;
  me.state = State::kAtGridBarrier;
  running.at_grid_barrier += 1;
  if (running.at_grid_barrier < running.block_order.size() * me.block->threads.size()) return wait_until_ready();

  const Thread* first = nullptr;
  for (const auto& block : running.resident) {
    for (const Thread& thread : block->threads) {
      if (!met_at_one_line(first, thread)) return wait_until_ready();
    }
  }
  order_grid_barrier();
  running.at_grid_barrier = 0;
  running.yields_without_progress = 0;
  for (const auto& block : running.resident) {
    for (Thread& thread : block->threads) make_ready(thread);
  }
  wait_until_ready();
}

// ---- the previous kernel -------------------------------------------------------------------------------------------

void wait_for_predecessor() {
  OutsideKernel outside;
  order_wait_for_predecessor();
}

void trigger_dependents() {}  // the next kernel can wait for this one's end, and for no moment before it

// ---- clusters ------------------------------------------------------------------------------------------------------

std::vector<Block*> resident_blocks_of_cluster(uint32_t cluster) {
  std::vector<Block*> blocks;
  for (const auto& block : running.resident) {
    if (cluster_of(*block) == cluster) blocks.push_back(block.get());
  }
  return blocks;
}

void try_to_complete_cluster_barrier(uint32_t cluster) {
  const std::vector<Block*> blocks = resident_blocks_of_cluster(cluster);
  unsigned alive = 0;
  unsigned waiting = 0;
  for (const Block* block : blocks) {
    alive += block->alive;
    waiting += block->at_cluster_barrier;
  }
  if (waiting == 0 || waiting < alive) return;

  const Thread* first = nullptr;
  for (const Block* block : blocks) {
    for (const Thread& thread : block->threads) {
      if (thread.state != State::kExited && !met_at_one_line(first, thread)) return;
    }
  }
  order_cluster_barrier(blocks);
  running.yields_without_progress = 0;
  for (Block* block : blocks) {
    block->at_cluster_barrier = 0;
    block->cluster_barriers += 1;
    for (Thread& thread : block->threads) {
      if (thread.state == State::kAtClusterBarrier) make_ready(thread);
    }
  }
}

void cluster_barrier(Site site) {
  OutsideKernel outside;
  Thread& me = *current;
  me.site = site;
  me.state = State::kAtClusterBarrier;
  me.block->at_cluster_barrier += 1;
  try_to_complete_cluster_barrier(cluster_of(*me.block));
  wait_until_ready();
}

unsigned cluster_rank() { return current->block->number % running.config.cluster_size; }

unsigned cluster_size() { return running.config.cluster_size; }

void* shared_memory_of_block(void* mine, unsigned rank, Site site) {
  OutsideKernel outside;
  Block& block = *current->block;
  if (rank >= running.config.cluster_size) {
    report(format("shared_of_block at %s:%d: rank %u in a cluster of %u", site.file, site.line, rank,
                  running.config.cluster_size));
    abandon_launch();
  }
  Block* owner = resident_block(cluster_of(block) * running.config.cluster_size + rank);
  if (owner == nullptr) {
    report(format("shared_of_block at %s:%d: block %u of the cluster has exited", site.file, site.line, rank));
    abandon_launch();
  }
  char* address = static_cast<char*>(mine);
  char* dynamic = static_cast<char*>(block.dynamic_shared);
  if (dynamic != nullptr && address >= dynamic && address < dynamic + running.dynamic_bytes) {
    return static_cast<char*>(owner->dynamic_shared) + (address - dynamic);
  }
  std::size_t offset = 0;
  const int number = static_variable_at(block, address, offset);
  if (number < 0) {
    report(format("shared_of_block at %s:%d: not an address in the block's own shared memory", site.file, site.line));
    abandon_launch();
  }
  return static_cast<char*>(shared_variable_of(*owner, number)) + offset;
}

}  // namespace emu
