// copies.cpp: asynchronous copies. A copy's bytes arrive at a moment between its start and its thread's wait that the
// schedule chooses: at once, when the thread waits for something else, or only when it waits for the copy.
#include <algorithm>
#include <cstring>

#include "emu/checker.h"
#include "emu/device_copies.h"

namespace {

using emu::Copy;

void deliver(Copy& copy) {
  if (copy.delivered) return;
  copy.delivered = true;
  std::memcpy(copy.to, copy.from, copy.bytes - copy.zeros);
  std::memset(copy.to + copy.bytes - copy.zeros, 0, copy.zeros);
}

bool is_a_multiple(const void* address, std::size_t bytes) {
  return reinterpret_cast<std::size_t>(address) % bytes == 0;
}

// Why CUDA does not allow the copy, whatever the threads do; nullptr if it does.
const char* fault_of(const Copy& copy) {
  const emu::Thread& me = *emu::current;
  const char* stack = me.fiber.stack;
  if (copy.bytes != 4 && copy.bytes != 8 && copy.bytes != 16) return "is not of 4, 8 or 16 bytes";
  if (copy.zeros > copy.bytes) return "has more zeros than bytes";
  if (!is_a_multiple(copy.to, copy.bytes)) return "is misaligned: its destination is not a multiple of its size";
  if (!is_a_multiple(copy.from, copy.bytes)) return "is misaligned: its source is not a multiple of its size";
  if (!emu::is_shared_memory_of(*me.block, copy.to)) return "does not go to the block's shared memory";
  const bool on_stack = copy.from >= stack && copy.from < stack + emu::kStackBytes;
  if (on_stack || emu::is_shared_memory_of(*me.block, copy.from)) return "does not come from global memory";
  return nullptr;
}

}  // namespace

void __pipeline_memcpy_async(void* shared, const void* global, std::size_t bytes, std::size_t zeros) {
  const emu::OutsideKernel outside;
  emu::Thread& me = *emu::current;
  Copy copy{static_cast<char*>(shared),
            static_cast<const char*>(global),
            static_cast<unsigned>(bytes),
            static_cast<unsigned>(zeros),
            me.batches,
            false,
            __builtin_return_address(0)};
  if (const char* fault = fault_of(copy)) {
    emu::report(emu::format("an asynchronous copy of %zu bytes from %p to %p %s: %s", bytes, global, shared, fault,
                            emu::source_lines(copy.caller).c_str()));
    emu::abandon_launch();
  }
  emu::order_begin_copy(copy);
  const emu::Order order = emu::options.order;
  if (order == emu::Order::kReverse || (order == emu::Order::kRandom && emu::random_below(2) == 0)) deliver(copy);
  me.copies.push_back(copy);
}

void __pipeline_commit() { emu::current->batches += 1; }

void __pipeline_wait_prior(std::size_t batches) {
  constexpr std::size_t kMostBatches = 8;  // as CUDA's
  const emu::OutsideKernel outside;
  emu::Thread& me = *emu::current;
  const std::size_t left = std::min(batches, kMostBatches);
  const auto is_done = [&](const Copy& copy) { return copy.batch + left < me.batches; };
  for (Copy& copy : me.copies) {
    if (!is_done(copy)) continue;
    deliver(copy);
    emu::order_end_copy(copy);
  }
  for (const Copy& copy : me.copies) {
    if (!is_done(copy)) emu::order_keep_copy(copy);
  }
  me.copies.erase(std::remove_if(me.copies.begin(), me.copies.end(), is_done), me.copies.end());
}

namespace emu {

void deliver_some_copies(Thread& thread) {
  if (options.order != Order::kRandom) return;
  for (Copy& copy : thread.copies) {
    if (random_below(4) == 0) deliver(copy);
  }
}

void thread_leaves_copies(Thread& thread) {
  if (thread.copies.empty()) return;
  report(format("an asynchronous copy of %u bytes was never waited for: %s", thread.copies[0].bytes,
                source_lines(thread.copies[0].caller).c_str()));
  for (Copy& copy : thread.copies) {
    deliver(copy);
    emu::order_end_copy(copy);
  }
  thread.copies.clear();
}

}  // namespace emu
