// demo_faults.cu: kernels that are always wrong, to test that the emulator or its checker says so.
#include "common/async_copy.cuh"
#include "common/cuda.cuh"
#include "common/grid.cuh"
#include "demo_task.h"

namespace ssd::demo {
namespace {

__global__ void write_twice_kernel(int* out) {
  if (threadIdx.x % kWarpSize == 0) out[0] = static_cast<int>(threadIdx.x);
}

__global__ void read_beside_atomic_kernel(int* value, int* out) {
  if (threadIdx.x == 0) atomicAdd(value, 1);
  if (threadIdx.x == 32) out[0] = *value;
}

// The lower half writes, the upper half reads, and each waits for itself only.
__global__ void synchronize_halves_kernel(int* out) {
  SSD_SHARED(values, int[16]);
  if (threadIdx.x < 16) values[threadIdx.x] = 1;
  __syncwarp(threadIdx.x < 16 ? 0x0000ffffu : 0xffff0000u);
  if (threadIdx.x >= 16) out[threadIdx.x] = values[threadIdx.x - 16];
}

__global__ void diverge_at_barrier_kernel(int* out) {
  if (threadIdx.x % 2 == 1) {
    __syncthreads();
    out[threadIdx.x] = 1;
  } else {
    out[threadIdx.x] = 2;
    __syncthreads();
  }
}

__global__ void leave_out_a_lane_kernel(int* out) {
  int value = static_cast<int>(threadIdx.x);
  if (threadIdx.x == 5) {
    __syncthreads();
  } else {
    value = __shfl_down_sync(kFullWarp, value, 1);
  }
  out[threadIdx.x] = value;
}

__global__ void spin_forever_kernel(int* flag) {
  while (atomicAdd(flag, 0) == 0) __nanosleep(100);
}

__global__ void copy_kernel(const int* from, int* to) { to[threadIdx.x] = from[threadIdx.x]; }

__global__ void use_dynamic_shared_kernel(int* out) {
  SSD_DYN_SHARED(int, values);
  values[threadIdx.x] = 1;
  out[threadIdx.x] = values[threadIdx.x];
}

__global__ void meet_kernel(int* out) {
  grid_barrier();
  if (threadIdx.x == 0) out[blockIdx.x] = 1;
}

// The first block waits twice for the second, which exits after the first time. If late, it asks only then where the
// second's memory is.
__global__ void take_from_exited_kernel(int* out, bool late) {
  SSD_SHARED(number, int);
  number = 1;
  const int* other = late ? nullptr : shared_of_block(&number, 1);
  cluster_barrier();
  if (cluster_rank() == 1) return;
  cluster_barrier();
  if (late) other = shared_of_block(&number, 1);
  out[0] = *other;
}

__global__ void abandon_copy_kernel(const int4* from) {
  SSD_SHARED(to, int4);
  __pipeline_memcpy_async(&to, from, sizeof(int4));
  __pipeline_commit();
}

}  // namespace

void write_twice(int* out, Stream stream) { launch(write_twice_kernel, dim3(1), dim3(64), 0, stream, out); }

void read_beside_atomic(int* value, int* out, Stream stream) {
  launch(read_beside_atomic_kernel, dim3(1), dim3(64), 0, stream, value, out);
}

void synchronize_halves(int* out, Stream stream) {
  launch(synchronize_halves_kernel, dim3(1), dim3(32), 0, stream, out);
}

void diverge_at_barrier(int* out, Stream stream) {
  launch(diverge_at_barrier_kernel, dim3(1), dim3(64), 0, stream, out);
}

void leave_out_a_lane(int* out, Stream stream) { launch(leave_out_a_lane_kernel, dim3(1), dim3(32), 0, stream, out); }

void spin_forever(int* flag, Stream stream) { launch(spin_forever_kernel, dim3(1), dim3(1), 0, stream, flag); }

void read_host_memory(const int* host, int* out, Stream stream) {
  launch(copy_kernel, dim3(1), dim3(1), 0, stream, host, out);
}

void use_after_free(const int* freed, int* out, Stream stream) {
  launch(copy_kernel, dim3(1), dim3(1), 0, stream, freed, out);
}

void ask_for_no_shared_memory(int* out, Stream stream) {
  launch(use_dynamic_shared_kernel, dim3(1), dim3(32), 0, stream, out);
}

void meet_without_attribute(int* out, Stream stream) { launch(meet_kernel, dim3(2), dim3(32), 0, stream, out); }

void take_from_exited(int* out, bool late, Stream stream) {
  launch(take_from_exited_kernel, in_clusters_of(2), dim3(2), dim3(1), 0, stream, out, late);
}

void abandon_copy(const Quadruple* from, Stream stream) {
  launch(abandon_copy_kernel, dim3(1), dim3(1), 0, stream, reinterpret_cast<const int4*>(from));
}

}  // namespace ssd::demo
