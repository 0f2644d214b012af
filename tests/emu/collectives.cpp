// collectives.cpp: what block barriers and warp functions wait for, and what they compute.
#include <algorithm>
#include <cstring>

#include "emu/checker.h"

namespace emu {
namespace {

// A warp's threads; the last warp of a block may have fewer than 32.
struct Warp {
  Thread* threads;
  unsigned count;

  Warp(Block& block, unsigned number)
      : threads(&block.threads[number * kWarpSize]),
        count(std::min<unsigned>(kWarpSize, block.threads.size() - number * kWarpSize)) {}
};

bool same_call(const Thread& a, const Thread& b) {
  return a.state == State::kAtWarpFunction && a.call.op == b.call.op && a.call.mask == b.call.mask &&
         a.call.bytes == b.call.bytes;
}

unsigned as_unsigned(const Thread& thread) {
  unsigned value;
  std::memcpy(&value, thread.call.value, sizeof value);
  return value;
}

unsigned reduce_two(WarpOp op, unsigned a, unsigned b) {
  const int signed_a = static_cast<int>(a);
  const int signed_b = static_cast<int>(b);
  switch (op) {
    case WarpOp::kAdd:
      return a + b;
    case WarpOp::kAnd:
      return a & b;
    case WarpOp::kOr:
      return a | b;
    case WarpOp::kXor:
      return a ^ b;
    case WarpOp::kMin:
      return static_cast<unsigned>(std::min(signed_a, signed_b));
    case WarpOp::kMax:
      return static_cast<unsigned>(std::max(signed_a, signed_b));
    case WarpOp::kUnsignedMin:
      return std::min(a, b);
    default:
      return std::max(a, b);
  }
}

// A shuffle from a lane that takes no part returns an undefined value; here all ones, a NaN or -1.
void shuffle_result(const Warp& warp, unsigned lanes, Thread& to) {
  const unsigned source = static_cast<unsigned>(to.call.source_lane) % kWarpSize;
  if (lanes >> source & 1) {
    std::memcpy(to.call.result, warp.threads[source].call.value, to.call.bytes);
  } else {
    std::memset(to.call.result, 0xFF, sizeof to.call.result);
  }
}

unsigned lanes_result(const Warp& warp, unsigned lanes, const Thread& to) {
  unsigned result = 0;
  bool first = true;
  for (unsigned lane = 0; lane < warp.count; ++lane) {
    if ((lanes >> lane & 1) == 0) continue;
    const Thread& from = warp.threads[lane];
    if (to.call.op == WarpOp::kBallot) {
      result |= static_cast<unsigned>(as_unsigned(from) != 0) << lane;
    } else if (to.call.op == WarpOp::kMatchAny) {
      result |= static_cast<unsigned>(std::memcmp(from.call.value, to.call.value, to.call.bytes) == 0) << lane;
    } else {
      result = first ? as_unsigned(from) : reduce_two(to.call.op, result, as_unsigned(from));
    }
    first = false;
  }
  return result;
}

// Completes the call that this thread waits in, if every lane that its mask names has come or exited.
void try_to_complete(Thread& waiting) {
  Block& block = *waiting.block;
  const Lanes& of_warp = block.warps[waiting.warp()];
  const unsigned mask = waiting.call.mask;
  if ((mask & ~of_warp.waiting & ~of_warp.gone) != 0) return;  // before a look at each lane
  const Warp warp(block, waiting.warp());
  unsigned lanes = 0;
  for (unsigned lane = 0; lane < warp.count; ++lane) {
    if (same_call(warp.threads[lane], waiting)) lanes |= 1u << lane;
  }
  if ((mask & ~lanes & ~of_warp.gone) != 0) return;

  const WarpOp op = waiting.call.op;
  for (unsigned lane = 0; lane < warp.count; ++lane) {
    if ((lanes >> lane & 1) == 0 || op == WarpOp::kSync) continue;
    Thread& thread = warp.threads[lane];
    if (op == WarpOp::kShuffle) {
      shuffle_result(warp, lanes, thread);
    } else {
      const unsigned result = lanes_result(warp, lanes, thread);
      std::memcpy(thread.call.result, &result, sizeof result);
    }
  }
  if (op == WarpOp::kSync) order_warp(block, waiting.warp(), lanes);
  running.yields_without_progress = 0;
  for (unsigned lane = 0; lane < warp.count; ++lane) {
    if (lanes >> lane & 1) make_ready(warp.threads[lane]);
  }
}

const char* name(WarpOp op) {
  switch (op) {
    case WarpOp::kSync:
      return "__syncwarp";
    case WarpOp::kShuffle:
      return "__shfl_sync";
    case WarpOp::kBallot:
      return "__ballot_sync";
    case WarpOp::kMatchAny:
      return "__match_any_sync";
    default:
      return "__reduce_sync";
  }
}

bool diverged(const Block& block) {
  const Thread* first = nullptr;
  for (const Thread& thread : block.threads) {
    if (thread.state != State::kExited && !met_at_one_line(first, thread)) return true;
  }
  return false;
}

void try_to_complete_barrier(Block& block) {
  if (block.alive == 0 || block.at_barrier < block.alive) return;
  if (diverged(block)) return;
  order_block_barrier(block);
  running.yields_without_progress = 0;
  block.at_barrier = 0;
  for (Thread& thread : block.threads) {
    if (thread.state != State::kAtBlockBarrier) continue;
    thread.barrier_result = block.predicate_count;
    make_ready(thread);
  }
}

}  // namespace

bool met_at_one_line(const Thread*& first, const Thread& other) {
  if (first == nullptr) first = &other;
  const Site& one = first->site;
  if (other.site.line == one.line && (other.site.file == one.file || std::strcmp(other.site.file, one.file) == 0)) {
    return true;
  }
  report(format("barrier divergence: threads that wait for one another meet at different barriers: %s:%d and %s:%d",
                one.file, one.line, other.site.file, other.site.line));
  running.failed = true;
  return false;
}

int lane_id() { return static_cast<int>(current->lane()); }

void warp_collective(WarpOp op, unsigned mask, const void* value, void* result, int bytes, int source_lane, Site site) {
  OutsideKernel outside;
  Thread& me = *current;
  if ((mask >> me.lane() & 1) == 0) {
    report(format("%s at %s:%d: the mask %08x lacks its caller, lane %u", name(op), site.file, site.line, mask,
                  me.lane()));
    mask |= 1u << me.lane();
  }
  me.call.op = op;
  me.call.mask = mask;
  me.call.source_lane = source_lane;
  me.call.bytes = bytes;
  if (value != nullptr) std::memcpy(me.call.value, value, bytes);
  me.site = site;
  me.state = State::kAtWarpFunction;
  me.block->warps[me.warp()].waiting |= me.lane_bit();
  try_to_complete(me);
  wait_until_ready();
  const int result_bytes = op == WarpOp::kShuffle ? bytes : static_cast<int>(sizeof(unsigned));
  if (result != nullptr) std::memcpy(result, me.call.result, result_bytes);
}

int block_barrier(bool predicate, Site site) {
  OutsideKernel outside;
  Thread& me = *current;
  Block& block = *me.block;
  me.site = site;
  me.state = State::kAtBlockBarrier;
  if (block.at_barrier == 0) block.predicate_count = 0;
  block.at_barrier += 1;
  block.predicate_count += predicate ? 1 : 0;
  try_to_complete_barrier(block);
  wait_until_ready();
  return me.barrier_result;
}

void thread_exited(Thread& thread) {
  Block& block = *thread.block;
  const Warp warp(block, thread.warp());
  for (unsigned lane = 0; lane < warp.count && block.warps[thread.warp()].waiting != 0; ++lane) {
    Thread& other = warp.threads[lane];
    if (other.state == State::kAtWarpFunction && (other.call.mask >> thread.lane() & 1)) try_to_complete(other);
  }
  try_to_complete_barrier(block);
  if (running.config.cluster_size > 1) try_to_complete_cluster_barrier(cluster_of(block));
}

}  // namespace emu
