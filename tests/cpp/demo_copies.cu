// demo_copies.cu: kernels with asynchronous copies, and with fences and atomics that hold within a block only. Each can
// be run with a planted fault.
#include "common/async_copy.cuh"
#include "common/cuda.cuh"
#include "demo_task.h"

namespace ssd::demo {
namespace {

// ---- copies ---------------------------------------------------------------------------------------------------------

constexpr int kTile = 64;  // quadruples, one per thread

// Thread t copies quadruple t of the tile. Past the end, its place becomes zero.
__device__ void copy_tile(int4* tile, const int4* x, int n, int first) {
  const int thread = static_cast<int>(threadIdx.x);
  const int i = first + thread;
  if (i < n) {
    __pipeline_memcpy_async(&tile[thread], &x[i], sizeof(int4));
  } else {
    __pipeline_memcpy_async(&tile[thread], &x[0], sizeof(int4), sizeof(int4));
  }
}

// While one tile is added up, the next is on its way.
__global__ void sum_tiles_kernel(int4* x, int n, int* sums, Fault fault) {
  SSD_SHARED(tiles, int4[2][kTile]);
  const int thread = static_cast<int>(threadIdx.x);
  const int count = ceil_div(n, kTile);
  int sum = 0;
  copy_tile(tiles[0], x, n, 0);
  __pipeline_commit();
  for (int k = 0; k < count; ++k) {
    if (k + 1 < count) copy_tile(tiles[(k + 1) % 2], x, n, (k + 1) * kTile);
    if (fault == Fault::kCopySourceWritten && k == 0) x[kTile + thread] = int4{0, 0, 0, 0};
    if (fault == Fault::kCopyDestinationWritten && k == 0) tiles[1][thread] = int4{0, 0, 0, 0};
    if (fault != Fault::kCopyNotCommitted) __pipeline_commit();
    if (fault == Fault::kCopyNotAwaited) {
      __pipeline_wait_prior(2);  // mutate: harmless because only a planted fault comes here
    } else {
      __pipeline_wait_prior(1);
    }
    if (fault == Fault::kCopyShuffled) {
      __shfl_xor_sync(kFullWarp, 0, 1);
    } else if (fault != Fault::kCopyBarrierMissing) {
      __syncthreads();
    }
    const int4 numbers = tiles[k % 2][fault == Fault::kCopyShuffled ? thread ^ 1 : kTile - 1 - thread];
    sum += numbers.x + numbers.y + numbers.z + numbers.w;
    __syncthreads();  // the tile has been read: the round after the next copies into it
  }
  sums[thread] = sum;
}

__global__ void copy_one_kernel(const char* from, int bytes, int* out) {
  SSD_SHARED(to, int4);
  __pipeline_memcpy_async(&to, from, static_cast<size_t>(bytes));
  __pipeline_commit();
  __pipeline_wait_prior(0);
  out[0] = to.x;
}

// Copies x[0] twice, and writes it when only the first copy has been waited for.
__global__ void copy_twice_kernel(int* x, int* out) {
  SSD_SHARED(to, int[2]);
  for (int i = 0; i < 2; ++i) {
    __pipeline_memcpy_async(&to[i], x, sizeof(int));
    __pipeline_commit();
  }
  __pipeline_wait_prior(1);
  x[0] = 7;
  __pipeline_wait_prior(0);
  out[0] = to[0] + to[1];
}

// ---- scopes ---------------------------------------------------------------------------------------------------------

// The second warp waits for the first one's value.
__global__ void wait_within_block_kernel(int* out) {
  SSD_SHARED(flag, int);
  if (threadIdx.x == 0) flag = 0;
  __syncthreads();
  if (threadIdx.x == 0) {
    out[0] = 42;
    __threadfence_block();
    atomicExch_block(&flag, 1);
  }
  if (threadIdx.x == kWarpSize) {
    while (atomicAdd_block(&flag, 0) == 0) __nanosleep(100);
    __threadfence_block();
    out[1] = out[0] + 1;
  }
}

__device__ void fence(bool narrow) {
  if (narrow) {
    __threadfence_block();  // mutate: harmless because only a planted fault comes here
  } else {
    __threadfence();
  }
}

// The second block waits for the first one's value.
__global__ void wait_across_blocks_kernel(int* flag, int* out, Fault fault) {
  if (blockIdx.x == 0) {
    out[0] = 42;
    fence(fault == Fault::kNarrowRelease);
    if (fault == Fault::kNarrowAtomic) {
      atomicExch_block(flag, 1);
    } else {
      atomicExch(flag, 1);
    }
  } else {
    while (atomicAdd(flag, 0) == 0) __nanosleep(100);
    fence(fault == Fault::kNarrowAcquire);
    out[1] = out[0] + 1;
  }
}

}  // namespace

void sum_tiles(Quadruple* x, int n, int* sums, Stream stream, Fault fault) {
  launch(sum_tiles_kernel, dim3(1), dim3(kTile), 0, stream, reinterpret_cast<int4*>(x), n, sums, fault);
}

void copy_one(const char* from, int bytes, int* out, Stream stream) {
  launch(copy_one_kernel, dim3(1), dim3(1), 0, stream, from, bytes, out);
}

void copy_twice(int* x, int* out, Stream stream) { launch(copy_twice_kernel, dim3(1), dim3(1), 0, stream, x, out); }

void wait_within_block(int* out, Stream stream) {
  launch(wait_within_block_kernel, dim3(1), dim3(2 * kWarpSize), 0, stream, out);
}

void wait_across_blocks(int* flag, int* out, Stream stream, Fault fault) {
  launch(wait_across_blocks_kernel, dim3(2), dim3(1), 0, stream, flag, out, fault);
}

}  // namespace ssd::demo
