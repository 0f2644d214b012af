// Block-wide radix select: the k largest of many keys, without sorting them.
#pragma once

#include <cstdint>

#include "common/box_math.h"
#include "common/cuda.cuh"

namespace ssd {

constexpr int kDigitBits = 8;
constexpr int kDigits = 1 << kDigitBits;

constexpr int kMaxSelectWarps = 32;

struct SelectShared {  // scratch in shared memory
  // The bin of the k-th largest key: its digit, the keys in higher bins, the keys inside. The compiler may read all
  // three with one 16-byte instruction, while other threads already zero the histogram or num_selected. The excess
  // bytes are never used, but racecheck reports their read, so these 16 bytes belong to the bin alone.
  struct alignas(16) Bin {
    int digit, above, inside;
  };
  int histogram[kDigits];
  Bin bin;
  uint64_t least[kMaxSelectWarps], greatest[kMaxSelectWarps];  // of each warp's keys
  int counts[kMaxSelectWarps];
  int num_selected;
};

// Calls use(key) for this thread's share of the keys load(0 .. count-1), skipping zeros. Several loads are in flight at
// a time.
template <typename Load, typename Use>
__device__ void for_each_key(const Load& load, int count, const Use& use) {
  constexpr int kInFlight = 4;
  const int stride = static_cast<int>(blockDim.x);
  for (int first = static_cast<int>(threadIdx.x); first < count; first += kInFlight * stride) {
    uint64_t keys[kInFlight];
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) {
      const int i = first + k * stride;
      keys[k] = i < count ? load(i) : 0;
    }
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) {
      if (keys[k] != 0) use(keys[k]);
    }
  }
}

struct KeyRange {
  uint64_t least, greatest;
  int count;
};

// The union of all lanes' ranges. Called by a whole warp.
inline __device__ KeyRange warp_range(KeyRange range) {
  for (int distance = kWarpSize / 2; distance > 0; distance /= 2) {
    range.least = min_of(range.least, __shfl_xor_sync(kFullWarp, range.least, distance));
    range.greatest = max_of(range.greatest, __shfl_xor_sync(kFullWarp, range.greatest, distance));
    range.count += __shfl_xor_sync(kFullWarp, range.count, distance);
  }
  return range;
}

// The range of all threads' keys below `bound`. All threads of the block call it; it contains one barrier.
template <typename Visit>
__device__ KeyRange key_range(const Visit& visit, uint64_t bound, SelectShared& shared) {
  constexpr KeyRange kEmpty{~uint64_t{0}, 0, 0};
  KeyRange range = kEmpty;
  visit([&](uint64_t key) {
    if (key >= bound) return;
    range = {min_of(range.least, key), max_of(range.greatest, key), range.count + 1};
  });
  range = warp_range(range);
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  if (lane == 0) {
    shared.least[warp] = range.least;
    shared.greatest[warp] = range.greatest;
    shared.counts[warp] = range.count;
  }
  __syncthreads();
  range = kEmpty;
  if (lane < static_cast<int>(blockDim.x) / kWarpSize) {
    range = {shared.least[lane], shared.greatest[lane], shared.counts[lane]};
  }
  return warp_range(range);
}

// Finds the bin of the wanted-th largest key in the histogram of at least that many. Called by the first warp.
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
  if (above < wanted && wanted <= inclusive) {
    int i = 0;
    while (above + shared.histogram[highest - i] < wanted) above += shared.histogram[highest - i++];
    shared.bin.digit = highest - i;
    shared.bin.above = above;
    shared.bin.inside = shared.histogram[highest - i];
  }
}

// The smallest of the `wanted` largest keys below `bound` over all threads; 1 if there are no more than `wanted`.
// visit(use) calls use(key) for each of the thread's keys, which are distinct and not 0. All threads of the block call
// it; it begins with a barrier, after which whatever was read before may be overwritten.
template <typename Visit>
__device__ uint64_t threshold_of(const Visit& visit, uint64_t bound, int wanted, SelectShared& shared) {
  __syncthreads();
  const KeyRange range = key_range(visit, bound, shared);
  if (range.count <= wanted) return 1;
  // Digits begin at the first bit in which the keys differ: keys of scores in (0, 1) share their highest bits.
  int shift = max(64 - __clzll(static_cast<long long>(range.least ^ range.greatest)) - kDigitBits, 0);
  uint64_t known = shift + kDigitBits < 64 ? ~uint64_t{0} << (shift + kDigitBits) : 0;
  uint64_t prefix = range.greatest & known;  // of the wanted-th largest key, as far as it is known
  int rank = wanted;                         // of that key among those with the prefix
  while (true) {
    for (int i = threadIdx.x; i < kDigits; i += blockDim.x) shared.histogram[i] = 0;
    __syncthreads();
    visit([&](uint64_t key) {
      if (key >= bound || (key & known) != prefix) return;
      atomicAdd(&shared.histogram[static_cast<int>(key >> shift) & (kDigits - 1)], 1);
    });
    __syncthreads();
    if (threadIdx.x < kWarpSize) find_bin(shared, rank);
    __syncthreads();
    prefix |= static_cast<uint64_t>(shared.bin.digit) << shift;
    rank -= shared.bin.above;
    if (shared.bin.inside == rank) return prefix;  // the whole bin is selected, as a bin of one key always is
    known = ~uint64_t{0} << shift;
    shift = max(shift - kDigitBits, 0);  // the last digit may begin with known bits
  }
}

// The same for the keys source(0 .. count-1) that are not 0.
template <typename Source>
__device__ uint64_t block_threshold(const Source& source, int count, uint64_t bound, int wanted, SelectShared& shared) {
  return threshold_of([&](const auto& use) { for_each_key(source, count, use); }, bound, wanted, shared);
}

// Writes the selected keys to `selected`, in any order, and returns their number. Begins and ends with a barrier.
template <typename Source>
__device__ int block_select(const Source& source, int count, uint64_t bound, int wanted, uint64_t* selected,
                            SelectShared& shared) {
  const uint64_t threshold = block_threshold(source, count, bound, wanted, shared);
  if (threadIdx.x == 0) shared.num_selected = 0;
  __syncthreads();
  for_each_key(source, count, [&](uint64_t key) {
    if (key < bound && key >= threshold) selected[atomicAdd(&shared.num_selected, 1)] = key;
  });
  __syncthreads();
  return shared.num_selected;
}

}  // namespace ssd
