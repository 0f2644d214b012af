// demo_task.h: the entry points of the demonstration kernels, as <family>_task.h has those of a kernel family. Fault
// says what is wrong with the kernel that is run; each kernel knows some faults and ignores the others.
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
  kSumUninitialized,         // reads sums of warps that the block does not have
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
  kGridBarrierMissing,       // between writing the blocks' sums and reading them
  kGridBlockMissing,         // one block does not come to the barrier
  kMemsetNotAwaited,         // a programmatic launch adds to what the memset before it zeroes
  kLaunchNotAwaited,         // one reads what the launch before it writes
  kLaunchAwaitedAlone,       // one thread waits, and no barrier makes the others wait for it
  kNobodyWaits,              // a launch waits for the one before it, which has not waited for the one before that
  kOverwritesTooEarly,       // one overwrites what the launch before it reads
  kClusterNotStarted,        // reads a neighbor's shared memory before the neighbor may have begun
  kClusterBarrierMissing,    // between reading it and another block's writing it
  kClusterEndsTooEarly,      // a block may exit before its neighbor has written to it
  kCopySourceWritten,        // an asynchronous copy's source is overwritten before its thread waits for it
  kCopyDestinationWritten,   // its destination
  kCopyNotCommitted,         // it belongs to no batch, so that waiting for batches does not wait for it
  kCopyNotAwaited,           // its thread waits for the batches before it
  kCopyBarrierMissing,       // its thread waits, and others read without a barrier
  kCopyShuffled,             // a shuffle, which orders nothing, in its place
  kNarrowRelease,            // a fence of the block where another block reads
  kNarrowAcquire,            // a fence of the block where another block wrote
  kNarrowAtomic,             // an atomic of the block on what another block reads
};

struct alignas(16) Box {
  float x1;
  float y1;
  float x2;
  float y2;
};

// Shared by the kernel and its host oracle, as common/box_math.h is. Never inlined by host compilers, so that the
// runner also tests its build: the linker must take the kernel file's copy, the only one that the checker sees.
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

// sum of x[n] over 16 blocks of 2 warps; the last block to finish adds the warps' sums. partial [32]; ticket [1]
// starts as 0.
void last_block_sum(const float* x, int n, float* partial, unsigned* ticket, float* sum, Stream stream,
                    Fault fault = Fault::kNone);

// y = a x + y in float, stored as 16-bit numbers; x and y are __half or __nv_bfloat16 bits.
void half_axpy(const uint16_t* x, uint16_t* y, float a, int n, Stream stream);
void bfloat16_axpy(const uint16_t* x, uint16_t* y, float a, int n, Stream stream);

// counts[value] of x[n] in 0..15; bit i of seen is set for every i < n; half of n is added to total by halves.
void histogram(const int* x, int n, int* counts, unsigned* seen, float* total, Stream stream,
               Fault fault = Fault::kNone);

// Calls every warp function and scalar function; run_demo.cpp works out the expected out[64].
void functions(int* out, Stream stream);

// Block 1 waits for block 0's value: out[0] = 42, out[1] = 43. flags [2] start as 0.
void wait_for_flag(int* flags, int* out, Stream stream, Fault fault = Fault::kNone);

// out[i] = i for i < n, through n ints of dynamic shared memory. Each variant (0 to 2) is a kernel of its own.
void count_in_shared_memory(int variant, int n, int* out, Stream stream);

// ---- demo_grids.cu --------------------------------------------------------------------------------------------------

// totals[block] = sum of x[n] for every block of a cooperative grid. partial [blocks] is workspace.
int most_blocks_that_sum();
void sum_by_all_blocks(const int* x, int n, int blocks, int* partial, int* totals, Stream stream,
                       Fault fault = Fault::kNone);

// A memset and three programmatic launches: values = 2 x, count = how many of them are positive, sums[i] = values[i] +
// values[i + 1], result = sums + count, values = -1. x [n]; count [1]; the others [n].
void add_doubled_neighbors(const int* x, int n, int* values, int* count, int* sums, int* result, Stream stream,
                           Fault fault = Fault::kNone);
// Always wrong: a memset of values after a launch that has not waited for the one that writes them.
void zero_behind_a_chain(const int* x, int n, int* values, int* count, int* sums, Stream stream);
// values = 2 x, and count grows by the positive ones.
void double_numbers(const int* x, int n, int* values, int* count, Stream stream);

// copies = values, by a programmatic launch that does not wait. Returns whether that kernel could be launched in
// clusters.
bool copy_early(const int* values, int n, int* copies, Stream stream);

// In clusters of 4 blocks of 64 threads: out[block of the cluster b][t] = 100 ((b + 2) % 4) + t. out [clusters * 256].
bool can_pass_on();
void pass_on(int clusters, int* out, Stream stream, Fault fault = Fault::kNone);

// ---- demo_copies.cu -------------------------------------------------------------------------------------------------

struct alignas(16) Quadruple {
  int numbers[4];
};

// sums[t] = sum of the numbers of x[63 - t], x[127 - t], ... x [n], sums [64].
void sum_tiles(Quadruple* x, int n, int* sums, Stream stream, Fault fault = Fault::kNone);

// out[0] = the first int of the copied bytes.
void copy_one(const char* from, int bytes, int* out, Stream stream);
void copy_twice(int* x, int* out, Stream stream);  // wrong: writes x[0] while the second copy is in flight

// out[0] = 42, out[1] = 43, written by threads of one block or two. flag [1] starts as 0.
void wait_within_block(int* out, Stream stream);
void wait_across_blocks(int* flag, int* out, Stream stream, Fault fault = Fault::kNone);

// ---- demo_faults.cu: kernels that are always wrong ------------------------------------------------------------------

void write_twice(int* out, Stream stream);
void read_beside_atomic(int* value, int* out, Stream stream);  // value starts as 0
void synchronize_halves(int* out, Stream stream);
void diverge_at_barrier(int* out, Stream stream);
void leave_out_a_lane(int* out, Stream stream);
void spin_forever(int* flag, Stream stream);
void read_host_memory(const int* host, int* out, Stream stream);
void use_after_free(const int* freed, int* out, Stream stream);
void ask_for_no_shared_memory(int* out, Stream stream);
void meet_without_attribute(int* out, Stream stream);  // out [2]
void take_from_exited(int* out, bool late, Stream stream);
void abandon_copy(const Quadruple* from, Stream stream);

}  // namespace ssd::demo
