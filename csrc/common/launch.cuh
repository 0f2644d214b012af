// launch.cuh: how the host starts kernels and clears memory, on a stream and its device. Kernels include it through
// cuda.cuh.
#pragma once

#include <cstddef>
#include <string>
#include <utility>

#include "common/prepare.cuh"
#include "common/stream.h"

namespace ssd {

// Throws std::runtime_error "ssd_fast: <what>: <CUDA's message>" unless status is cudaSuccess.
void check(cudaError_t status, const char* what);

// The kernel's name in the source, for messages; "kernel" where CUDA is too old to give it.
std::string kernel_name(const void* kernel);

// Whether SSD_FAST_SYNC=1 is set: then the host waits for each kernel and memset, so that an error is raised by the
// call that caused it. Read once per process.
bool waits_for_launches();

// Waits for the stream, unless it is being captured, and throws if its work failed.
void wait_for(Stream stream, const char* what);

// How a launch differs from a plain one; grid.cuh has what the kernel does with each attribute.
struct LaunchAttributes {
  bool cooperative = false;   // all blocks run at once, for grid_barrier; at most most_cooperative_blocks()
  bool programmatic = false;  // may start before the stream's previous work has ended, for wait_for_predecessor
  unsigned cluster_size = 1;  // this many neighbors in x are a cluster (has_clusters); it divides the grid's x
};

inline constexpr LaunchAttributes kPlain{};
inline constexpr LaunchAttributes kCooperative{true, false, 1};
inline constexpr LaunchAttributes kProgrammatic{false, true, 1};
constexpr LaunchAttributes in_clusters_of(unsigned size) { return {false, false, size}; }

#ifdef __CUDACC__
struct AttributeList {
  cudaLaunchAttribute attributes[3];
  unsigned count = 0;
};

// The attributes in CUDA's form. A launch is programmatic only if the kernel's code, which is for this architecture (90
// for sm_90), can wait for its predecessor: code for older ones does not.
AttributeList attribute_list(LaunchAttributes wanted, int architecture);
#endif

// Starts kernel(args...) on the stream, whose device must be current (DeviceGuard). Throws if it cannot be started.
// If waits_for_launches(), and in the emulator, it returns when the kernel ends, and also throws if the kernel fails.
template <class... Params, class... Args>
void launch(void (*kernel)(Params...), LaunchAttributes attributes, dim3 grid, dim3 block, size_t shared_bytes,
            Stream stream, Args&&... args) {
  const void* function = reinterpret_cast<const void*>(kernel);
  const int architecture = prepare_kernel(function, stream);
  const bool waits = waits_for_launches();
  const std::string name = waits ? kernel_name(function) : std::string();  // once it has failed, CUDA may not give it
#ifdef __CUDACC__
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = static_cast<cudaStream_t>(stream.handle);
  AttributeList list = attribute_list(attributes, architecture);
  config.attrs = list.attributes;
  config.numAttrs = list.count;
  const cudaError_t status = cudaLaunchKernelEx(&config, kernel, std::forward<Args>(args)...);
#else
  emu::LaunchConfig config;
  config.grid = grid;
  config.block = block;
  config.dynamic_shared_bytes = shared_bytes;
  config.stream = static_cast<cudaStream_t>(stream.handle);
  config.cooperative = attributes.cooperative;
  config.programmatic = attributes.programmatic && architecture >= 90;
  config.cluster_size = attributes.cluster_size;
  const cudaError_t status = emu::launch(kernel, config, std::forward<Args>(args)...);
#endif
  if (status != cudaSuccess) check(status, kernel_name(function).c_str());
  if (waits) wait_for(stream, name.c_str());
}

template <class... Params, class... Args>
void launch(void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared_bytes, Stream stream, Args&&... args) {
  launch(kernel, kPlain, grid, block, shared_bytes, stream, std::forward<Args>(args)...);
}

// The most blocks that a cooperative launch of the kernel can have on the stream's device, which must be current; 0 if
// not even one block fits. Other work that runs there at the same time does not count.
unsigned most_cooperative_blocks(const void* kernel, unsigned threads, size_t shared_bytes, Stream stream);

template <class... Params>
unsigned most_cooperative_blocks(void (*kernel)(Params...), unsigned threads, size_t shared_bytes, Stream stream) {
  return most_cooperative_blocks(reinterpret_cast<const void*>(kernel), threads, shared_bytes, stream);
}

// Whether this kernel, on the stream's device, can be launched with a cluster_size above 1: on GPUs from 9.0 on.
bool has_clusters(const void* kernel, Stream stream);

template <class... Params>
bool has_clusters(void (*kernel)(Params...), Stream stream) {
  return has_clusters(reinterpret_cast<const void*>(kernel), stream);
}

// Makes the stream's device current until the end of the scope. Does nothing for host memory.
class DeviceGuard {
 public:
  explicit DeviceGuard(Stream stream);
  ~DeviceGuard();
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int former_ = -1;
};

// Sets the bytes to 0, in stream order. The stream's device must be current.
void zero_async(void* data, size_t bytes, Stream stream);

}  // namespace ssd
