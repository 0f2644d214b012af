// The array View, a plain struct, and the checks that every op makes on its arguments before it dispatches.
//
// A message names the op, the argument, what was expected and what was given: "nms: scores: expected shape [5], got
// [4]".
#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/dtype.h"
#include "common/stream.h"
#include "common/vector.h"

namespace ssd {

struct TypeError : std::runtime_error {  // bindings.cpp turns it into Python's TypeError
  using std::runtime_error::runtime_error;
};

struct Device {
  enum Kind { cpu, cuda, other } kind = cpu;
  int index = 0;
  bool operator==(const Device& that) const { return kind == that.kind && (kind != cuda || index == that.index); }
  bool operator!=(const Device& that) const { return !(*this == that); }
};

inline std::string name_of(Device device) {
  if (device.kind == Device::cpu) return "cpu";
  return device.kind == Device::cuda ? "cuda:" + std::to_string(device.index) : "another device";
}

constexpr int kMaxDims = 6;

struct View {
  void* data = nullptr;
  DType dtype = DType::other;
  Device device;
  void* stream = nullptr;  // current stream of the array's own library
  int ndim = 0;
  int64_t shape[kMaxDims] = {};
  int64_t strides[kMaxDims] = {};  // in elements
  bool aligned = true;             // address and strides are multiples of the element size
  std::string type_name;           // for DType::other: the dtype as the array's own library spells it
  std::shared_ptr<void> owner;     // keeps an exported buffer alive, where the exchange needs it

  template <typename T>
  T* as() const {
    return static_cast<T*>(data);
  }
  int64_t size() const {
    if (std::find(shape, shape + ndim, 0) != shape + ndim) return 0;  // before the other dimensions can overflow
    int64_t product = 1;
    for (int i = 0; i < ndim; ++i) product *= shape[i];
    return product;
  }
  bool is_contiguous() const {
    int64_t expected = 1;
    for (int i = ndim - 1; i >= 0; --i) {
      if (shape[i] != 1 && strides[i] != expected) return size() == 0;
      expected *= shape[i];
    }
    return true;
  }
  Stream launch_stream() const { return {device.kind == Device::cuda ? device.index : -1, stream}; }
};

constexpr int64_t kAny = -1;  // a dimension of any size

inline std::string shape_text(const int64_t* shape, int ndim) {
  std::string text = "[";
  for (int i = 0; i < ndim; ++i) {
    if (i > 0) text += ", ";
    text += shape[i] == kAny ? "any" : std::to_string(shape[i]);
  }
  return text + "]";
}

// The checks of one op: `const Checks check("nms");  check.shape(boxes, "boxes", {kAny, 4});`
class Checks {
 public:
  explicit Checks(const char* op) : op_(op) {}

  [[noreturn]] void value_error(const std::string& argument, const std::string& expected,
                                const std::string& given) const {
    throw std::invalid_argument(message(argument, expected, given));
  }
  [[noreturn]] void type_error(const std::string& argument, const std::string& expected,
                               const std::string& given) const {
    throw TypeError(message(argument, expected, given));
  }

  void shape(const View& view, const std::string& argument, const std::vector<int64_t>& expected) const {
    if (view.ndim > kMaxDims) {
      value_error(argument, "at most " + std::to_string(kMaxDims) + " dimensions", std::to_string(view.ndim));
    }
    bool same = view.ndim == static_cast<int>(expected.size());
    for (int i = 0; same && i < view.ndim; ++i) same = expected[i] == kAny || expected[i] == view.shape[i];
    if (same) return;
    value_error(argument, "shape " + shape_text(expected.data(), static_cast<int>(expected.size())),
                shape_text(view.shape, view.ndim));
  }

  void dtype(const View& view, const std::string& argument, const std::vector<DType>& allowed) const {
    std::string names;
    for (const DType dtype : allowed) {
      if (view.dtype == dtype) return;
      names += (names.empty() ? "" : " or ") + std::string(name_of(dtype));
    }
    const std::string given = view.dtype == DType::other ? view.type_name : name_of(view.dtype);
    type_error(argument, names, given + " (convert it, e.g. with .to() or .astype())");
  }

