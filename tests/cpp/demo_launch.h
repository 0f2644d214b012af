// demo_launch.h: entry points of the demonstration kernels, as <family>_launch.h has those of a kernel family.
// Fault says what is wrong with the kernel that is run; each kernel knows some of them and ignores the others.
#pragma once

#include <cstdint>

#include "common/stream.h"

#ifdef __CUDACC__
#define SSD_DEMO_HD __host__ __device__
#else
#define SSD_DEMO_HD __attribute__((noinline))
#endif

namespace ssd::demo {

enum class Fault {
  kNone,
  kSortBarrierMissing,       // of many barriers in a loop, one now and then
  kSumBarrierMissing,        // between writing the warps' sums and reading them
  kSumUninitialised,         // reads sums of warps that the block does not have
  kCompactBarrierMissing,    // at the end of a loop whose next round overwrites what is still read
  kNmsBarrierMissing,        // between filling the tile and reading it
  kNmsGlobalOverrun,         // reads a box past the last
  kNmsSharedOverrun,         // reads a box past the tile
  kExchangeUnordered,        // no __syncwarp between lanes that exchange values through shared memory
  kExchangeShuffled,         // a shuffle, which orders nothing, in its place
  kLastBlockUnreleased,      // no __threadfence before the ticket that says which block is last
  kLastBlockUnacquired,      // and none after it
  kFlagTooEarly,             // the flag is raised before the value is written
  kHistogramBarrierMissing,  // between counting by atomics and reading the counts
};

struct alignas(16) Box {
  float x1;
  float y1;
  float x2;
  float y2;
};

// Shared by the kernel and its host oracle, as common/box_math.h is. Never inlined by host compilers, so that the
// runner is also a test of its build: the linker must take the kernel file's copy, which is the one that the checker
// sees.
SSD_DEMO_HD inline bool overlaps(const Box& a, const Box& b, float threshold) {
  const float left = a.x1 > b.x1 ? a.x1 : b.x1;
  const float top = a.y1 > b.y1 ? a.y1 : b.y1;
  const float right = a.x2 < b.x2 ? a.x2 : b.x2;
  const float bottom = a.y2 < b.y2 ? a.y2 : b.y2;
  const float width = right > left ? right - left : 0.0f;
  const float height = bottom > top ? bottom - top : 0.0f;
  const float inter = width * height;
  const float area_a = (a.x2 - a.x1) * (a.y2 - a.y1);
  const float area_b = (b.x2 - b.x1) * (b.y2 - b.y1);
  return inter > threshold * (area_a + area_b - inter);
}

// [rows, n] -> each row sorted, descending, equal values by ascending index. n <= 1024.
void sort(const float* values, int rows, int n, float* sorted, int* indices, Stream stream, Fault fault = Fault::kNone);

// sum of x[n]; indices of the elements above the threshold, in order, and their count.
void sum_and_compact(const float* x, int n, float threshold, float* sum, int* kept, int* count, Stream stream,
                     Fault fault = Fault::kNone);

// boxes [classes, n] in order of priority -> kept [classes, max_output], counts [classes].
// mask [classes, n, ceil(n / 64)] is workspace.
void nms(const Box* boxes, int classes, int n, float threshold, int max_output, uint64_t* mask, int* kept, int* counts,
         Stream stream, Fault fault = Fault::kNone);

// out[lane] = lane ^ 16, through shared memory.
void exchange(int* out, Stream stream, Fault fault = Fault::kNone);

// sum of x[n] over 16 blocks of 2 warps; the last block to finish adds the warps' sums. partial [32]; ticket starts as
// 0.
void last_block_sum(const float* x, int n, float* partial, unsigned* ticket, float* sum, Stream stream,
                    Fault fault = Fault::kNone);

// y = a x + y in float, stored as 16-bit numbers; x and y are __half or __nv_bfloat16 bits.
void half_axpy(const uint16_t* x, uint16_t* y, float a, int n, Stream stream);
void bfloat16_axpy(const uint16_t* x, uint16_t* y, float a, int n, Stream stream);

// counts[value] of x[n] in 0..15; bit i of seen is set for every i < n; half of n is added to total by halves.
void histogram(const int* x, int n, int* counts, unsigned* seen, float* total, Stream stream,
               Fault fault = Fault::kNone);

// A kernel of every warp function and scalar function; out[64] is worked out in run_demo.cpp.
void functions(int* out, Stream stream);

// Block 1 waits for block 0's value: out[0] = 42, out[1] = 43. flags [2] start as 0.
void wait_for_flag(int* flags, int* out, Stream stream, Fault fault = Fault::kNone);

// out[i] = i for i < n, through n ints of dynamic shared memory. Each variant (0 to 2) is a kernel of its own.
void count_in_shared_memory(int variant, int n, int* out, Stream stream);

// Kernels that are nothing but wrong (demo_faults.cu).
void write_twice(int* out, Stream stream);
void read_beside_atomic(int* value, int* out, Stream stream);  // value starts as 0
void synchronise_halves(int* out, Stream stream);
void diverge_at_barrier(int* out, Stream stream);
void leave_out_a_lane(int* out, Stream stream);
void spin_for_ever(int* flag, Stream stream);
void read_host_memory(const int* host, int* out, Stream stream);
void use_after_free(const int* freed, int* out, Stream stream);
void ask_for_no_shared_memory(int* out, Stream stream);

}  // namespace ssd::demo
