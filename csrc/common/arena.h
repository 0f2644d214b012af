// Parts of one workspace buffer.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ssd {

// Hands out 256-byte aligned parts of a buffer. With a null buffer it only counts what would be needed.
class Arena {
 public:
  explicit Arena(void* memory) : memory_(static_cast<char*>(memory)) {}
  template <typename Element>
  Element* take(int64_t count) {
    char* part = memory_ == nullptr ? nullptr : memory_ + used_;
    used_ += (static_cast<size_t>(count) * sizeof(Element) + 255) / 256 * 256;
    return reinterpret_cast<Element*>(part);
  }
  size_t used() const { return used_; }

 private:
  char* memory_;
  size_t used_ = 0;
};

}  // namespace ssd
