// A hash table for the grids of NMS on the CPU.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>

#include "common/vector.h"

namespace ssd {

// Scrambles the bits of a number.
inline uint64_t mix(uint64_t number) {
  number = (number ^ (number >> 32)) * 0x9FB21C651E98DF25u;
  return number ^ (number >> 29);
}

// Maps hashes to values. Keys that share 31 bits of their hashes share a value: rare, and harmless where a value says
// what to test, and not what is true. Open addressing with linear probing, at most half full.
template <typename Value>
class HashTable {
 public:
  void clear() {
    if (used_ > 0) std::fill(slots_.begin(), slots_.end(), Slot{});
    used_ = 0;
  }

  // Returns the hash's value, or null.
  const Value* find(uint32_t hash) const {
    const Slot& slot = slots_[slot_of(hash)];
    return slot.tag != 0 ? &slot.value : nullptr;
  }
  void prefetch(uint32_t hash) const { __builtin_prefetch(&slots_[first_slot_of(hash)]); }

  // Returns the hash's value, first making it a copy of `initial` if there is none. Valid until the next call.
  Value& at(uint32_t hash, const Value& initial, bool& is_new) {
    if (2 * (used_ + 1) > slots_.size()) grow();
    Slot& slot = slots_[slot_of(hash)];
    is_new = slot.tag == 0;
    if (is_new) {
      slot = {initial, tag_of(hash)};
      ++used_;
    }
    return slot.value;
  }

 private:
  struct Slot {
    Value value{};
    uint32_t tag = 0;  // 0: an empty slot
  };

  static uint32_t tag_of(uint32_t hash) { return hash | 1; }
  size_t first_slot_of(uint32_t hash) const { return static_cast<uint64_t>(hash) >> shift_; }
  size_t slot_of(uint32_t hash) const {
    const size_t last = slots_.size() - 1;
    size_t i = first_slot_of(hash);
    while (slots_[i].tag != 0 && slots_[i].tag != tag_of(hash)) i = (i + 1) & last;
    return i;
  }

  void grow() {
    shift_ -= slots_.size() == 1 ? kFirstBits : 1;
    const Vector<Slot> old = std::exchange(slots_, Vector<Slot>(size_t{1} << (32 - shift_)));
    for (const Slot& slot : old) {
      if (slot.tag != 0) slots_[slot_of(slot.tag)] = slot;
    }
  }

  static constexpr int kFirstBits = 10;
  Vector<Slot> slots_{1};  // as many as a power of 2
  int shift_ = 32;         // a hash without its lowest `shift_` bits is where the search for it begins
  size_t used_ = 0;
};

}  // namespace ssd
