// check_memory.h: the shadow of device memory, and the check of an access against it, which the compiler's hooks and
// the atomics call.
#pragma once

#include <algorithm>

#include "emu/check_order.h"

namespace emu {

constexpr std::size_t kCellBytes = 4;  // of memory per cell
constexpr unsigned kAllBytes = 0xF;

// The four bits of a mask stand for the four bytes.
struct alignas(64) Cell {
  Access write;
  Access reads[2];  // of different threads that nothing orders; two are enough to find one that races with a write
  uint8_t write_mask : 4;
  uint8_t write_is_atomic : 1;
  uint8_t write_is_of_block : 1;  // by an atomic that holds within its block
  uint8_t read_masks[2];
  uint8_t written : 4;
  uint8_t allocated : 4;
};
static_assert(sizeof(Cell) == 64, "a cell is a cache line");

constexpr std::size_t kArenaBytes = std::size_t(4) << 30;  // of address space

extern char* arena;
extern Cell* shadow;

inline bool in_arena(const void* address) { return address >= arena && address < arena + kArenaBytes; }
inline std::size_t offset_in_arena(const void* address) {
  return static_cast<std::size_t>(static_cast<const char*>(address) - arena);
}
inline Cell& cell_of(const void* address) { return shadow[offset_in_arena(address) / kCellBytes]; }

void forget(char* memory, std::size_t bytes);  // everything, even that it was allocated

// Calls function(cell, mask of its bytes) for each cell of memory in the arena, until it returns false.
template <class Function>
void for_each_cell(const void* memory, std::size_t bytes, Function function) {
  const char* byte = static_cast<const char*>(memory);
  const char* end = byte + bytes;
  while (byte < end) {
    const auto offset = static_cast<unsigned>(offset_in_arena(byte) % kCellBytes);
    const auto count = static_cast<unsigned>(std::min<std::ptrdiff_t>(kCellBytes - offset, end - byte));
    if (!function(cell_of(byte), ((1u << count) - 1) << offset)) return;
    byte += count;
  }
}

enum class AccessKind { kRead, kWrite, kAtomic, kBlockAtomic, kCopyRead, kCopyWrite };

// caller: the return address in the kernel's code. Returns whether the address is in device memory.
bool check_access(const void* address, int bytes, AccessKind kind, const void* caller);

}  // namespace emu
