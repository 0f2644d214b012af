// demo.cu: kernels that test the emulator and its checker, and work as the project's kernels do: sorting, reduction,
// compaction, bit masks, tickets, histograms. Each can be run with a planted fault.
// scripts/mutate.py deletes their barriers and fences in turn, and expects the checker to notice each time.
#include "common/cuda.cuh"
#include "demo_task.h"

namespace ssd::demo {
namespace {

// ---- sort: bitonic, one block per row, 64-bit keys in dynamic shared memory -----------------------------------------

template <Fault kFault>
__global__ void sort_kernel(const float* __restrict__ values, int n, float* __restrict__ sorted,
                            int* __restrict__ indices) {
  SSD_DYN_SHARED(unsigned long long, keys);
  const int thread = static_cast<int>(threadIdx.x);
  const int threads = static_cast<int>(blockDim.x);
  const int size = 2 * threads;
  const size_t row = static_cast<size_t>(blockIdx.x) * n;
  for (int i = thread; i < size; i += threads) {
    const unsigned bits = __float_as_uint(i < n ? values[row + i] : -INFINITY);
    const unsigned ordered = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    keys[i] = static_cast<unsigned long long>(ordered) << 32 | static_cast<unsigned>(~i);
  }
  __syncthreads();
  for (int length = 2; length <= size; length *= 2) {
    for (int stride = length / 2; stride > 0; stride /= 2) {
      const int low = 2 * thread - (thread & (stride - 1));
      const int high = low + stride;
      const bool descending = (low & length) == 0;
      const unsigned long long a = keys[low];
      const unsigned long long b = keys[high];
      if ((a < b) == descending) {
        keys[low] = b;
        keys[high] = a;
      }
      if (kFault == Fault::kSortBarrierMissing && stride == 4) continue;
      __syncthreads();
    }
  }
  for (int i = thread; i < n; i += threads) {
    const unsigned ordered = static_cast<unsigned>(keys[i] >> 32);
    sorted[row + i] = __uint_as_float(ordered & 0x80000000u ? ordered & 0x7fffffffu : ~ordered);
    indices[row + i] = static_cast<int>(~static_cast<unsigned>(keys[i]));
  }
}

// ---- sum and compact: shuffles, ballots -----------------------------------------------------------------------------

__device__ float warp_sum(float value) {
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(kFullWarp, value, offset);
  return value;
}

template <Fault kFault>
__global__ void sum_and_compact_kernel(const float* __restrict__ x, int n, float threshold, float* __restrict__ sum,
                                       int* __restrict__ kept, int* __restrict__ count) {
  SSD_SHARED(warp_sums, float[32]);
  SSD_SHARED(warp_begins, int[33]);
  const int thread = static_cast<int>(threadIdx.x);
  const int threads = static_cast<int>(blockDim.x);
  const int lane = thread % kWarpSize;
  const int warp = thread / kWarpSize;
  const int warps = threads / kWarpSize;

  float partial = 0.0f;
  for (int i = thread; i < n; i += threads) partial += x[i];
  partial = warp_sum(partial);
  if (lane == 0) warp_sums[warp] = partial;
  if (kFault != Fault::kSumBarrierMissing) __syncthreads();
  if (warp == 0) {
    const bool present = lane < warps || kFault == Fault::kSumUninitialized;
    const float total = warp_sum(present ? warp_sums[lane] : 0.0f);
    if (lane == 0) *sum = total;
  }

  int begin = 0;
  for (int first = 0; first < n; first += threads) {
    const int i = first + thread;
    const bool keep = i < n && x[i] > threshold;
    const unsigned keepers = __ballot_sync(kFullWarp, keep);
    if (lane == 0) warp_begins[warp + 1] = __popc(keepers);
    if (thread == 0) warp_begins[0] = 0;
    __syncthreads();
    if (thread == 0) {
      for (int w = 0; w < warps; ++w) warp_begins[w + 1] += warp_begins[w];
    }
    __syncthreads();
    if (keep) kept[begin + warp_begins[warp] + __popc(keepers & ((1u << lane) - 1))] = i;
    begin += warp_begins[warps];
    if (kFault != Fault::kCompactBarrierMissing) __syncthreads();  // the next round writes warp_begins
  }
  if (thread == 0) *count = begin;
}

// ---- nms: a bit mask by 64x64 tiles, then one block per class that resolves it --------------------------------------

template <Fault kFault>
__global__ void __launch_bounds__(64)
    nms_mask_kernel(const Box* __restrict__ boxes, int n, float threshold, uint64_t* __restrict__ mask) {
  SSD_SHARED(tile, Box[64]);
  const int row_begin = static_cast<int>(blockIdx.y) * 64;
  const int column_begin = static_cast<int>(blockIdx.x) * 64;
  if (row_begin > column_begin) return;
  const int words = ceil_div(n, 64);
  boxes += static_cast<size_t>(blockIdx.z) * n;
  mask += static_cast<size_t>(blockIdx.z) * n * words;
  const int thread = static_cast<int>(threadIdx.x);
  const int rows = min(n - row_begin, 64);
  const int columns = min(n - column_begin, 64);
  const int loaded = kFault == Fault::kNmsGlobalOverrun ? columns + 1 : columns;
  if (thread < loaded) tile[thread] = boxes[column_begin + thread];
  if (kFault != Fault::kNmsBarrierMissing) __syncthreads();
  if (thread >= rows) return;
  const Box box = boxes[row_begin + thread];
  const int first = row_begin == column_begin ? thread + 1 : 0;
  const int last = kFault == Fault::kNmsSharedOverrun ? columns + 1 : columns;
  unsigned long long bits = 0;
  for (int j = first; j < last; ++j) {
    if (overlaps(box, tile[j], threshold)) bits |= 1ull << (j & 63);
  }
  mask[static_cast<size_t>(row_begin + thread) * words + blockIdx.x] = bits;
}

__global__ void nms_resolve_kernel(const uint64_t* __restrict__ mask, int n, int max_output, int* __restrict__ kept,
                                   int* __restrict__ counts) {
  SSD_DYN_SHARED(uint64_t, removed);  // one word per 64 boxes
  const int words = ceil_div(n, 64);
  const int thread = static_cast<int>(threadIdx.x);
  const int threads = static_cast<int>(blockDim.x);
  mask += static_cast<size_t>(blockIdx.x) * n * words;
  kept += static_cast<size_t>(blockIdx.x) * max_output;
  for (int i = thread; i < words; i += threads) removed[i] = 0;
  __syncthreads();
  int count = 0;
  for (int i = 0; i < n && count < max_output; ++i) {
    const bool is_removed = removed[i / 64] >> (i % 64) & 1;  // the same for the whole block
    if (is_removed) continue;
    if (thread == 0) kept[count] = i;
    count += 1;
    __syncthreads();  // everyone has read removed[i / 64]
    for (int j = i / 64 + thread; j < words; j += threads) removed[j] |= mask[static_cast<size_t>(i) * words + j];
    __syncthreads();
  }
  if (thread == 0) counts[blockIdx.x] = count;
}

// ---- orders within a warp and between blocks -----------------------------------------------------------------------

template <Fault kFault>
__global__ void exchange_kernel(int* out) {
  SSD_SHARED(values, int[32]);
  constexpr bool kWrong = kFault != Fault::kNone;
  values[threadIdx.x] = static_cast<int>(threadIdx.x);
  if (!kWrong) __syncwarp();
  if (kFault == Fault::kExchangeShuffled) __shfl_xor_sync(kFullWarp, 0, 16);
  out[threadIdx.x] = values[threadIdx.x ^ 16];
}

template <Fault kFault>
__global__ void last_block_sum_kernel(const float* __restrict__ x, int n, float* partial, unsigned* ticket,
                                      float* sum) {
  SSD_SHARED(is_last, bool);
  const int thread = static_cast<int>(threadIdx.x);
  const int threads = static_cast<int>(blockDim.x);
  const int blocks = static_cast<int>(gridDim.x);
  float value = 0.0f;
  for (int i = static_cast<int>(blockIdx.x) * threads + thread; i < n; i += blocks * threads) value += x[i];
  value = warp_sum(value);
  if (thread % kWarpSize == 0) partial[blockIdx.x * 2 + thread / kWarpSize] = value;
  __syncthreads();
  if (thread == 0) {
    if (kFault != Fault::kLastBlockUnreleased) __threadfence();
    is_last = atomicAdd(ticket, 1u) == gridDim.x - 1;
    if (kFault != Fault::kLastBlockUnacquired) __threadfence();
  }
  __syncthreads();
  if (!is_last || thread >= kWarpSize) return;
  const float total = warp_sum(partial[thread]);
  if (thread == 0) *sum = total;
}

template <Fault kFault>
__global__ void wait_for_flag_kernel(int* flags, int* out) {
  if (threadIdx.x != 0) return;
  if (blockIdx.x == 0) {
    if (kFault == Fault::kFlagTooEarly) atomicExch(&flags[0], 1);
    out[0] = 42;
    __threadfence();
    atomicExch(&flags[kFault == Fault::kFlagTooEarly ? 1 : 0], 1);
  } else {
    while (atomicAdd(&flags[0], 0) == 0) __nanosleep(100);
    __threadfence();
    out[1] = out[0] + 1;
  }
}

template <Fault kFault>
void launch_nms(const Box* boxes, int classes, int n, float threshold, uint64_t* mask, Stream stream) {
  const unsigned words = static_cast<unsigned>(ceil_div(n, 64));
  const dim3 grid(words, words, static_cast<unsigned>(classes));
  launch(nms_mask_kernel<kFault>, grid, dim3(64), 0, stream, boxes, n, threshold, mask);
}

}  // namespace

// ---- launchers ------------------------------------------------------------------------------------------------------

void sort(const float* values, int rows, int n, float* sorted, int* indices, Stream stream, Fault fault) {
  auto kernel = sort_kernel<Fault::kNone>;
  if (fault == Fault::kSortBarrierMissing) kernel = sort_kernel<Fault::kSortBarrierMissing>;
  const unsigned threads = 512;
  const size_t shared_bytes = 2 * threads * sizeof(uint64_t);
  launch(kernel, dim3(static_cast<unsigned>(rows)), dim3(threads), shared_bytes, stream, values, n, sorted, indices);
}

void sum_and_compact(const float* x, int n, float threshold, float* sum, int* kept, int* count, Stream stream,
                     Fault fault) {
  auto kernel = sum_and_compact_kernel<Fault::kNone>;
  if (fault == Fault::kSumBarrierMissing) kernel = sum_and_compact_kernel<Fault::kSumBarrierMissing>;
  if (fault == Fault::kSumUninitialized) kernel = sum_and_compact_kernel<Fault::kSumUninitialized>;
  if (fault == Fault::kCompactBarrierMissing) kernel = sum_and_compact_kernel<Fault::kCompactBarrierMissing>;
  launch(kernel, dim3(1), dim3(256), 0, stream, x, n, threshold, sum, kept, count);
}

void nms(const Box* boxes, int classes, int n, float threshold, int max_output, uint64_t* mask, int* kept, int* counts,
         Stream stream, Fault fault) {
  auto launch_mask = launch_nms<Fault::kNone>;
  if (fault == Fault::kNmsBarrierMissing) launch_mask = launch_nms<Fault::kNmsBarrierMissing>;
  if (fault == Fault::kNmsGlobalOverrun) launch_mask = launch_nms<Fault::kNmsGlobalOverrun>;
  if (fault == Fault::kNmsSharedOverrun) launch_mask = launch_nms<Fault::kNmsSharedOverrun>;
  launch_mask(boxes, classes, n, threshold, mask, stream);
  const size_t shared_bytes = ceil_div(n, 64) * sizeof(uint64_t);
  launch(nms_resolve_kernel, dim3(static_cast<unsigned>(classes)), dim3(128), shared_bytes, stream, mask, n, max_output,
         kept, counts);
}

void exchange(int* out, Stream stream, Fault fault) {
  auto kernel = exchange_kernel<Fault::kNone>;
  if (fault == Fault::kExchangeUnordered) kernel = exchange_kernel<Fault::kExchangeUnordered>;
  if (fault == Fault::kExchangeShuffled) kernel = exchange_kernel<Fault::kExchangeShuffled>;
  launch(kernel, dim3(1), dim3(32), 0, stream, out);
}

void last_block_sum(const float* x, int n, float* partial, unsigned* ticket, float* sum, Stream stream, Fault fault) {
  auto kernel = last_block_sum_kernel<Fault::kNone>;
  if (fault == Fault::kLastBlockUnreleased) kernel = last_block_sum_kernel<Fault::kLastBlockUnreleased>;
  if (fault == Fault::kLastBlockUnacquired) kernel = last_block_sum_kernel<Fault::kLastBlockUnacquired>;
  launch(kernel, dim3(16), dim3(64), 0, stream, x, n, partial, ticket, sum);
}

void wait_for_flag(int* flags, int* out, Stream stream, Fault fault) {
  auto kernel = wait_for_flag_kernel<Fault::kNone>;
  if (fault == Fault::kFlagTooEarly) kernel = wait_for_flag_kernel<Fault::kFlagTooEarly>;
  launch(kernel, dim3(2), dim3(32), 0, stream, flags, out);
}

}  // namespace ssd::demo
