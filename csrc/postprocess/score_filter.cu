// The first stage of postprocess in CUDA: finds the candidates of each segment in the logits.
#include "common/async_copy.cuh"
#include "common/grid.cuh"
#include "postprocess/candidates.cuh"
#include "postprocess/tiles.h"

namespace ssd {
namespace {

constexpr int kWarps = 2;  // per block: each takes a tile, and none waits for another
constexpr int kThreads = kWarps * kWarpSize;
constexpr int kCopyBytes = 16;
constexpr size_t kLeastSharedMemory = 64 * 1024;  // that every GPU gives a block: sm_75's
static_assert(kWarps * (kTermCount * sizeof(float) + kLongestRow + 2 * kCopyBytes) <= kLeastSharedMemory);
constexpr float kLowest = -__builtin_inff();

// Copies a run of elements into shared memory, 16 bytes at a time where both addresses allow it: the copy keeps the
// run's distance from a multiple of 16. Returns where the run begins there.
template <typename T>
__device__ const T* stage_run(const T* run, int count, unsigned char* memory) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int distance = static_cast<int>(reinterpret_cast<uintptr_t>(run) % kCopyBytes);
  T* staged = reinterpret_cast<T*>(memory + distance);
  constexpr int kElements = kCopyBytes / static_cast<int>(sizeof(T));  // per copy
  const int head = min((kCopyBytes - distance) % kCopyBytes / static_cast<int>(sizeof(T)), count);
  const int copies = (count - head) / kElements;
  const int tail = head + copies * kElements;
  T* to = staged + head + lane * kElements;
  const T* from = run + head + lane * kElements;
#pragma unroll 8
  for (int i = lane; i < copies; i += kWarpSize) {
    __pipeline_memcpy_async(to, from, kCopyBytes);
    to += kWarpSize * kElements;
    from += kWarpSize * kElements;
  }
  __pipeline_commit();
  if (lane < head) staged[lane] = run[lane];
  if (lane < count - tail) staged[tail + lane] = run[tail + lane];
  __pipeline_wait_prior(0);
  __syncwarp();
  return staged;
}

// The largest logit of all columns of a row but one, passing over NaN. If zeros of both signs are the largest, it may
// be either, which no comparison of differences tells apart.
template <typename T>
__device__ float largest_but(const T* row, int64_t stride, int excluded, int columns) {
  float largest = kLowest;
  const int head = excluded < 0 ? columns : excluded;
#pragma unroll 16
  for (int c = 0; c < head; ++c) largest = fmaxf(largest, to_float(row[c * stride]));
#pragma unroll 16
  for (int c = head + 1; c < columns; ++c) largest = fmaxf(largest, to_float(row[c * stride]));
  return largest;
}

// The same for the rows of a tile, by several lanes per row. Lane r returns the result of row r.
template <typename T>
__device__ float largest_of_staged(const T* staged, int lanes_per_row, int rows, int excluded, int columns) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int at_a_time = kWarpSize / lanes_per_row;
  float mine = kLowest;
  for (int first = 0; first < rows; first += at_a_time) {
    const int row = first + lane / lanes_per_row;
    float largest = kLowest;
    if (row < rows) {
#pragma unroll 4
      for (int c = lane % lanes_per_row; c < columns; c += lanes_per_row) {
        if (c != excluded) largest = fmaxf(largest, to_float(staged[row * columns + c]));
      }
    }
    for (int distance = lanes_per_row / 2; distance > 0; distance /= 2) {
      largest = fmaxf(largest, __shfl_xor_sync(kFullWarp, largest, distance));
    }
    const float row_largest = __shfl_sync(kFullWarp, largest, (lane - first) * lanes_per_row % kWarpSize);
    if (lane >= first && lane < first + at_a_time) mine = row_largest;
  }
  return mine;
}

