// The stages of postprocess in CUDA, and the workspace through which they pass candidates on.
#pragma once

#include "common/cuda.cuh"
#include "postprocess/candidate_key.h"

namespace ssd {

// Each segment has its own list of its first candidates. A segment with no more than these is the work of one warp.
constexpr int kFirstKeys = kWarpSize;
// At most this many blocks run the segment stage, more than any GPU holds at once; each has its own kept_boxes.
constexpr int kMaxSegmentBlocks = 512;

struct RowStatistics {  // softmax: the largest logit of a row, and the sum of its terms
  float max, sum;
};

// How candidates pass from stage to stage: a segment's first kFirstKeys are in first_keys; the others of an image are
// in its pool, whatever their segment, until that is full. An untrained head gives every class a candidate per row, and
// lists of all of them would be as large as the logits: a segment that its list and the pool do not hold is computed
// again from its column of the logits and from what is kept of the rows.
struct PostprocessWorkspace {
  // These begin as zeros.
  int* segment_sizes;      // [N, S] candidates of a segment
  int* pool_sizes;         // [N] candidates offered to the pool, which may exceed its capacity
  int* active_segments;    // [N] segments with candidates
  int* finished_segments;  // [N] those of them whose detections are in kept_keys
  int* kept_sizes;         // [N] detections in kept_keys
  int* work_size;          // [1] segments in `work`
  unsigned* survivors;     // [N, ceil(P / 32)] bit row % 32 of word row / 32: the row may have candidates

  int* work;                  // [N * S] image * S + segment of the segments with candidates, in any order
  uint64_t* first_keys;       // [N, S, kFirstKeys] candidate keys of a segment, in any order
  uint64_t* pool;             // [N, pool_capacity] further candidate keys of an image, in any order
  RowStatistics* statistics;  // [N, P] of the surviving rows, if all columns may be candidates and scores are softmax
  uint64_t* row_best;         // [N, P] of the surviving rows, where only the best column may be one: its key, or 0
  uint64_t* least_keys;       // [N, kMaxHeadLevels] of a top-k scope: candidates with smaller keys do not enter NMS
  uint64_t* kept_keys;        // [N, S * kept_capacity] detection keys of an image, in any order
  Box* kept_boxes;            // [kMaxSegmentBlocks, kept_capacity] what a block has kept of its segment so far
  int pool_capacity, kept_capacity;
};

void score_filter(const PostprocessTask& task, const PostprocessWorkspace& workspace, Stream stream);
void top_k_stage(const PostprocessTask& task, const PostprocessWorkspace& workspace, Stream stream);
void segment_stage(const PostprocessTask& task, const PostprocessWorkspace& workspace, Stream stream);

// The score of one logit, given its row's statistics.
SSD_HD float score_at(const PostprocessTask& task, float logit, RowStatistics row) {
  return task.sigmoid ? sigmoid(logit) : softmax_score(logit, row.max, row.sum);
}

// Whether a logit's score may exceed the threshold: no exponential and no division is needed where it cannot. Exact,
// since the sum of a row's terms is at least 1.
SSD_HD bool may_be_candidate(const PostprocessTask& task, float logit, float row_max) {
  return (task.sigmoid ? logit : sub(logit, row_max)) >= task.reject_below;
}

// The score of a logit, or -1 if it is not a candidate's.
SSD_HD float candidate_score(const PostprocessTask& task, float logit, RowStatistics row) {
  if (!may_be_candidate(task, logit, row.max)) return -1.0f;
  const float score = score_at(task, logit, row);
  return score > task.score_threshold ? score : -1.0f;
}

}  // namespace ssd
