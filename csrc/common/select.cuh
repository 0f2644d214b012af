// Block-wide radix select: the k largest of many keys, without sorting them.
#pragma once

#include <cstdint>

#include "common/cuda.cuh"

namespace ssd {

constexpr int kDigitBits = 8;
constexpr int kDigits = 1 << kDigitBits;

struct SelectShared {  // scratch in shared memory
  // The bin that holds the k-th largest key: which, keys in higher bins, keys in it. The compiler may read all three by
  // one instruction of 16 bytes, while other threads already zero the histogram or num_selected. What it reads too many
  // is never used, but racecheck reports it, so these 16 bytes are the bin's alone.
  struct alignas(16) Bin {
    int digit, above, inside;
  };
  int histogram[kDigits];
  Bin bin;
  int num_selected;
};

// Finds the bin in which the wanted-th largest key lies, by the histogram. Called by the first warp.
inline __device__ void find_bin(SelectShared& shared, int wanted) {
  constexpr int kBinsPerLane = kDigits / kWarpSize;
  const int lane = static_cast<int>(threadIdx.x);
  const int highest = kDigits - 1 - lane * kBinsPerLane;  // lane 0 has the highest bins
  int sum = 0;
  for (int i = 0; i < kBinsPerLane; ++i) sum += shared.histogram[highest - i];
  int inclusive = sum;
  for (int offset = 1; offset < kWarpSize; offset *= 2) {
    const int lower = __shfl_up_sync(kFullWarp, inclusive, offset);
    if (lane >= offset) inclusive += lower;
  }
  int above = inclusive - sum;
  const bool mine = above < wanted && wanted <= inclusive;
  if (mine) {
    int i = 0;
    while (above + shared.histogram[highest - i] < wanted) above += shared.histogram[highest - i++];
    shared.bin.digit = highest - i;
    shared.bin.above = above;
    shared.bin.inside = shared.histogram[highest - i];
  }
  if (!__any_sync(kFullWarp, mine) && lane == 0) shared.bin.digit = -1;  // fewer than `wanted` keys
}

// The least of the (up to) `wanted` largest of the keys source(0 .. count-1) that are below `bound` and not 0; 1 if
// there are fewer. Keys other than 0 must be distinct. All threads of the block call it; it begins with a barrier
// (after which whatever was read before may be overwritten) and ends with one.
template <typename Source>
__device__ uint64_t block_threshold(const Source& source, int count, uint64_t bound, int wanted, SelectShared& shared) {
  uint64_t threshold = 1;  // keys from here up are selected
  uint64_t prefix = 0;     // of the wanted-th largest key, as far as it is known
  int rank = wanted;       // of that key among those with the prefix
  for (int shift = 64 - kDigitBits; shift >= 0; shift -= kDigitBits) {
    for (int i = threadIdx.x; i < kDigits; i += blockDim.x) shared.histogram[i] = 0;
    __syncthreads();
    const uint64_t known = shift + kDigitBits < 64 ? ~uint64_t{0} << (shift + kDigitBits) : 0;
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
      const uint64_t key = source(i);
      if (key == 0 || key >= bound || (key & known) != prefix) continue;
      atomicAdd(&shared.histogram[static_cast<int>(key >> shift) & (kDigits - 1)], 1);
    }
    __syncthreads();
    if (threadIdx.x < kWarpSize) find_bin(shared, rank);
    __syncthreads();
    if (shared.bin.digit < 0) break;  // there are not that many keys: all are selected
    prefix |= static_cast<uint64_t>(shared.bin.digit) << shift;
    rank -= shared.bin.above;
    threshold = prefix;
    if (shared.bin.inside == rank) break;  // the whole bin is selected: its lower digits do not matter
  }
  return threshold;
}

// Writes those keys to `selected`, in any order, and returns how many they are. Begins and ends with a barrier.
template <typename Source>
__device__ int block_select(const Source& source, int count, uint64_t bound, int wanted, uint64_t* selected,
                            SelectShared& shared) {
  const uint64_t threshold = block_threshold(source, count, bound, wanted, shared);
  if (threadIdx.x == 0) shared.num_selected = 0;
  __syncthreads();
  for (int i = threadIdx.x; i < count; i += blockDim.x) {
    const uint64_t key = source(i);
    if (key != 0 && key < bound && key >= threshold) selected[atomicAdd(&shared.num_selected, 1)] = key;
  }
  __syncthreads();
  return shared.num_selected;
}

}  // namespace ssd
