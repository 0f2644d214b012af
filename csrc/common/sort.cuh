// Block-wide sort of keys in shared memory, and the largest of many keys in order.
#pragma once

#include <cstdint>

#include "common/cuda.cuh"
#include "common/select.cuh"

namespace ssd {

inline __host__ __device__ int next_power_of_two(int value) {
  int power = 1;
  while (power < value) power *= 2;
  return power;
}

// Sorts keys[0, size) descending, size a power of two, by a bitonic network. All threads of the block call it, after a
// barrier; it ends with one. Where pairs are at most a warp apart, no other warp touches the 64 keys of a warp's pairs.
inline __device__ void block_sort_descending(uint64_t* keys, int size) {
  for (int run = 2; run <= size; run *= 2) {
    for (int distance = run / 2; distance > 0; distance /= 2) {
      for (int pair = threadIdx.x; pair < size / 2; pair += blockDim.x) {
        const int low = 2 * pair - (pair & (distance - 1));
        const int high = low + distance;
        const bool descending = (low & run) == 0;
        const uint64_t a = keys[low];
        const uint64_t b = keys[high];
        if ((a < b) == descending) {
          keys[low] = b;
          keys[high] = a;
        }
      }
      const int next_distance = distance > 1 ? distance / 2 : run;
      if (max(distance, next_distance) <= kWarpSize) {
        __syncwarp();
      } else {
        __syncthreads();
      }
    }
  }
  __syncthreads();
}

// The lanes' keys in descending order, lane 0's the largest. Called by a whole warp.
inline __device__ uint64_t warp_sort_descending(uint64_t key) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
#pragma unroll
  for (int run = 2; run <= kWarpSize; run *= 2) {
#pragma unroll
    for (int distance = run / 2; distance > 0; distance /= 2) {
      const uint64_t other = __shfl_xor_sync(kFullWarp, key, distance);
      const bool takes_larger = ((lane & distance) == 0) == ((lane & run) == 0);
      if ((other > key) == takes_larger) key = other;
    }
  }
  return key;
}

// Fills keys[count, its next power of two) with 0 and sorts all. Begins and ends with a barrier.
inline __device__ void block_pad_and_sort(uint64_t* keys, int count) {
  const int padded = next_power_of_two(count);
  for (int i = count + static_cast<int>(threadIdx.x); i < padded; i += blockDim.x) keys[i] = 0;
  __syncthreads();
  block_sort_descending(keys, padded);
}

// block_select, with the selected keys in descending order. `selected` holds next_power_of_two(wanted) keys.
template <typename Source>
__device__ int block_select_sorted(const Source& source, int count, uint64_t bound, int wanted, uint64_t* selected,
                                   SelectShared& shared) {
  const int found = block_select(source, count, bound, wanted, selected, shared);
  block_pad_and_sort(selected, found);
  return found;
}

}  // namespace ssd
