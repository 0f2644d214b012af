// launch.cuh: how the host starts kernels and clears memory, on the device and in the order of a stream. Kernels get it
// by cuda.cuh.
#pragma once

#include <cstddef>
#include <string>
#include <utility>

#include "common/prepare.cuh"
#include "common/stream.h"

namespace ssd {

// Throws std::runtime_error "ssd_fast: <what>: <CUDA's message>" unless status is cudaSuccess.
void check(cudaError_t status, const char* what);

// As the source spells it, for messages; "kernel" where CUDA is too old to tell.
std::string kernel_name(const void* kernel);

// Whether the environment has SSD_FAST_SYNC=1: then whatever goes to a stream is waited for, so that an error is blamed
// on what made it. Read once per process.
bool waits_for_launches();

// Waits for the stream, unless it is being captured, and throws if what it has run failed.
void wait_for(Stream stream, const char* what);

// Starts kernel(args...) on the stream, whose device must be current (DeviceGuard). Throws if it cannot be started; if
// launches are waited for, or with the emulator, which runs the kernel to its end, also if the kernel itself failed.
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

// Makes the stream's device current, and the former one again at the end of the scope. Nothing to do for host memory.
class DeviceGuard {
 public:
  explicit DeviceGuard(Stream stream);
  ~DeviceGuard();
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int former_ = -1;
};

// Sets bytes to 0 in the stream's order. The stream's device must be current.
void zero_async(void* data, size_t bytes, Stream stream);

}  // namespace ssd
