// Lists the candidates of rows that may hold some: the work of one warp, with one row per lane.
#pragma once

#include "postprocess/stages.cuh"

namespace ssd {

// Logits in shared or global memory: a lane's row begins at its `offset`.
template <typename T>
struct WarpRows {
  const T* logits;
  int64_t column_stride;
  int64_t offset;
  int row;  // among the P rows

  __device__ float logit(int64_t row_offset, int column) const {
    return to_float(logits[row_offset + column * column_stride]);
  }
};

constexpr int kTermPitch = kWarpSize + 1;  // odd, so that lanes that read their own rows hit different banks
constexpr int kTermCount = kWarpSize * kTermPitch;

// Each lane's sum of its row's softmax terms, in ascending order of columns (docs/numerics.md). The lanes take the
// terms of a row together, 32 columns at a time, and leave them in shared memory, where each adds up its own row.
// surviving: the lanes that have a row. terms: kTermCount floats of this warp.
template <typename T>
__device__ float sum_of_terms(const WarpRows<T>& rows, unsigned surviving, int columns, float row_max, float* terms) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  float sum = 0.0f;
  for (int first = 0; first < columns; first += kWarpSize) {
    const int column = first + lane;
    for (unsigned rest = surviving; rest != 0; rest &= rest - 1) {
      const int r = __ffs(static_cast<int>(rest)) - 1;
      const int64_t offset = __shfl_sync(kFullWarp, rows.offset, r);
      const float max = __shfl_sync(kFullWarp, row_max, r);
      if (column < columns) terms[r * kTermPitch + lane] = softmax_term(rows.logit(offset, column), max);
    }
    __syncwarp();
    const int here = min(kWarpSize, columns - first);
    if (surviving >> lane & 1) {
      for (int i = 0; i < here; ++i) sum = add(sum, terms[lane * kTermPitch + i]);
    }
    __syncwarp();
  }
  return sum;
}

// Appends a warp's candidates to the lists: each lane has up to Count keys, or 0 in their place. A segment's first
// kFirstKeys go to its own list, the others to the image's pool while it has room. All are counted.
template <int Count>
__device__ void list_candidates(const PostprocessTask& task, const PostprocessWorkspace& workspace, int64_t image,
                                const uint64_t (&keys)[Count]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  bool any = false;
  for (const uint64_t key : keys) any |= key != 0;
  if (!__any_sync(kFullWarp, any)) return;

  const int64_t first_segment = image * task.num_segments();
  int places[Count];
#pragma unroll
  for (int k = 0; k < Count; ++k) {
    const int64_t segment = first_segment + task.segment_of(column_of(task, keys[k]));
    places[k] = keys[k] == 0 ? 0 : atomicAdd(&workspace.segment_sizes[segment], 1);
  }
  int num_pooled = 0;
  unsigned pooled[Count];
#pragma unroll
  for (int k = 0; k < Count; ++k) {
    pooled[k] = __ballot_sync(kFullWarp, keys[k] != 0 && places[k] >= kFirstKeys);
    num_pooled += __popc(pooled[k]);
    if (keys[k] == 0 || places[k] >= kFirstKeys) continue;
    const int64_t segment = first_segment + task.segment_of(column_of(task, keys[k]));
    workspace.first_keys[segment * kFirstKeys + places[k]] = keys[k];
    if (places[k] == 0) {
      workspace.work[atomicAdd(workspace.work_size, 1)] = static_cast<int>(segment);
      atomicAdd(&workspace.active_segments[image], 1);
    }
  }
  if (num_pooled == 0) return;

  int base = 0;
  if (lane == 0) base = atomicAdd(&workspace.pool_sizes[image], num_pooled);
  base = __shfl_sync(kFullWarp, base, 0);
#pragma unroll
  for (int k = 0; k < Count; ++k) {
    const int place = base + __popc(pooled[k] & ((1u << lane) - 1));
    base += __popc(pooled[k]);
    if ((pooled[k] >> lane & 1) == 0 || place >= workspace.pool_capacity) continue;
    workspace.pool[image * workspace.pool_capacity + place] = keys[k];
  }
}

// Lists every column of the surviving rows whose score exceeds the threshold. The lanes take the columns of a row
// together, and several rows at a time, so that several atomics are in flight.
template <typename T>
__device__ void list_columns(const PostprocessTask& task, const PostprocessWorkspace& workspace, int64_t image,
                             const WarpRows<T>& rows, unsigned surviving, RowStatistics statistics) {
  constexpr int kRows = 4;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  for (int first = 0; first < task.num_columns; first += kWarpSize) {
    const int column = first + lane;
    const bool eligible = column < task.num_columns && column != task.background;
    for (unsigned rest = surviving; rest != 0;) {
      uint64_t keys[kRows];
#pragma unroll
      for (int k = 0; k < kRows; ++k) {
        keys[k] = 0;
        if (rest == 0) continue;
        const int r = __ffs(static_cast<int>(rest)) - 1;
        rest &= rest - 1;
        const int64_t offset = __shfl_sync(kFullWarp, rows.offset, r);
        const int row = __shfl_sync(kFullWarp, rows.row, r);
        const RowStatistics row_statistics{__shfl_sync(kFullWarp, statistics.max, r),
                                           __shfl_sync(kFullWarp, statistics.sum, r)};
        const float logit = eligible ? rows.logit(offset, column) : 0.0f;
        const float score = candidate_score(task, logit, row_statistics);
        if (eligible && score >= 0.0f) keys[k] = candidate_key(task, score, row, column);
      }
      list_candidates(task, workspace, image, keys);
    }
  }
}

// Lists the best column of each row, the lowest of tied ones, if its score exceeds the threshold.
template <typename T>
__device__ void list_best_column(const PostprocessTask& task, const PostprocessWorkspace& workspace, int64_t image,
                                 const WarpRows<T>& rows, unsigned surviving, RowStatistics statistics) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  uint64_t keys[1] = {0};
  if (surviving >> lane & 1) {
    float best = -1.0f;
    for (int c = 0; c < task.num_columns; ++c) {
      if (c == task.background) continue;
      const float score = candidate_score(task, rows.logit(rows.offset, c), statistics);
      if (!(score > best)) continue;
      best = score;
      keys[0] = candidate_key(task, score, rows.row, c);
    }
    workspace.row_best[image * task.num_rows + rows.row] = keys[0];
  }
  list_candidates(task, workspace, image, keys);
}

}  // namespace ssd
