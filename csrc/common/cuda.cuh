// cuda.cuh: the header that every kernel includes; grid.cuh and async_copy.cuh are for kernels that need them.
//
// Under nvcc this is CUDA. Under a host compiler the same kernel source is built against tests/emu, which runs it on
// the CPU and checks it. For that, kernels keep these rules:
//   - shared memory is declared with SSD_SHARED(name, T[N]) and SSD_DYN_SHARED(T, name), never with bare __shared__;
//   - kernels are started with ssd::launch, never with <<<>>>;
//   - warp functions are the *_sync forms; at most one barrier on a source line; threads spin on atomics only;
//   - min and max take two values of one type; no inline PTX, CUB or Thrust.
#pragma once

#include <type_traits>

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

template <class A, class B>
__host__ __device__ constexpr std::common_type_t<A, B> ceil_div(A a, B b) {
  return (a + b - 1) / b;
}

}  // namespace ssd

#include "common/launch.cuh"