// score_filter_kernel: lists the candidates of every segment, and keeps what it takes to compute a segment that the
// lists do not hold.
// Block:   kWarps tiles of image blockIdx.y.
// Warp:    a tile of up to 32 rows of one level, neighbors in memory; a lane owns a row.
// Memory:  reads each logit of contiguous rows once, by asynchronous copies into shared memory. Other layouts, and rows
//          too long to stage, it reads directly, one lane per row, and the logits of surviving rows twice more. It
//          writes nothing for rows that the largest foreground logit rejects; for the others a bit, 8 bytes, and 8
//          bytes per candidate.
// Order:   the lists' order depends on the atomics; the sets do not, and the keys are distinct, so results do not
//          either. Which candidates find the pool full depends on them too, and then the segment is computed again.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    score_filter_kernel(const __grid_constant__ PostprocessTask task,
                        const __grid_constant__ PostprocessWorkspace workspace, const __grid_constant__ Tiles tiles) {
  SSD_DYN_SHARED(unsigned char, memory);
  trigger_dependents();
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int64_t image = blockIdx.y;
  const int tile = static_cast<int>(blockIdx.x) * kWarps + warp;
  if (tile >= tiles.per_image) return;
  int index = 0;
  while (index + 1 < tiles.num_levels && tile >= tiles.levels[index + 1].first_tile) ++index;
  const LevelTiles& level_tiles = tiles.levels[index];
  const HeadLevel& level = task.levels[index];
  const int columns = task.num_columns;
  const int tile_rows = tiles.rows_of(level_tiles);
  const int first = (tile - level_tiles.first_tile) * tile_rows;
  const int count = min(tile_rows, level.num_rows - first);
  const bool mine = lane < count;

  float* terms = reinterpret_cast<float*>(memory) + warp * kTermCount;
  const T* image_logits = static_cast<const T*>(level.logits.data) + image * level.logits.image_stride;
  WarpRows<T> rows{image_logits, level.logits.column_stride, 0, level.first_row + first + lane};
  if (mine && !(level_tiles.contiguous && level_tiles.in_order)) {
    level_tiles.find(first + lane, rows.row, rows.offset);
    rows.row += level.first_row;
  }
  float largest = kLowest;
  if (level_tiles.contiguous) {
    unsigned char* staging = memory + kWarps * kTermCount * sizeof(float) + warp * tiles.staged_bytes;
    const T* staged = stage_run(image_logits + int64_t{first} * columns, count * columns, staging);
    rows.logits = staged;
    rows.column_stride = 1;
    rows.offset = lane * columns;
    if (tiles.lanes_per_row > 1) {
      largest = largest_of_staged(staged, tiles.lanes_per_row, count, task.background, columns);
    } else if (mine) {
      largest = largest_but(staged + lane * columns, 1, task.background, columns);
    }
  } else if (mine) {
    largest = largest_but(image_logits + rows.offset, rows.column_stride, task.background, columns);
  }

  const bool relative = !task.sigmoid && task.background >= 0;
  const float base = mine && relative ? rows.logit(rows.offset, task.background) : 0.0f;
  const bool survives = mine && (!task.can_reject || sub(largest, base) >= task.reject_below);
  const unsigned surviving = __ballot_sync(kFullWarp, survives);
  if (surviving == 0) return;

  RowStatistics statistics{relative ? fmaxf(largest, base) : largest, 1.0f};
  if (!task.sigmoid) statistics.sum = sum_of_terms(rows, surviving, columns, statistics.max, terms);
  const bool best_only = task.class_mode != ClassMode::per_class;
  if (survives) {
    const int words = ceil_div(task.num_rows, kWarpSize);
    atomicOr(&workspace.survivors[image * words + rows.row / kWarpSize], 1u << (rows.row % kWarpSize));
    if (!best_only && !task.sigmoid) workspace.statistics[image * task.num_rows + rows.row] = statistics;
  }
  if (best_only) {
    list_best_column(task, workspace, image, rows, surviving, statistics);
  } else {
    list_columns(task, workspace, image, rows, surviving, statistics);
  }
}

}  // namespace

void score_filter(const PostprocessTask& task, const PostprocessWorkspace& workspace, Stream stream) {
  const Tiles tiles = make_tiles(task);
  const size_t shared_bytes = kWarps * (kTermCount * sizeof(float) + static_cast<size_t>(tiles.staged_bytes));
  const dim3 grid(static_cast<unsigned>(ceil_div(tiles.per_image, kWarps)), static_cast<unsigned>(task.num_images));
  visit_logit_type(task.logits_dtype, [&](auto zero) {
    launch(score_filter_kernel<decltype(zero)>, grid, dim3(kThreads), shared_bytes, stream, task, workspace, tiles);
  });
}

}  // namespace ssd
