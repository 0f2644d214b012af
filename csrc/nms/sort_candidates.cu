// The first stage of nms: a stable radix sort of the scores, least significant digit first.
#include <utility>

#include "nms/sort_candidates.cuh"

namespace ssd {
namespace {

constexpr int kThreads = 256;  // also the number of digits: thread d handles digit d
constexpr int kWarps = kThreads / kWarpSize;
constexpr int kDigitBits = 8;
static_assert(kThreads == kSortDigits, "each thread handles one digit");

// make_keys_kernel: writes keys[i], and order[i] = i, for every score.
// Thread:  one score.
// Memory:  coalesced.
// Order:   deterministic; no atomics.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    make_keys_kernel(const T* scores, int n, SortKey<T>* keys, uint32_t* order) {
  const int i = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  if (i >= n) return;
  keys[i] = ~score_key(scores[i]);
  order[i] = static_cast<uint32_t>(i);
}

// count_digits_kernel: counts in histogram[digit][tile] the keys of the tile that have the digit.
// Block:   one tile.
// Memory:  reads the keys once, coalesced.
// Order:   counts do not depend on the atomics' order.
template <typename Key>
__global__ void __launch_bounds__(kThreads)
    count_digits_kernel(const Key* keys, int n, int shift, uint32_t* histogram) {
  SSD_SHARED(counts, uint32_t[kSortDigits]);
  counts[threadIdx.x] = 0;
  __syncthreads();
  const int begin = static_cast<int>(blockIdx.x) * kSortTile;
  const int end = min(begin + kSortTile, n);
  for (int i = begin + static_cast<int>(threadIdx.x); i < end; i += kThreads) {
    atomicAdd(&counts[static_cast<uint32_t>(keys[i] >> shift) % kSortDigits], 1u);
  }
  __syncthreads();
  histogram[threadIdx.x * gridDim.x + blockIdx.x] = counts[threadIdx.x];
}

// scan_kernel: replaces each count by the sum of those before it, in (digit, tile) order, which is where the tile's
// keys with the digit go.
// Block:   one, of 256 threads; each sums a contiguous range, then the ranges' sums are scanned.
// Order:   deterministic; integers.
__global__ void __launch_bounds__(kThreads) scan_kernel(uint32_t* histogram, int count) {
  SSD_SHARED(sums, uint32_t[kThreads]);
  const int thread = static_cast<int>(threadIdx.x);
  const int share = ceil_div(count, kThreads);
  const int begin = min(thread * share, count);
  const int end = min(begin + share, count);
  uint32_t sum = 0;
  for (int i = begin; i < end; ++i) sum += histogram[i];
  sums[thread] = sum;
  __syncthreads();
  for (int offset = 1; offset < kThreads; offset *= 2) {
    const uint32_t lower = thread >= offset ? sums[thread - offset] : 0;
    __syncthreads();  // all have read before any writes
    sums[thread] += lower;
    __syncthreads();
  }
  uint32_t running = sums[thread] - sum;
  for (int i = begin; i < end; ++i) {
    const uint32_t value = histogram[i];
    histogram[i] = running;
    running += value;
  }
}

// scatter_kernel: moves the keys of a tile to their places, equal digits in their former order.
// Block:   one tile, 256 keys per round.
// Thread:  one key per round: its place is the digit's base, plus the keys of the digit in the warps before, plus those
//          in the lanes before.
// Memory:  reads coalesced, writes in runs.
// Order:   deterministic: positions are counted, not raced for.
template <typename Key>
__global__ void __launch_bounds__(kThreads)
    scatter_kernel(const Key* keys, const uint32_t* order, int n, int shift, const uint32_t* histogram, Key* keys_out,
                   uint32_t* order_out) {
  SSD_SHARED(base, uint32_t[kSortDigits]);                  // next free place of each digit
  SSD_SHARED(warp_counts, uint32_t[kWarps * kSortDigits]);  // of this round: the keys of each digit in each warp
  const int thread = static_cast<int>(threadIdx.x);
  const int warp = thread / kWarpSize;
  const unsigned lanes_before = (1u << thread % kWarpSize) - 1;
  base[thread] = histogram[thread * gridDim.x + blockIdx.x];
  const int begin = static_cast<int>(blockIdx.x) * kSortTile;
  const int end = min(begin + kSortTile, n);
  for (int first = begin; first < end; first += kThreads) {
    for (int w = 0; w < kWarps; ++w) warp_counts[w * kSortDigits + thread] = 0;
    __syncthreads();
    const int i = first + thread;
    const bool valid = i < end;
    const Key key = valid ? keys[i] : Key{0};
    // A thread without a key takes a digit that no key has.
    const unsigned digit = valid ? static_cast<uint32_t>(key >> shift) % kSortDigits : kSortDigits;
    const unsigned peers = __match_any_sync(kFullWarp, digit);
    const int rank = __popc(peers & lanes_before);
    if (valid && rank == 0) warp_counts[warp * kSortDigits + digit] = static_cast<uint32_t>(__popc(peers));
    __syncthreads();
    uint32_t running = base[thread];  // for digit `thread`: turn the warps' counts into their first places
    for (int w = 0; w < kWarps; ++w) {
      const uint32_t count = warp_counts[w * kSortDigits + thread];
      warp_counts[w * kSortDigits + thread] = running;
      running += count;
    }
    base[thread] = running;
    __syncthreads();
    if (valid) {
      const uint32_t place = warp_counts[warp * kSortDigits + digit] + static_cast<uint32_t>(rank);
      keys_out[place] = key;
      order_out[place] = order[i];
    }
    __syncthreads();  // the places are read before the next round clears them
  }
}

}  // namespace

template <typename T>
void sort_candidates(const T* scores, int64_t count, const SortBuffers<T>& buffers, Stream stream) {
  using Key = SortKey<T>;
  const int n = static_cast<int>(count);
  const int tiles = ceil_div(n, kSortTile);
  Key *keys = buffers.keys[0], *keys_out = buffers.keys[1];
  uint32_t *order = buffers.order[0], *order_out = buffers.order[1];
  launch(make_keys_kernel<T>, dim3(ceil_div(n, kThreads)), dim3(kThreads), 0, stream, scores, n, keys, order);
  constexpr int kPasses = 8 * static_cast<int>(sizeof(Key)) / kDigitBits;
  static_assert(kPasses % 2 == 0, "the sorted keys end up in keys[0]");
  for (int pass = 0; pass < kPasses; ++pass) {
    const int shift = pass * kDigitBits;
    launch(count_digits_kernel<Key>, dim3(tiles), dim3(kThreads), 0, stream, keys, n, shift, buffers.histogram);
    launch(scan_kernel, dim3(1), dim3(kThreads), 0, stream, buffers.histogram, kSortDigits * tiles);
    launch(scatter_kernel<Key>, dim3(tiles), dim3(kThreads), 0, stream, keys, order, n, shift, buffers.histogram,
           keys_out, order_out);
    std::swap(keys, keys_out);
    std::swap(order, order_out);
  }
}

template void sort_candidates(const float*, int64_t, const SortBuffers<float>&, Stream);
template void sort_candidates(const double*, int64_t, const SortBuffers<double>&, Stream);

}  // namespace ssd
