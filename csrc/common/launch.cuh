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

// Whether SSD_FAST_SYNC=1 is set: then the host waits for each kernel and memset, so that an error is raised by the call
// that caused it. Read once per process.
bool waits_for_launches();

// Waits for the stream, unless it is being captured, and throws if its work failed.
void wait_for(Stream stream, const char* what);

// Starts kernel(args...) on the stream, whose device must be current (DeviceGuard). Throws if it cannot be started. Also
// throws if the kernel fails, where waits_for_launches() or the emulator runs it, which returns when the kernel ends.
template <class... Params, class... Args>
void launch(void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared_bytes, Stream stream, Args&&... args) {
  const void* function = reinterpret_cast<const void*>(kernel);
  prepare_kernel(function, stream);
  const bool waits = waits_for_launches();
  const std::string name = waits ? kernel_name(function) : std::string();  // once it has failed, CUDA may not tell
#ifdef __CUDACC__
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = static_cast<cudaStream_t>(stream.handle);
  const cudaError_t status = cudaLaunchKernelEx(&config, kernel, std::forward<Args>(args)...);
#else
  const cudaError_t status = emu::launch(kernel, grid, block, shared_bytes, std::forward<Args>(args)...);
#endif
  if (status != cudaSuccess) check(status, kernel_name(function).c_str());
  if (waits) wait_for(stream, name.c_str());
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
