// check_order.h: what the checker remembers of an access, and whether the access happened before the present.
#pragma once

#include <array>
#include <vector>

#include "emu/checker.h"

namespace emu {

constexpr std::size_t kScopes = 2;

using LaneClocks = std::array<uint32_t, kWarpSize>;
using WarpClocks = std::array<LaneClocks, kWarpSize>;  // [lane][other lane]: accesses before this clock are known

// Accesses that may be relied on: of a whole block before an epoch, or of a thread before a clock. Sorted by key.
struct KnownUntil {
  uint64_t key;
  uint32_t clock;
};
using Knowledge = std::vector<KnownUntil>;
using Known = std::shared_ptr<const Knowledge>;

struct ThreadOrder {
  uint32_t clock = 1;
  Known known;
  std::array<Known, kScopes> released;  // by its latest fence of at least the scope, for its atomics to pass on
  std::array<Known, kScopes> acquired;  // by its atomics, until its next fence of at least the scope
};

struct BlockOrder {
  uint32_t epoch = 1;  // 1 + block barriers passed
  std::vector<ThreadOrder> threads;
  std::vector<WarpClocks> warps;
};

// An access to memory. Packed, because every 4 bytes of memory remember three.
struct Access {
  uint32_t block;
  uint32_t epoch;
  uint32_t clock;
  uint32_t code;  // its return address, from the start of the program; 0: the host's
  uint32_t thread : 10;
  uint32_t in_flight : 1;  // by an asynchronous copy that its thread has not waited for
  uint32_t serial : 21;    // of its launch, or of the host's work
};

inline uint32_t short_serial(uint32_t serial) { return serial & 0x1fffffu; }

inline uint32_t clock_of(const Thread& thread) { return thread.block->order->threads[thread.number].clock; }
bool happened_before(const Access& access, const Thread& now);
void release_and_acquire(void* address, Scope scope);

// Whether the present work comes after another one, from its first moment or at least where it has waited for its
// predecessor (check_streams.cpp).
extern uint32_t comes_after_all_below;  // the most usual answer, from whole serials
bool comes_after_one(uint32_t serial);
inline uint32_t whole_serial(uint32_t short_one) { return running.serial - short_serial(running.serial - short_one); }
inline bool comes_after(uint32_t short_one) {
  const uint32_t serial = whole_serial(short_one);
  return serial < comes_after_all_below || comes_after_one(serial);
}
bool comes_after_by_waiting(uint32_t short_serial);
void work_has_waited();

}  // namespace emu
