// Computes the candidates of a column again, from the logits and from what the score filter has kept of the rows.
#pragma once

#include "postprocess/stages.cuh"

namespace ssd {

inline __device__ bool survives(const PostprocessTask& task, const PostprocessWorkspace& workspace, int64_t image,
                                int row) {
  const unsigned* words = workspace.survivors + image * ceil_div(task.num_rows, kWarpSize);
  return words[row / kWarpSize] >> (row % kWarpSize) & 1;
}

// The statistics of a surviving row, where all columns may be candidates.
inline __device__ RowStatistics statistics_of(const PostprocessTask& task, const PostprocessWorkspace& workspace,
                                              int64_t image, int row) {
  return task.sigmoid ? RowStatistics{0.0f, 1.0f} : workspace.statistics[image * task.num_rows + row];
}

inline __device__ bool enters_top_k(const PostprocessTask& task, const PostprocessWorkspace& workspace, int64_t image,
                                    uint64_t key) {
  if (task.top_k_scope == TopKScope::segment) return true;
  return key >= workspace.least_keys[image * kMaxHeadLevels + task.scope_of(row_of(task, key))];
}

// The offsets of every `step`-th row of a level, without a division per row.
class RowOffsets {
 public:
  __device__ RowOffsets(const HeadMap& map, const int sizes[3], int64_t image, int row, int step)
      : size1_(sizes[1]),
        size2_(sizes[2]),
        i1_(row / sizes[2] % sizes[1]),
        i2_(row % sizes[2]),
        step1_(step / sizes[2] % sizes[1]),
        step2_(step % sizes[2]),
        offset_(map.row_offset(image, row, sizes)),
        step_offset_(map.row_offset(0, step, sizes)),
        carry1_(map.strides[0] - sizes[1] * map.strides[1]),
        carry2_(map.strides[1] - sizes[2] * map.strides[2]) {}

  __device__ int64_t offset() const { return offset_; }

  __device__ void advance() {
    i1_ += step1_;
    i2_ += step2_;
    offset_ += step_offset_;
    if (i2_ >= size2_) {
      i2_ -= size2_;
      i1_ += 1;
      offset_ += carry2_;
    }
    if (i1_ >= size1_) {
      i1_ -= size1_;
      offset_ += carry1_;
    }
  }

 private:
  int size1_, size2_, i1_, i2_, step1_, step2_;
  int64_t offset_, step_offset_, carry1_, carry2_;
};

// Rows whose loads are in flight at a time.
constexpr int kRowsInFlight = 4;

// Bit k says whether row first + k * step is below `end` and may have candidates.
inline __device__ unsigned survivors_of(const PostprocessTask& task, const PostprocessWorkspace& workspace,
                                        int64_t image, int first, int step, int end) {
  unsigned alive = 0;
#pragma unroll
  for (int k = 0; k < kRowsInFlight; ++k) {
    const int row = first + k * step;
    const bool survived = survives(task, workspace, image, min(row, end - 1));
    alive |= static_cast<unsigned>(survived & (row < end)) << k;
  }
  return alive;
}

// Calls use(row, key) for this thread's share of the rows first .. first + count - 1: the key of the row's candidate in
// a column that enters NMS, or 0 where it has none.
template <typename T, typename Use>
__device__ void visit_column(const PostprocessTask& task, const PostprocessWorkspace& workspace, int64_t image,
                             int column, int first, int count, const Use& use) {
  const int step = static_cast<int>(blockDim.x);
  for (int index = 0; index < task.num_levels; ++index) {
    const HeadLevel& level = task.levels[index];
    const int end = min(level.first_row + level.num_rows, first + count);
    const int begin = max(level.first_row, first) + static_cast<int>(threadIdx.x);
    if (begin >= end) continue;
    const T* logits = static_cast<const T*>(level.logits.data) + column * level.logits.column_stride;
    RowOffsets offsets(level.logits, level.sizes, image, begin - level.first_row, step);
    for (int base = begin; base < end; base += kRowsInFlight * step) {
      const unsigned alive = survivors_of(task, workspace, image, base, step, end);
      float logit[kRowsInFlight];
      RowStatistics statistics[kRowsInFlight];
#pragma unroll
      for (int k = 0; k < kRowsInFlight; ++k) {
        if (alive >> k & 1) {
          logit[k] = to_float(logits[offsets.offset()]);
          statistics[k] = statistics_of(task, workspace, image, base + k * step);
        }
        offsets.advance();
      }
#pragma unroll
      for (int k = 0; k < kRowsInFlight; ++k) {
        const int row = base + k * step;
        uint64_t key = 0;
        if (alive >> k & 1) {
          const float score = candidate_score(task, logit[k], statistics[k]);
          if (score >= 0.0f) key = candidate_key(task, score, row, column);
          if (key != 0 && !enters_top_k(task, workspace, image, key)) key = 0;
        }
        if (row < end) use(row, key);
      }
    }
  }
}

// visit_column for class modes in which only the best column of a row may be a candidate.
template <typename Use>
__device__ void visit_best(const PostprocessTask& task, const PostprocessWorkspace& workspace, int64_t image,
                           int segment, int first, int count, const Use& use) {
  const uint64_t* keys = workspace.row_best + image * task.num_rows;
  const int step = static_cast<int>(blockDim.x);
  const int end = first + count;
  for (int base = first + static_cast<int>(threadIdx.x); base < end; base += kRowsInFlight * step) {
    const unsigned alive = survivors_of(task, workspace, image, base, step, end);
    uint64_t key[kRowsInFlight];
#pragma unroll
    for (int k = 0; k < kRowsInFlight; ++k) key[k] = (alive >> k & 1) ? keys[base + k * step] : 0;
#pragma unroll
    for (int k = 0; k < kRowsInFlight; ++k) {
      const int row = base + k * step;
      if (row >= end) continue;
      const bool enters = key[k] != 0 && task.segment_of(column_of(task, key[k])) == segment &&
                          enters_top_k(task, workspace, image, key[k]);
      use(row, enters ? key[k] : 0);
    }
  }
}

}  // namespace ssd
