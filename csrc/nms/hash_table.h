// A hash table for the grids of NMS on the CPU.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

namespace ssd {

// Scrambles the bits of a number.
inline uint64_t mix(uint64_t number) {
  number = (number ^ (number >> 32)) * 0x9FB21C651E98DF25u;
  return number ^ (number >> 29);
}

// Maps hashes to values other than 0. Keys that share the 32 bits of a hash share a value: rare, and harmless where a
// value says what to test, and not what is true. Open addressing with linear probing, at most half full.
template <typename Value>
class HashTable {
 public:
  void clear() {
    if (used_ > 0) std::fill(slots_.begin(), slots_.end(), Slot{});
    used_ = 0;
  }

  // Returns the value, or 0 if the hash has none.
  Value find(uint32_t hash) const { return slots_[slot_of(hash)].value; }

  // Returns the place of the value, which is 0 if the hash has none yet, and must not stay so. Valid until the next call.
  Value& at(uint32_t hash) {
    if (2 * (used_ + 1) > slots_.size()) grow();
    Slot& slot = slots_[slot_of(hash)];
    if (slot.value == 0) {
      slot.hash = hash;
      ++used_;
    }
    return slot.value;
  }

 private:
  struct Slot {
    Value value = 0;  // 0: an empty slot
    uint32_t hash = 0;
  };

  size_t slot_of(uint32_t hash) const {
    const size_t last = slots_.size() - 1;
    size_t i = static_cast<uint64_t>(hash) >> shift_;
    while (slots_[i].value != 0 && slots_[i].hash != hash) i = (i + 1) & last;
    return i;
  }

  void grow() {
    shift_ -= slots_.size() == 1 ? kFirstBits : 1;
    const std::vector<Slot> old = std::exchange(slots_, std::vector<Slot>(size_t{1} << (32 - shift_)));
    for (const Slot& slot : old) {
      if (slot.value != 0) slots_[slot_of(slot.hash)] = slot;
    }
  }

  static constexpr int kFirstBits = 10;
  std::vector<Slot> slots_{1};  // as many as a power of 2
  int shift_ = 32;              // a hash without its lowest `shift_` bits is where the search for it begins
  size_t used_ = 0;
};

}  // namespace ssd
