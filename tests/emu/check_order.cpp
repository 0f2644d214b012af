// check_order.cpp: what happened before what, by the rules in checker.h.
//
// Within a block, barriers count epochs and each warp keeps vector clocks of its lanes. Across blocks, and between
// warps that talk through atomics, a thread carries Knowledge: of other threads, up to which clock it may rely on their
// accesses. A fence makes a thread's knowledge ready to be released by its later atomics, and turns what its earlier
// atomics have read into knowledge.
#include "emu/check_order.h"

#include <algorithm>
#include <cstring>
#include <unordered_map>

namespace emu {
namespace {

// Released by the atomics on an address, in the launch of that serial number.
std::unordered_map<void*, Known> released_at;
uint32_t released_serial;

uint64_t block_key(uint32_t block) { return uint64_t(block) << 16; }
uint64_t thread_key(uint32_t block, unsigned thread) { return block_key(block) | (thread + 1); }

ThreadOrder& order_of(const Thread& thread) { return thread.block->order->threads[thread.number]; }

void join(Known& to, const Known& from) {
  if (from == nullptr || to == from) return;
  if (to == nullptr) {
    to = from;
    return;
  }
  auto both = std::make_shared<Knowledge>(*to);
  for (const auto& [key, clock] : *from) {
    uint32_t& known = (*both)[key];
    known = std::max(known, clock);
  }
  to = both;
}

bool knows(const Known& known, uint64_t key, uint32_t clock) {
  const auto found = known->find(key);
  return found != known->end() && clock < found->second;
}

}  // namespace

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
  // Each lane begins a new clock; what it did on earlier ones is from now on known to the others.
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    if (lanes >> lane & 1) joined[lane] = ++block.order->threads[warp * kWarpSize + lane].clock;
  }
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    if ((lanes >> lane & 1) == 0) continue;
    clocks[lane] = joined;
    block.order->threads[warp * kWarpSize + lane].known = known;
  }
}

void order_fence() {
  const Thread& me = *current;
  const Block& block = *me.block;
  ThreadOrder& order = order_of(me);
  join(order.known, order.acquired);
  order.acquired = nullptr;

  auto released = order.known != nullptr ? std::make_shared<Knowledge>(*order.known) : std::make_shared<Knowledge>();
  (*released)[block_key(block.number)] = block.order->epoch;
  const LaneClocks& lanes = block.order->warps[me.warp()][me.lane()];
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    if (lanes[lane] > 0) (*released)[thread_key(block.number, me.warp() * kWarpSize + lane)] = lanes[lane];
  }
  order.clock += 1;
  (*released)[thread_key(block.number, me.number)] = order.clock;
  order.released = released;
}

void release_and_acquire(void* address) {
  if (released_serial != running.serial) {
    released_at.clear();
    released_serial = running.serial;
  }
  Known& released = released_at[address];
  ThreadOrder& order = order_of(*current);
  join(order.acquired, released);
  join(released, order.released);
}

uint32_t clock_of(const Thread& thread) { return order_of(thread).clock; }

bool happened_before(const Access& access, const Thread& now) {
  if (access.serial != short_serial(running.serial)) return true;
  const Block& block = *now.block;
  if (access.block == block.number) {
    if (access.thread == now.number || access.epoch < block.order->epoch) return true;
    const bool same_warp = access.thread / kWarpSize == now.warp();
    if (same_warp && access.clock < block.order->warps[now.warp()][now.lane()][access.thread % kWarpSize]) return true;
  }
  const Known& known = order_of(now).known;
  if (known == nullptr) return false;
  return knows(known, block_key(access.block), access.epoch) ||
         knows(known, thread_key(access.block, access.thread), access.clock);
}

}  // namespace emu
