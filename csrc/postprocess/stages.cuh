// The stages of postprocess in CUDA, and the workspace through which they pass candidates on.
#pragma once

#include "common/cuda.cuh"
#include "postprocess/postprocess_launch.h"

namespace ssd {

// Candidates of a segment (a class of an image) that are listed. Of a segment with more, the next stage rescans the
// logits instead: an untrained head gives every class a candidate a row, and lists for that would be as large as the
// logits.
constexpr int kListCapacity = 1024;

struct PostprocessWorkspace {
  float* row_max;       // [N, P] softmax: the largest logit of a row, +inf where the row has no candidate
  float* row_sum;       // [N, P] softmax: the sum of its terms
  uint64_t* lists;      // [N, C, list_capacity] candidate keys of a segment, in any order
  int* list_sizes;      // [N, C] candidates of a segment, which may exceed the list
  uint64_t* kept_keys;  // [N, C, kept_capacity] what NMS keeps of a segment, best first
  Box* kept_boxes;      // [N, C, kept_capacity]
  int* kept_sizes;      // [N, C]
  int list_capacity, kept_capacity;
};

void score_filter(const PostprocessTask& task, const PostprocessWorkspace& workspace, Stream stream);
void segment_nms_stage(const PostprocessTask& task, const PostprocessWorkspace& workspace, Stream stream);
void merge_stage(const PostprocessTask& task, const PostprocessWorkspace& workspace, Stream stream);

// The score of one logit, given its row's statistics.
SSD_HD float score_at(const PostprocessTask& task, float logit, float row_max, float row_sum) {
  return task.sigmoid ? sigmoid(logit) : softmax_score(logit, row_max, row_sum);
}

}  // namespace ssd
