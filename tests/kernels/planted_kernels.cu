// Kernels of which tests/kernels/test_sass.py knows what is to be counted. They are compiled, and never run.
#include <cuda_pipeline_primitives.h>

#include <cstdint>

extern "C" {

__global__ void integer_division(float* y, const float* x, int n, int columns) {
#pragma unroll 1
  for (int i = threadIdx.x; i < n; i += 256) y[i] = x[i % (columns + i)];
}

__global__ void long_division(float* y, const float* x, int64_t n, int64_t columns) {
#pragma unroll 1
  for (int64_t i = threadIdx.x; i < n; i += 256) y[i] = x[i % (columns + i)];
}

__global__ void constant_division(float* y, const float* x, int n) {
#pragma unroll 1
  for (int i = threadIdx.x; i < n; i += 256) y[i] = x[i / 3];
}

__global__ void division(float* y, const float* x, int n) {
#pragma unroll 1
  for (int i = threadIdx.x; i < n; i += 256) y[i] = x[n] / x[i];
}

__global__ void double_division(double* y, const double* x, int n) {
#pragma unroll 1
  for (int i = threadIdx.x; i < n; i += 256) y[i] = x[n] / x[i];
}

__global__ void no_division(float* y, const float* x, int n) {
#pragma unroll 1
  for (int i = threadIdx.x; i < n; i += 256) y[i] = x[i] * 3.0f;
}

__global__ void one_load(float* y, const float* x, int n) {
  float sum = 0;
#pragma unroll 1
  for (int i = threadIdx.x; i < n; i += 256) sum += x[i];
  y[threadIdx.x] = sum;
}

__global__ void eight_loads(float* y, const float* x, int n) {
  float sum = 0;
#pragma unroll 1
  for (int i = threadIdx.x; i < n; i += 2048) {
    float v[8];
#pragma unroll
    for (int k = 0; k < 8; ++k) v[k] = x[i + 256 * k];
#pragma unroll
    for (int k = 0; k < 8; ++k) sum += v[k];
  }
  y[threadIdx.x] = sum;
}

__global__ void dependent_loads(float* y, const float* x, const int* places, int n) {
  float sum = 0;
#pragma unroll 1
  for (int i = threadIdx.x; i < n; i += 256) sum += x[places[i]];
  y[threadIdx.x] = sum;
}

__global__ void wide_loads(float4* y, const float4* x, int n) {
#pragma unroll 1
  for (int i = threadIdx.x; i < n; i += 256) y[i] = x[i];
}

__global__ void three_stages(float* y, const float4* x, int n) {
  __shared__ float4 ring[3][256];
  for (int i = 0; i < 2; ++i) {
    __pipeline_memcpy_async(&ring[i][threadIdx.x], &x[i * 256 + threadIdx.x], 16);
    __pipeline_commit();
  }
  float sum = 0;
#pragma unroll 1
  for (int i = 2; i < n; ++i) {
    __pipeline_memcpy_async(&ring[i % 3][threadIdx.x], &x[i * 256 + threadIdx.x], 16);
    __pipeline_commit();
    __pipeline_wait_prior(2);
    sum += ring[(i - 2) % 3][threadIdx.x].x;
  }
  y[threadIdx.x] = sum;
}

__global__ void copies_waited_for_later(float* y, const float4* x, int n) {
  __shared__ float4 tile[1024];
#pragma unroll 1
  for (int i = threadIdx.x; i < n; i += 256) __pipeline_memcpy_async(&tile[i], &x[i], 16);
  __pipeline_commit();
  __pipeline_wait_prior(0);
  y[threadIdx.x] = tile[threadIdx.x].x;
}

__global__ void bulk_copies(float* y, const float4* x, int n) {
  __shared__ alignas(128) float4 tile[256];
  __shared__ uint64_t arrived;
  const unsigned barrier = static_cast<unsigned>(__cvta_generic_to_shared(&arrived));
  const unsigned goal = static_cast<unsigned>(__cvta_generic_to_shared(tile));
  if (threadIdx.x == 0) asm volatile("mbarrier.init.shared.b64 [%0], 1;" ::"r"(barrier));
  __syncthreads();
  float sum = 0;
#pragma unroll 1
  for (int i = 0; i < n; ++i) {
    if (threadIdx.x == 0) {
      asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], 4096;" ::"r"(barrier));
      asm volatile(
          "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], 4096, [%2];" ::"r"(goal),
          "l"(x + i * 256), "r"(barrier)
          : "memory");
    }
    unsigned done;
    do {
      asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
                   : "=r"(done)
                   : "r"(barrier), "r"(i & 1)
                   : "memory");
    } while (!done);
    sum += tile[threadIdx.x].x;
    __syncthreads();
  }
  y[threadIdx.x] = sum;
}

__global__ void shared_loads(float* y, int n) {
  __shared__ float tile[1024];
  float sum = 0;
#pragma unroll 1
  for (int i = threadIdx.x; i < n; i += 256) sum += tile[i];
  y[threadIdx.x] = sum;
}

__global__ void shared_maximum(const float* x, unsigned long long* y, int n) {
  __shared__ unsigned long long best;
#pragma unroll 1
  for (int i = threadIdx.x; i < n; i += 256) atomicMax(&best, static_cast<unsigned long long>(x[i]));
  __syncthreads();
  *y = best;
}

__global__ void ticket(int* y, int* counter) {
  y[threadIdx.x] = threadIdx.x;
  __threadfence();
  if (atomicAdd(counter, 1) == 9) y[0] = y[1];
}

__global__ void no_loop(float* y, const float* x) {
  if (x[0] > 0) y[threadIdx.x] = x[threadIdx.x + 1];
}

__global__ void __launch_bounds__(1024, 2) spilling(float* y, const float* x, int n) {
  float v[96];
#pragma unroll
  for (int k = 0; k < 96; ++k) v[k] = x[threadIdx.x + 1024 * k];
  for (int i = 0; i < n; ++i) {
#pragma unroll
    for (int k = 0; k < 96; ++k) v[k] = v[k] * v[(k * 7 + 1) % 96] + x[i];
  }
#pragma unroll
  for (int k = 0; k < 96; ++k) y[threadIdx.x + 1024 * k] = v[k];
}
}
