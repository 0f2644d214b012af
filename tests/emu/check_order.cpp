// check_order.cpp: what happened before what, by the rules in checker.h.
//
// Within a block, barriers count epochs and each warp keeps vector clocks of its lanes. Across blocks, and between
// warps that communicate by atomics, a thread carries Knowledge: up to which clock it may rely on other threads'
// accesses. A fence lets a thread's later atomics release its knowledge, and turns what its earlier atomics have read
// into knowledge. A barrier of the whole grid is remembered once for all threads.
#include "emu/check_order.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <map>
#include <unordered_map>

namespace emu {
namespace {

// What the atomics on an address have released in this launch: to all threads, and to threads of the same block.
struct Released {
  Known to_all;
  std::map<uint32_t, Known> to_block;
};

std::unordered_map<void*, Released> released_at;

std::vector<uint32_t> grid_epochs;  // by block: a grid barrier has made known to all what it did before this epoch

constexpr uint64_t kPredecessor = ~uint64_t(0);  // the key of the knowledge that the predecessor has ended
constexpr auto kBlock = static_cast<std::size_t>(Scope::kBlock);
constexpr auto kDevice = static_cast<std::size_t>(Scope::kDevice);

uint64_t block_key(uint32_t block) { return uint64_t(block) << 16; }
uint64_t thread_key(uint32_t block, unsigned thread) { return block_key(block) | (thread + 1); }

ThreadOrder& order_of(const Thread& thread) { return thread.block->order->threads[thread.number]; }

bool has_lower_key(const KnownUntil& a, const KnownUntil& b) { return a.key < b.key; }

bool contains(const Knowledge& known, const Knowledge& part) {
  auto at = known.begin();
  return std::all_of(part.begin(), part.end(), [&](const KnownUntil& entry) {
    while (at != known.end() && at->key < entry.key) ++at;
    return at != known.end() && at->key == entry.key && at->clock >= entry.clock;
  });
}

// All that either knows.
Knowledge joined(const Knowledge& a, const Knowledge& b) {
  Knowledge all;
  all.reserve(a.size() + b.size());
  std::merge(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(all), has_lower_key);
  std::size_t size = 0;
  for (const KnownUntil& entry : all) {
    if (size > 0 && all[size - 1].key == entry.key) {
      all[size - 1].clock = std::max(all[size - 1].clock, entry.clock);
    } else {
      all[size++] = entry;
    }
  }
  all.resize(size);
  return all;
}

void join(Known& to, const Known& from) {
  if (from == nullptr || to == from || (to != nullptr && contains(*to, *from))) return;
  to = to == nullptr || contains(*from, *to) ? from : std::make_shared<Knowledge>(joined(*to, *from));
}

bool knows(const Known& known, uint64_t key, uint32_t clock) {
  const auto found = std::lower_bound(known->begin(), known->end(), KnownUntil{key, 0}, has_lower_key);
  return found != known->end() && found->key == key && clock < found->clock;
}

}  // namespace

void order_begin_grid(std::size_t blocks) {
  grid_epochs.assign(running.config.cooperative ? blocks : 0, 0);
  released_at.clear();
}

void order_begin_block(Block& block) {
  block.order = std::make_shared<BlockOrder>();
  block.order->threads.resize(block.threads.size());
  block.order->warps.resize((block.threads.size() + kWarpSize - 1) / kWarpSize);
}

void order_block_barrier(Block& block) {
  Known joined;
  for (const Thread& thread : block.threads) {
    if (thread.state == State::kAtBlockBarrier) join(joined, order_of(thread).known);
  }
  for (const Thread& thread : block.threads) {
    if (thread.state == State::kAtBlockBarrier) order_of(thread).known = joined;
  }
  block.order->epoch += 1;
}

void order_cluster_barrier(const std::vector<Block*>& blocks) {
  Knowledge done;
  for (Block* block : blocks) {
    block->order->epoch += 1;
    done.push_back({block_key(block->number), block->order->epoch});
  }
  std::sort(done.begin(), done.end(), has_lower_key);
  Known known = std::make_shared<Knowledge>(done);
  const auto for_each_waiting = [&](auto function) {
    for (Block* block : blocks) {
      for (const Thread& thread : block->threads) {
        if (thread.state == State::kAtClusterBarrier) function(order_of(thread));
      }
    }
  };
  for_each_waiting([&](const ThreadOrder& order) { join(known, order.known); });
  for_each_waiting([&](ThreadOrder& order) { order.known = known; });
}

void order_grid_barrier() {
  Known known;
  for (const auto& block : running.resident) {
    block->order->epoch += 1;
    grid_epochs[block->number] = block->order->epoch;
    for (const ThreadOrder& order : block->order->threads) join(known, order.known);
  }
  for (const auto& block : running.resident) {
    for (ThreadOrder& order : block->order->threads) order.known = known;
  }
}

void order_wait_for_predecessor() {
  static const Known ended = std::make_shared<const Knowledge>(Knowledge{{kPredecessor, 1}});
  if (!running.config.programmatic) return;
  join(order_of(*current).known, ended);
  work_has_waited();
}

void order_warp(Block& block, unsigned warp, unsigned lanes) {
  WarpClocks& clocks = block.order->warps[warp];
  LaneClocks joined{};
  Known known;
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    if ((lanes >> lane & 1) == 0) continue;
    for (unsigned other = 0; other < kWarpSize; ++other) {
      joined[other] = std::max(joined[other], clocks[lane][other]);
    }
    join(known, block.order->threads[warp * kWarpSize + lane].known);
  }
  // Each lane begins a new clock; from now on, the others know what it did on earlier ones.
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    if (lanes >> lane & 1) joined[lane] = ++block.order->threads[warp * kWarpSize + lane].clock;
  }
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    if ((lanes >> lane & 1) == 0) continue;
    clocks[lane] = joined;
    block.order->threads[warp * kWarpSize + lane].known = known;
  }
}