  // That the array is on the device of `reference`, with memory from which its elements can be loaded.
  void memory(const View& view, const std::string& argument, const View& reference) const {
    if (view.device.kind == Device::other)
      value_error(argument, "an array on the CPU or a CUDA GPU", name_of(view.device));
    if (view.device != reference.device)
      value_error(argument, "device " + name_of(reference.device), name_of(view.device));
    if (view.data == nullptr && view.size() > 0) value_error(argument, "an array with memory", "a fake or meta one");
    if (!view.aligned && view.size() > 0)
      value_error(argument, "memory aligned for its elements", "an unaligned array (copy it)");
  }

  void contiguous(const View& view, const std::string& argument) const {
    if (!view.is_contiguous()) value_error(argument, "a contiguous array", "a strided one");
  }

  // All of the above.
  void array(const View& view, const std::string& argument, const std::vector<int64_t>& expected_shape,
             const std::vector<DType>& dtypes, const View& reference) const {
    shape(view, argument, expected_shape);
    dtype(view, argument, dtypes);
    memory(view, argument, reference);
    contiguous(view, argument);
  }

  // The same for an array whose rows of four numbers kernels load as one BoxOf.
  void boxes(const View& view, const std::string& argument, const std::vector<int64_t>& expected_shape,
             const std::vector<DType>& dtypes, const View& reference) const {
    array(view, argument, expected_shape, dtypes, reference);
    if (reinterpret_cast<uintptr_t>(view.data) % alignof(Box) != 0 && view.size() > 0) {
      value_error(argument, "memory aligned to " + std::to_string(alignof(Box)) + " bytes",
                  "an unaligned array (copy it)");
    }
  }

  // That the number is finite and not negative.
  void threshold(double value, const std::string& argument) const {
    if (value >= 0 && value <= 1e300) return;
    value_error(argument, "a finite number >= 0", std::to_string(value));
  }

  void at_least(int64_t value, int64_t minimum, const std::string& argument) const {
    if (value < minimum) value_error(argument, "at least " + std::to_string(minimum), std::to_string(value));
  }

  // That each factor and their product fit into the 32 bits that kernels give to counts, even where a block steps past
  // the last element by up to four per thread. Every factor is checked: an empty array may have dimensions of any size.
  void fits_int32(std::initializer_list<int64_t> factors, const std::string& argument) const {
    constexpr int64_t kMost = 0x7FFFFFFF - 4096;
    int64_t product = 1;
    for (const int64_t factor : factors) {
      const int64_t largest = std::max(factor, product * std::min(factor, kMost));  // below 2^62
      if (largest > kMost) {
        value_error(argument, "at most " + std::to_string(kMost) + " elements", std::to_string(largest));
      }
      product *= factor;
    }
  }

 private:
  std::string message(const std::string& argument, const std::string& expected, const std::string& given) const {
    return std::string(op_) + ": " + argument + ": expected " + expected + ", got " + given;
  }
  const char* op_;
};

template <typename OnCpu>
void run_on_cpu(const char* op, OnCpu on_cpu) {
  try {
    on_cpu();
  } catch (const FailedAllocation& failed) {
    throw FailedAllocation(failed.bytes(), op);
  }
}

// Runs on_cpu() or on_cuda(stream), depending on where `view` lies. Both are generic lambdas, so that a build without
// CUDA never refers to a CUDA launcher. A build for the emulator runs the CUDA source on CPU arrays.
template <typename OnCpu, typename OnCuda>
void dispatch(const char* op, const View& view, OnCpu on_cpu, OnCuda on_cuda) {
#if defined(SSD_EMULATED)
  (void)op, (void)on_cpu;
  on_cuda(view.launch_stream());
#elif defined(SSD_WITH_CUDA)
  if (view.device.kind == Device::cuda) {
    on_cuda(view.launch_stream());
  } else {
    run_on_cpu(op, on_cpu);
  }
#else
  (void)on_cuda;
  if (view.device.kind != Device::cpu) {
    throw std::runtime_error(std::string(op) +
                             ": this build of ssd_fast has no CUDA kernels; install it where nvcc is on the PATH "
                             "(SSD_FAST_CUDA=ON makes a missing one an error)");
  }
  run_on_cpu(op, on_cpu);
#endif
}

// Whether `dispatch` will run CUDA kernels, which need workspace, on this array.
inline bool runs_cuda_kernels(const View& view) {
#if defined(SSD_EMULATED)
  (void)view;
  return true;
#else
  return view.device.kind == Device::cuda;
#endif
}

}  // namespace ssd
