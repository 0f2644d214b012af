// The stages of postprocess in CUDA, and the workspace through which they pass candidates on.
#pragma once

#include "common/cuda.cuh"
#include "postprocess/candidate_key.h"

namespace ssd {

// Candidates of a segment that are listed. Of a segment with more, the next stages rescan the rows instead: an untrained
// head gives every class a candidate a row, and lists for that would be as large as the logits.
constexpr int kListCapacity = 1024;

struct PostprocessWorkspace {
  float* row_max;        // [N, P] softmax: the largest logit of a row, +inf where the row has no candidate
  float* row_sum;        // [N, P] softmax: the sum of its terms
  uint64_t* row_best;    // [N, P] where only the best column of a row may be one: its candidate key, or 0
  uint64_t* lists;       // [N, S, list_capacity] candidate keys of a segment, in any order
  int* list_sizes;       // [N, S] candidates of a segment, which may exceed the list
  uint64_t* least_keys;  // [N, kMaxHeadLevels] of a top-k scope: candidates with smaller keys do not enter NMS
  uint64_t* kept_keys;   // [N, S, kept_capacity] what NMS keeps of a segment, best first
  Box* kept_boxes;       // [N, S, kept_capacity]
  int* kept_sizes;       // [N, S]
  int list_capacity, kept_capacity;
};

void score_filter(const PostprocessTask& task, const PostprocessWorkspace& workspace, Stream stream);
void top_k_stage(const PostprocessTask& task, const PostprocessWorkspace& workspace, Stream stream);
void segment_nms_stage(const PostprocessTask& task, const PostprocessWorkspace& workspace, Stream stream);
void merge_stage(const PostprocessTask& task, const PostprocessWorkspace& workspace, Stream stream);

// The score of one logit, given its row's statistics.
SSD_HD float score_at(const PostprocessTask& task, float logit, float row_max, float row_sum) {
  return task.sigmoid ? sigmoid(logit) : softmax_score(logit, row_max, row_sum);
}

// The candidate of a row in a segment, 0 if there is none: for segments whose lists overflowed.
template <typename T>
__device__ uint64_t rescan_row(const PostprocessTask& task, const PostprocessWorkspace& workspace, int64_t image,
                               int row, int segment) {
  const int64_t statistics = image * task.num_rows + row;
  if (task.class_mode != ClassMode::per_class) {
    const uint64_t key = workspace.row_best[statistics];
    return key != 0 && task.segment_of(column_of(task, key)) == segment ? key : 0;
  }
  const HeadLevel& level = task.levels[task.level_index(row)];
  const T* data = static_cast<const T*>(level.logits.data);
  const int64_t offset = level.logits.row_offset(image, row - level.first_row, level.sizes);
  const float logit = to_float(data[offset + segment * level.logits.column_stride]);
  const float max = task.sigmoid ? 0.0f : workspace.row_max[statistics];
  const float sum = task.sigmoid ? 0.0f : workspace.row_sum[statistics];
  const float score = score_at(task, logit, max, sum);
  return score > task.score_threshold ? candidate_key(task, score, row, segment) : 0;
}

}  // namespace ssd