void order_fence(Scope scope) {
  const Thread& me = *current;
  const Block& block = *me.block;
  ThreadOrder& order = order_of(me);
  const std::size_t reaches = static_cast<std::size_t>(scope);
  for (std::size_t i = 0; i <= reaches; ++i) {
    join(order.known, order.acquired[i]);
    order.acquired[i] = nullptr;
  }

  Knowledge own{{block_key(block.number), block.order->epoch}};
  order.clock += 1;
  const LaneClocks& lanes = block.order->warps[me.warp()][me.lane()];
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    const uint32_t clock = lane == me.lane() ? order.clock : lanes[lane];
    if (clock > 0) own.push_back({thread_key(block.number, me.warp() * kWarpSize + lane), clock});
  }
  Known released = order.known;
  join(released, std::make_shared<Knowledge>(own));
  for (std::size_t i = 0; i <= reaches; ++i) order.released[i] = released;
}

// A release by a fence of the device reaches the thread's own block too.
void release_and_acquire(void* address, Scope scope) {
  const uint32_t block = current->block->number;
  ThreadOrder& order = order_of(*current);
  Released& released = released_at[address];
  const auto found = released.to_block.find(block);
  if (found != released.to_block.end()) join(order.acquired[kBlock], found->second);
  if (order.released[kBlock] != nullptr) join(released.to_block[block], order.released[kBlock]);
  if (scope == Scope::kBlock) return;
  join(order.acquired[kDevice], released.to_all);
  join(released.to_all, order.released[kDevice]);
}

bool happened_before(const Access& access, const Thread& now) {
  if (access.serial != short_serial(running.serial)) {
    if (comes_after(access.serial)) return true;
    const Known& known = order_of(now).known;
    return comes_after_by_waiting(access.serial) && known != nullptr && knows(known, kPredecessor, 0);
  }
  if (access.in_flight) return false;
  const Block& block = *now.block;
  if (access.block == block.number) {
    if (access.thread == now.number || access.epoch < block.order->epoch) return true;
    const bool same_warp = access.thread / kWarpSize == now.warp();
    if (same_warp && access.clock < block.order->warps[now.warp()][now.lane()][access.thread % kWarpSize]) return true;
  }
  if (!grid_epochs.empty() && access.epoch < grid_epochs[access.block]) return true;
  const Known& known = order_of(now).known;
  if (known == nullptr) return false;
  return knows(known, block_key(access.block), access.epoch) ||
         knows(known, thread_key(access.block, access.thread), access.clock);
}

}  // namespace emu
