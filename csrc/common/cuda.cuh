// cuda.cuh: the only header that kernels include.
//
// Under nvcc this is CUDA. Under a host compiler the same kernel source is built against tests/emu, which runs it on
// the CPU and checks it. What that asks of kernels:
//   - shared memory is declared with SSD_SHARED(name, T[N]) and SSD_DYN_SHARED(T, name), never with bare __shared__;
//   - kernels are started with ssd::launch, never with <<<>>>;
//   - warp functions are the *_sync forms; at most one barrier on a source line; threads spin on atomics only;
//   - min and max take two values of one type; no inline PTX, CUB or Thrust.
#pragma once

#include <cxxabi.h>

#include <cstddef>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#include "common/stream.h"

#ifdef __CUDACC__

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

namespace ssd {
template <class T>
using SharedType = T;  // lets an array type such as float[32] stand before the name
}

// SSD_SHARED(tile, float[32]) is `__shared__ float tile[32]`.
#define SSD_SHARED(name, ...) __shared__::ssd::SharedType<__VA_ARGS__> name

// SSD_DYN_SHARED(float, tile): the launch's dynamic shared memory as a float*, 16-byte aligned.
#define SSD_DYN_SHARED(T, name)                                              \
  extern __shared__ __align__(16) unsigned char ssd_dynamic_shared_memory[]; \
  T* name = reinterpret_cast<T*>(ssd_dynamic_shared_memory)

#else
#include "emu/cuda_on_cpu.h"
#endif

namespace ssd {

constexpr int kWarpSize = 32;
constexpr unsigned kFullWarp = 0xffffffffu;  // the mask of a collective that all 32 lanes take part in

// Past 48 KB of static and dynamic shared memory together, a kernel must opt in. The static part is not known here, so
// launch opts in early; asking for less than 48 KB is allowed and changes nothing.
constexpr size_t kSharedOptInBytes = 16 * 1024;

template <class A, class B>
__host__ __device__ constexpr std::common_type_t<A, B> ceil_div(A a, B b) {
  return (a + b - 1) / b;
}

// Throws std::runtime_error "ssd_fast: <what>: <CUDA's message>" unless status is cudaSuccess.
inline void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  const std::string message = std::string("ssd_fast: ") + what + ": " + cudaGetErrorString(status);
  cudaGetLastError();  // reported here, so leave nothing for the caller's next CUDA call to find
  throw std::runtime_error(message);
}

inline std::string kernel_name(const void* kernel) {
#if CUDART_VERSION >= 12030
  const char* mangled = nullptr;
  if (cudaFuncGetName(&mangled, kernel) == cudaSuccess && mangled != nullptr) {
    char* readable = abi::__cxa_demangle(mangled, nullptr, nullptr, nullptr);
    const std::string name = readable != nullptr ? readable : mangled;
    std::free(readable);
    return name;
  }
#endif
  (void)kernel;
  return "kernel";
}

// Starts kernel(args...) on the stream, whose device must be current (DeviceGuard). Throws if it cannot be started;
// with the emulator, which runs the kernel to its end before it returns, also if the kernel itself failed.
template <class... Params, class... Args>
void launch(void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared_bytes, Stream stream, Args&&... args) {
  const void* function = reinterpret_cast<const void*>(kernel);
  cudaError_t status = cudaSuccess;
  if (shared_bytes > kSharedOptInBytes) {
    status =
        cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes));
  }
  if (status == cudaSuccess) {
#ifdef __CUDACC__
    cudaLaunchConfig_t config{};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared_bytes;
    config.stream = static_cast<cudaStream_t>(stream.handle);
    status = cudaLaunchKernelEx(&config, kernel, std::forward<Args>(args)...);
#else
    (void)stream;
    status = emu::launch(kernel, grid, block, shared_bytes, std::forward<Args>(args)...);
#endif
  }
  if (status != cudaSuccess) check(status, kernel_name(function).c_str());
}

// Makes the stream's device current, and the former one again at the end of the scope. Nothing to do for host memory.
class DeviceGuard {
 public:
  explicit DeviceGuard(Stream stream) {
    if (stream.device < 0) return;
    int current = 0;
    check(cudaGetDevice(&current), "cudaGetDevice");
    if (current == stream.device) return;
    check(cudaSetDevice(stream.device), "cudaSetDevice");
    former_ = current;
  }
  ~DeviceGuard() {
    if (former_ >= 0) cudaSetDevice(former_);
  }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int former_ = -1;
};

// Sets bytes to 0 in the stream's order.
inline void zero_async(void* data, size_t bytes, Stream stream) {
  if (bytes == 0) return;
  check(cudaMemsetAsync(data, 0, bytes, static_cast<cudaStream_t>(stream.handle)), "cudaMemsetAsync");
}

}  // namespace ssd
