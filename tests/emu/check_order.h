// check_order.h: what the checker remembers of an access, and whether that happened before the present.
#pragma once

#include <array>
#include <map>

#include "emu/checker.h"

namespace emu {

using LaneClocks = std::array<uint32_t, kWarpSize>;
using WarpClocks = std::array<LaneClocks, kWarpSize>;  // [lane][other lane]: accesses before this clock are known

// Accesses that may be relied on: of a whole block before an epoch, or of a thread before a clock.
using Knowledge = std::map<uint64_t, uint32_t>;
using Known = std::shared_ptr<const Knowledge>;

struct ThreadOrder {
  uint32_t clock = 1;
  Known known;
  Known released;  // by its latest fence, for its atomics to pass on
  Known acquired;  // by its atomics, until its next fence
};

struct BlockOrder {
  uint32_t epoch = 1;  // block barriers passed, and one
  std::vector<ThreadOrder> threads;
  std::vector<WarpClocks> warps;
};

// An access to memory. Packed, because every 4 bytes of memory remember three.
struct Access {
  uint32_t block;
  uint32_t epoch;
  uint32_t clock;
  uint32_t code;  // its return address, from the start of the program
  uint32_t thread : 10;
  uint32_t serial : 22;  // of its launch
};

inline uint32_t short_serial(uint32_t serial) { return serial & 0x3fffffu; }

uint32_t clock_of(const Thread& thread);
bool happened_before(const Access& access, const Thread& now);
void release_and_acquire(void* address);

}  // namespace emu
