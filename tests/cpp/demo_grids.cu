// demo_grids.cu: kernels that wait for one another, or whose blocks do: cooperative grids, programmatic launches,
// clusters. Each can be run with a planted fault.
#include "common/cuda.cuh"
#include "common/grid.cuh"
#include "demo_task.h"

namespace ssd::demo {
namespace {

// ---- a cooperative grid ---------------------------------------------------------------------------------------------

__global__ void sum_by_all_blocks_kernel(const int* __restrict__ x, int n, int* partial, int* totals, Fault fault) {
  SSD_SHARED(block_sum, int);
  const int thread = static_cast<int>(threadIdx.x);
  const int stride = static_cast<int>(gridDim.x * blockDim.x);
  const int blocks = static_cast<int>(gridDim.x);
  if (thread == 0) block_sum = 0;
  __syncthreads();
  int value = 0;
  for (int i = static_cast<int>(blockIdx.x) * static_cast<int>(blockDim.x) + thread; i < n; i += stride) value += x[i];
  atomicAdd(&block_sum, value);
  __syncthreads();
  if (thread == 0) partial[blockIdx.x] = block_sum;
  if (fault == Fault::kGridBlockMissing && blockIdx.x == 1) return;
  if (fault != Fault::kGridBarrierMissing) grid_barrier();
  int total = 0;
  if (thread == 0) {
    for (int block = 0; block < blocks; ++block) total += partial[block];
  }
  grid_barrier();  // everyone has read the partial sums
  if (thread != 0) return;
  partial[blockIdx.x] = 0;
  totals[blockIdx.x] = total;
}

// ---- a chain of programmatic launches -------------------------------------------------------------------------------
// memset of count -> double and count -> add neighbors -> overwrite.

__global__ void double_and_count_kernel(const int* __restrict__ x, int n, int* values, int* count, Fault fault) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int value = i < n ? 2 * x[i] : 0;
  if (fault != Fault::kMemsetNotAwaited) wait_for_predecessor();
  if (i < n) values[i] = value;
  if (i < n && value > 0) atomicAdd(count, 1);
  trigger_dependents();
}

__global__ void add_neighbors_kernel(const int* values, int n, int* sums, Fault fault) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const bool waits = fault != Fault::kLaunchNotAwaited && fault != Fault::kNobodyWaits;
  if (waits && threadIdx.x == 0) wait_for_predecessor();
  if (fault != Fault::kLaunchAwaitedAlone) __syncthreads();
  trigger_dependents();
  if (i >= n) return;
  sums[i] = fault == Fault::kNobodyWaits ? i : values[i] + values[(i + 1) % n];
}

__global__ void overwrite_kernel(int* values, int n, const int* sums, const int* count, int* result, Fault fault) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (fault == Fault::kOverwritesTooEarly && i < n) values[i] = -1;
  wait_for_predecessor();
  if (i >= n) return;
  result[i] = sums[i] + *count;  // of the launch before the last
  values[i] = -1;
}

// Does not wait: right only if it is not launched as programmatic, as code for an architecture below 90 never is.
__global__ void copy_early_kernel(const int* values, int n, int* copies) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) copies[i] = values[i];
}

// ---- clusters -------------------------------------------------------------------------------------------------------

constexpr unsigned kClusterSize = 4;
constexpr unsigned kClusterThreads = 64;

// Every block takes a number from its right neighbor, and gives one to its left neighbor.
__global__ void pass_on_kernel(int* out, Fault fault) {
  SSD_SHARED(numbers, int[kClusterThreads]);
  const unsigned thread = threadIdx.x;
  const unsigned rank = cluster_rank();
  const unsigned right = (rank + 1) % kClusterSize;
  const unsigned left = (rank + kClusterSize - 1) % kClusterSize;
  numbers[thread] = static_cast<int>(100 * rank + thread);
  if (fault != Fault::kClusterNotStarted) cluster_barrier();
  const int* const of_right = shared_of_block(numbers, right);
  int* const of_left = shared_of_block(numbers, left);
  const int taken = of_right[thread];
  if (fault != Fault::kClusterBarrierMissing) cluster_barrier();  // everyone has taken
  of_left[thread] = taken;
  if (fault == Fault::kClusterEndsTooEarly) return;
  cluster_barrier();  // everyone has given
  out[blockIdx.x * kClusterThreads + thread] = numbers[thread];
}

unsigned blocks_for(int n) { return static_cast<unsigned>(ceil_div(n, 64)); }

}  // namespace

int most_blocks_that_sum() {
  return static_cast<int>(most_cooperative_blocks(sum_by_all_blocks_kernel, 64, 0, Stream{}));
}

void sum_by_all_blocks(const int* x, int n, int blocks, int* partial, int* totals, Stream stream, Fault fault) {
  launch(sum_by_all_blocks_kernel, kCooperative, dim3(static_cast<unsigned>(blocks)), dim3(64), 0, stream, x, n,
         partial, totals, fault);
}

void add_doubled_neighbors(const int* x, int n, int* values, int* count, int* sums, int* result, Stream stream,
                           Fault fault) {
  const dim3 grid(blocks_for(n));
  zero_async(count, sizeof(int), stream);
  launch(double_and_count_kernel, kProgrammatic, grid, dim3(64), 0, stream, x, n, values, count, fault);
  launch(add_neighbors_kernel, kProgrammatic, grid, dim3(64), 0, stream, values, n, sums, fault);
  launch(overwrite_kernel, kProgrammatic, grid, dim3(64), 0, stream, values, n, sums, count, result, fault);
}

void zero_behind_a_chain(const int* x, int n, int* values, int* count, int* sums, Stream stream) {
  const dim3 grid(blocks_for(n));
  zero_async(count, sizeof(int), stream);
  launch(double_and_count_kernel, grid, dim3(64), 0, stream, x, n, values, count, Fault::kNone);
  launch(add_neighbors_kernel, kProgrammatic, grid, dim3(64), 0, stream, values, n, sums, Fault::kNobodyWaits);
  zero_async(values, n * sizeof(int), stream);
}

void double_numbers(const int* x, int n, int* values, int* count, Stream stream) {
  launch(double_and_count_kernel, dim3(blocks_for(n)), dim3(64), 0, stream, x, n, values, count, Fault::kNone);
}

bool copy_early(const int* values, int n, int* copies, Stream stream) {
  launch(copy_early_kernel, kProgrammatic, dim3(blocks_for(n)), dim3(64), 0, stream, values, n, copies);
  return has_clusters(copy_early_kernel, stream);
}

bool can_pass_on() { return has_clusters(pass_on_kernel, Stream{}); }

void pass_on(int clusters, int* out, Stream stream, Fault fault) {
  const dim3 grid(static_cast<unsigned>(clusters) * kClusterSize);
  launch(pass_on_kernel, in_clusters_of(kClusterSize), grid, dim3(kClusterThreads), 0, stream, out, fault);
}

}  // namespace ssd::demo
