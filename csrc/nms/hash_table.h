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

// Keys of one owner that share 31 bits of their hashes are one key: rare, and harmless where a value says what to test,
// and not what is true. Those of different owners never are.
struct HashKey {
  uint32_t hash;
  int owner;
};

// Maps keys to values. Open addressing with linear probing, at most half full.
template <typename Value>
class HashTable {
 public:
  void clear() {
    if (used_ > 0) std::fill(slots_.begin(), slots_.end(), Slot{});
    used_ = 0;
  }

  // Returns the key's value, or null.
  const Value* find(HashKey key) const {
    const Slot& slot = slots_[slot_of(key)];
    return slot.tag != 0 ? &slot.value : nullptr;
  }
  void prefetch(HashKey key) const { __builtin_prefetch(&slots_[first_slot_of(key.hash)]); }

  // Returns the key's value, first making it a copy of `initial` if there is none. Valid until the next call.
  Value& at(HashKey key, const Value& initial, bool& is_new) {
    if (2 * (used_ + 1) > slots_.size()) grow();
    Slot& slot = slots_[slot_of(key)];
    is_new = slot.tag == 0;
    if (is_new) {
      slot = {initial, tag_of(key.hash), key.owner};
      ++used_;
    }
    return slot.value;
  }

 private:
  struct Slot {
    Value value{};
    uint32_t tag = 0;  // 0: an empty slot
    int owner = 0;
  };

  static uint32_t tag_of(uint32_t hash) { return hash | 1; }
  size_t first_slot_of(uint32_t hash) const { return static_cast<uint64_t>(hash) >> shift_; }
  size_t slot_of(HashKey key) const {
    const size_t last = slots_.size() - 1;
    const auto is_key = [&](const Slot& slot) { return slot.tag == tag_of(key.hash) && slot.owner == key.owner; };
    size_t i = first_slot_of(key.hash);
    while (slots_[i].tag != 0 && !is_key(slots_[i])) i = (i + 1) & last;
    return i;
  }

  void grow() {
    shift_ -= slots_.size() == 1 ? kFirstBits : 1;
    const Vector<Slot> old = std::exchange(slots_, Vector<Slot>(size_t{1} << (32 - shift_)));
    for (const Slot& slot : old) {
      if (slot.tag != 0) slots_[slot_of({slot.tag, slot.owner})] = slot;
    }
  }

  static constexpr int kFirstBits = 10;
  Vector<Slot> slots_{1};  // as many as a power of 2
  int shift_ = 32;         // a hash without its lowest `shift_` bits is where the search for it begins
  size_t used_ = 0;
};

}  // namespace ssd
