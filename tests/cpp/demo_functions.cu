// demo_functions.cu: kernels that call everything a kernel can call - 16-bit types, atomics, warp and scalar functions,
// dynamic shared memory of any size - whereas those of demo.cu work as the project's do.
#include "common/cuda.cuh"
#include "demo_task.h"

namespace ssd::demo {
namespace {

// ---- types, atomics, functions --------------------------------------------------------------------------------------

template <class Half>
__global__ void axpy_kernel(const Half* __restrict__ x, Half* __restrict__ y, float a, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) y[i] = Half(a * static_cast<float>(x[i]) + static_cast<float>(y[i]));
}

template <Fault kFault>
__global__ void histogram_kernel(const int* __restrict__ x, int n, int* counts, unsigned* seen, float* total) {
  SSD_SHARED(block_counts, int[16]);
  if (threadIdx.x < 16) block_counts[threadIdx.x] = 0;
  __syncthreads();
  const int stride = static_cast<int>(gridDim.x * blockDim.x);
  for (int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); i < n; i += stride) {
    atomicAdd(&block_counts[x[i]], 1);
    atomicOr(&seen[i / 32], 1u << (i % 32));
    atomicAdd(total, 0.5f);
  }
  if (kFault != Fault::kHistogramBarrierMissing) __syncthreads();
  if (threadIdx.x < 16) atomicAdd(&counts[threadIdx.x], block_counts[threadIdx.x]);
}

// Adds 1 to the result for each check that holds.
__global__ void functions_kernel(int* out) {
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % kWarpSize;
  int right = 0;

  const unsigned peers = __match_any_sync(kFullWarp, lane % 5);
  right += __ffs(static_cast<int>(peers)) - 1 == lane % 5;
  right += __match_any_sync(kFullWarp, static_cast<unsigned long long>(lane)) == 1u << lane;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
  right += 4;  // which these GPUs lack
#else
  right += __reduce_add_sync(kFullWarp, lane) == 496;
  right += __reduce_min_sync(kFullWarp, lane - 16) == -16;
  right += __reduce_max_sync(kFullWarp, static_cast<unsigned>(lane - 16)) == 0xffffffffu;
  right += __reduce_or_sync(kFullWarp, 1u << lane) == kFullWarp;
#endif
  right += __any_sync(kFullWarp, lane == 7) != 0;
  right += __all_sync(kFullWarp, lane != 7) == 0;
  int low_lane = 3;
  if (lane < 20) low_lane = __shfl_sync(0x000fffffu, lane, 3);  // some lanes only
  right += low_lane == 3;
  right += __shfl_up_sync(kFullWarp, lane, 1, 8) == (lane % 8 == 0 ? lane : lane - 1);
  right += __shfl_down_sync(kFullWarp, lane, 1, 8) == (lane % 8 == 7 ? lane : lane + 1);
  right += __shfl_xor_sync(kFullWarp, static_cast<double>(lane), 5) == static_cast<double>(lane ^ 5);
  right += __shfl_sync(kFullWarp, static_cast<long long>(lane) << 40, 9) == 9ll << 40;
  const __half half = __shfl_xor_sync(kFullWarp, __float2half(static_cast<float>(lane)), 1);
  right += __half2float(half) == static_cast<float>(lane ^ 1);

  right += __syncthreads_count(thread % 4 == 0) == 16;
  right += __syncthreads_or(thread == 63) != 0;
  right += __syncthreads_and(thread != 63) == 0;

  right += __brev(1u) == 0x80000000u && __clz(1) == 31 && __clzll(1) == 63 && __popcll(~0ull) == 64;
  right += __ffsll(1ll << 40) == 41 && __umulhi(0x80000000u, 4u) == 2u;
  right += __float_as_int(1.0f) == 0x3f800000 && __uint_as_float(0x40000000u) == 2.0f;
  right += __fmaf_rn(2.0f, 3.0f, 4.0f) == 10.0f && __fdiv_rn(1.0f, 4.0f) == 0.25f && __dmul_rn(3.0, 0.5) == 1.5;
  right += max(1.0f, NAN) == 1.0f && min(3u, 2u) == 2u;

  SSD_SHARED(number, unsigned long long);
  if (thread == 0) number = 0;
  __syncthreads();
  atomicMax(&number, static_cast<unsigned long long>(thread) << 32);
  __syncthreads();
  right += number == 63ull << 32;
  __syncthreads();
  if (thread == 0)
    right += atomicCAS(&number, 63ull << 32, 5ull) == 63ull << 32 && atomicExch(&number, 6ull) == 5;
  else
    right += 1;
  out[thread] = right;
}

// ---- dynamic shared memory of any size ------------------------------------------------------------------------------

template <int kVariant>
__global__ void count_in_shared_memory_kernel(int n, int* __restrict__ out) {
  SSD_DYN_SHARED(int, numbers);
  for (int i = static_cast<int>(threadIdx.x); i < n; i += static_cast<int>(blockDim.x)) {
    numbers[i] = i;
    out[i] = numbers[i];
  }
}

}  // namespace

// ---- launchers -----------------------------------------------------------------------------------------------------

void half_axpy(const uint16_t* x, uint16_t* y, float a, int n, Stream stream) {
  launch(axpy_kernel<__half>, dim3(static_cast<unsigned>(ceil_div(n, 128))), dim3(128), 0, stream,
         reinterpret_cast<const __half*>(x), reinterpret_cast<__half*>(y), a, n);
}

void bfloat16_axpy(const uint16_t* x, uint16_t* y, float a, int n, Stream stream) {
  launch(axpy_kernel<__nv_bfloat16>, dim3(static_cast<unsigned>(ceil_div(n, 128))), dim3(128), 0, stream,
         reinterpret_cast<const __nv_bfloat16*>(x), reinterpret_cast<__nv_bfloat16*>(y), a, n);
}

void histogram(const int* x, int n, int* counts, unsigned* seen, float* total, Stream stream, Fault fault) {
  auto kernel = histogram_kernel<Fault::kNone>;
  if (fault == Fault::kHistogramBarrierMissing) kernel = histogram_kernel<Fault::kHistogramBarrierMissing>;
  launch(kernel, dim3(4), dim3(64), 0, stream, x, n, counts, seen, total);
}

void functions(int* out, Stream stream) { launch(functions_kernel, dim3(1), dim3(64), 0, stream, out); }

void count_in_shared_memory(int variant, int n, int* out, Stream stream) {
  auto kernel = variant == 0   ? count_in_shared_memory_kernel<0>
                : variant == 1 ? count_in_shared_memory_kernel<1>
                               : count_in_shared_memory_kernel<2>;
  launch(kernel, dim3(1), dim3(64), n * sizeof(int), stream, n, out);
}

}  // namespace ssd::demo
