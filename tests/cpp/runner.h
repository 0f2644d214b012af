// runner.h: the tools with which a kernel family's runner is written. README.md says how to add one.
//
// A case is a function that runs kernels and compares their results with a naive host oracle. It is run under several
// schedules of the emulator; it passes if nothing is reported, every comparison holds, and the results are the same
// bits under every schedule. A fault is a case whose kernel has a planted error, which the checker must report.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

namespace ssd::test {

inline void require(cudaError_t status) {
  if (status != cudaSuccess) throw std::runtime_error(cudaGetErrorString(status));
}

// An array in device memory. Its elements are uninitialized unless they come from a vector.
template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(std::size_t size) : size_(size) {
    require(cudaMalloc(reinterpret_cast<void**>(&data_), bytes()));
  }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
    if (size_ > 0) require(cudaMemcpy(data_, values.data(), bytes(), cudaMemcpyHostToDevice));
  }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  static DeviceArray zeros(std::size_t size) { return DeviceArray(std::vector<T>(size)); }

  T* data() { return data_; }
  std::size_t size() const { return size_; }

  std::vector<T> host() const { return first(size_); }
  std::vector<T> first(std::size_t count) const { return part(0, count); }
  std::vector<T> part(std::size_t begin, std::size_t count) const {  // where the others were never written
    std::vector<T> values(count);
    if (count > 0) require(cudaMemcpy(values.data(), data_ + begin, count * sizeof(T), cudaMemcpyDeviceToHost));
    return values;
  }

 private:
  std::size_t bytes() const { return size_ * sizeof(T); }

  T* data_ = nullptr;
  std::size_t size_ = 0;
};

// The same numbers on every machine and standard library (splitmix64).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t bits();
  int below(int limit) { return static_cast<int>(bits() % static_cast<uint64_t>(limit)); }
  float uniform(float low, float high);  // in [low, high)
  std::vector<float> uniform(std::size_t size, float low, float high);

 private:
  uint64_t state_;
};

// One run of a case, under one schedule.
class Case {
 public:
  void expect(bool holds, const std::string& what) {
    if (!holds && wrong_.empty()) wrong_ = what;
  }

  // Bit for bit, except that a NaN equals any NaN. Also remembers got, to compare it with other schedules' results.
  template <class T>
  void equal(const std::vector<T>& got, const std::vector<T>& want, const std::string& what) {
    remember(got);
    expect(got.size() == want.size(), what + ": wrong size");
    for (std::size_t i = 0; i < got.size() && i < want.size(); ++i) {
      if (!same(got[i], want[i])) return expect(false, what + ": wrong at index " + std::to_string(i));
    }
  }

  // For results that no oracle gives bit for bit: they must still be the same under every schedule.
  template <class T>
  void remember(const std::vector<T>& result) {
    static_assert(std::is_trivially_copyable_v<T>);
    hash_bytes(result.data(), result.size() * sizeof(T));
  }

  const std::string& wrong() const { return wrong_; }  // the first comparison that did not hold, or nothing
  uint64_t hash() const { return hash_; }

 private:
  template <class T>
  static bool same(const T& a, const T& b) {
    if constexpr (std::is_floating_point_v<T>) {
      if (a != a && b != b) return true;
    }
    return std::memcmp(&a, &b, sizeof(T)) == 0;
  }

  void hash_bytes(const void* data, std::size_t bytes);

  std::string wrong_;
  uint64_t hash_ = 0xcbf29ce484222325ull;
};

// Command line: [--schedules N] [--seed FIRST] [--faults | --no-faults] [--stop] [--list] [name...]
// A name is any part of a case's name; none selects all. --stop: exit at the first failure.
class Runner {
 public:
  using Function = std::function<void(Case&)>;

  Runner(const std::string& family, int argc, char** argv, int schedules = 20);  // unless --schedules says

  void good(const std::string& name, const Function& function);

  // The checker must report the fault under every schedule, in a text that contains expected. Only the check flavor
  // runs faults, unless --faults asks for them: elsewhere they may go unseen, or be undefined behavior.
  void fault(const std::string& name, const std::string& expected, const Function& function);

  // Prints "<family>: N passed, M failed". Returns the exit status.
  int finish();

 private:
  struct Outcome;
  Outcome run(const Function& function, int schedules) const;
  bool selected(const std::string& name) const;
  void print(bool passed, const std::string& verdict, const std::string& name, const Outcome& outcome,
             const std::string& why);

  std::string family_;
  std::vector<std::string> wanted_;
  int schedules_;
  int first_seed_ = 0;
  bool list_ = false;
  bool faults_;
  bool stop_ = false;
  int passed_ = 0;
  int failed_ = 0;
};

}  // namespace ssd::test
