// The first stage of postprocess on the CPU: finds the candidates in the logits.
#pragma once

#include "common/vector.h"
#include "postprocess/candidate_key.h"
#include "postprocess/row_group_cpu.h"
#include "postprocess/row_runs_cpu.h"
#include "postprocess/survivors_cpu.h"

namespace ssd {

// Sorts candidates as detections, unless a top-k over several segments has to be taken first.
SSD_HD uint64_t sorting_key(const PostprocessTask& task, uint64_t candidate) {
  return task.top_k_scope == TopKScope::segment ? detection_key(task, candidate) : candidate;
}

struct Candidates {
  Vector<uint64_t> keys;       // sorting_key
  uint64_t complete_from = 0;  // some candidates with smaller keys were left out; 0: none was
};

// Finds candidates. One per thread, which reuses its memory.
class ScoreFilter {
 public:
  explicit ScoreFilter(const PostprocessTask& task);

  // Finds the candidates among the rows [begin, end) of an image, in memory order. If there are many, it keeps
  // at least the best `capacity` of them.
  void find(int64_t image, int begin, int end, size_t capacity, Candidates& candidates);

 private:
  template <typename T>
  void scan_level(const HeadLevel& level, int64_t image, int begin, int end);
  template <typename T>
  void scan_block(const RowBlock<T>& block, int first_row, int step);
  template <typename T>
  void add_row(const T* first, int64_t column_stride, int row);
  void score_group();
  void list_candidates(const GroupColumn& sums);
  void list_best(const GroupColumn& sums);
  void append(float score, int row, int column);
  void drop_worst();

  const PostprocessTask& task_;
  PostprocessTask limited_;  // the task with a threshold that rises with the candidates found
  size_t capacity_ = 0;
  Candidates* candidates_ = nullptr;
  Survivors survivors_;
  Vector<GroupColumn> group_;
  int group_rows_[kGroupRows] = {};
  int group_size_ = 0;
  Vector<uint32_t> places_;
  Vector<float> scores_;
};

}  // namespace ssd
