// Vector: std::vector, except that a failed allocation says how many bytes it asked for, and that large ones take huge
// pages where the system has them. CPU code keeps in it whatever grows with the inputs: the error passes through
// parallel_for, `dispatch` (view.h) adds the name of the op, and pybind11 makes it Python's MemoryError.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <memory>
#include <new>
#include <string>
#include <vector>

namespace ssd {

class FailedAllocation : public std::bad_alloc {
 public:
  explicit FailedAllocation(size_t bytes, const char* op = "ssd_fast")
      : bytes_(bytes),
        message_(std::string(op) + ": expected " + std::to_string(bytes) + " bytes of memory, got none") {}

  size_t bytes() const { return bytes_; }
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  size_t bytes_;
  std::string message_;
};

template <typename T>
struct Allocator {
  using value_type = T;
  static constexpr size_t kHugePage = size_t{2} << 20;

  Allocator() = default;
  template <typename U>
  Allocator(const Allocator<U>&) {}

  T* allocate(size_t count) {
    const size_t bytes = count * sizeof(T);
    try {
      if (bytes < kHugePage) return std::allocator<T>().allocate(count);
      void* const memory = ::operator new(bytes, std::align_val_t{kHugePage});
#ifdef MADV_HUGEPAGE
      madvise(memory, bytes, MADV_HUGEPAGE);  // so that random reads find their pages in the TLB
#endif
      return static_cast<T*>(memory);
    } catch (const std::bad_alloc&) {
      throw FailedAllocation(bytes);
    }
  }
  void deallocate(T* memory, size_t count) {
    if (count * sizeof(T) < kHugePage) {
      std::allocator<T>().deallocate(memory, count);
    } else {
      ::operator delete(memory, std::align_val_t{kHugePage});
    }
  }

  friend bool operator==(const Allocator&, const Allocator&) { return true; }
  friend bool operator!=(const Allocator&, const Allocator&) { return false; }
};

template <typename T>
using Vector = std::vector<T, Allocator<T>>;

}  // namespace ssd
