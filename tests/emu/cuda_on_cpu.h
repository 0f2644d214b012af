// cuda_on_cpu.h: what common/cuda.cuh includes instead of CUDA when a host compiler builds the kernels.
// Types, declarations, fp16 and bf16 are the CUDA toolkit's own; the built-in variables, the device functions and the
// few host functions that the project calls are the emulator's.
#pragma once

#ifdef __CUDACC__
#error "cuda_on_cpu.h is for host compilers: include common/cuda.cuh"
#endif

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>
#include <vector_functions.h>

#include <cstddef>
#include <tuple>
#include <utility>

// The toolkit leaves __global__, __device__ and __host__ empty for host compilers. These it does not:
#undef __shared__
#define __shared__ _Pragma("GCC error \"declare shared memory with SSD_SHARED or SSD_DYN_SHARED\"")
#undef __constant__
#define __constant__ static
#undef __launch_bounds__
#define __launch_bounds__(...)
#undef __grid_constant__
#define __grid_constant__

extern uint3 threadIdx;
extern uint3 blockIdx;
extern dim3 blockDim;
extern dim3 gridDim;

namespace emu {

// A kernel with its arguments, as the scheduler sees it.
struct Kernel {
  const void* function;  // names it in reports and keys its attributes
  void (*call)(void*);   // runs it for the thread that threadIdx and blockIdx name
  void* arguments;
  std::size_t argument_bytes;
};

struct LaunchConfig {
  dim3 grid;
  dim3 block;
  std::size_t dynamic_shared_bytes = 0;
  cudaStream_t stream = nullptr;
  bool cooperative = false;
  bool programmatic = false;
  unsigned cluster_size = 1;
};

cudaError_t run(const Kernel& kernel, const LaunchConfig& config);

template <class... Params, class... Args>
cudaError_t launch(void (*kernel)(Params...), const LaunchConfig& config, Args&&... args) {
  struct Call {
    void (*kernel)(Params...);
    std::tuple<Params...> arguments;
  };
  Call call{kernel, std::tuple<Params...>(std::forward<Args>(args)...)};
  const auto run_one_thread = [](void* data) {
    const Call* call = static_cast<const Call*>(data);
    std::apply(call->kernel, call->arguments);
  };
  return run({reinterpret_cast<const void*>(kernel), run_one_thread, &call, sizeof call}, config);
}

// Static shared memory: every SSD_SHARED in the program has a number, every block an array of memory by that number.
int new_shared_variable(std::size_t bytes, std::size_t alignment);
void* shared_variable(int number);
void* dynamic_shared_memory();

template <class T, class Tag>
struct SharedVariable {
  static inline const int number = new_shared_variable(sizeof(T), alignof(T));
};

// The tag is the type of a lambda: each SSD_SHARED, and each instantiation of the kernel around it, has its own.
template <class T, class Tag>
T& shared(Tag) {
  return *static_cast<T*>(shared_variable(SharedVariable<T, Tag>::number));
}

}  // namespace emu

#define SSD_SHARED(name, ...) auto& name = ::emu::shared<__VA_ARGS__>([] {})
#define SSD_DYN_SHARED(T, name) T* name = static_cast<T*>(::emu::dynamic_shared_memory())

#include "emu/device_atomics.h"
#include "emu/device_math.h"
#include "emu/device_sync.h"
