// The first stage of postprocess on the CPU: logits -> the candidates.
#pragma once

#include <vector>

#include "postprocess/candidate_key.h"
#include "postprocess/row_group_cpu.h"
#include "postprocess/row_runs_cpu.h"
#include "postprocess/survivors_cpu.h"

namespace ssd {

// What candidates are sorted by: the order of detections, unless a top-k over several segments has to be taken first.
SSD_HD uint64_t sorting_key(const PostprocessTask& task, uint64_t candidate) {
  return task.top_k_scope == TopKScope::segment ? detection_key(task, candidate) : candidate;
}

struct Candidates {
  std::vector<uint64_t> keys;  // sorting_key
  uint64_t complete_from = 0;  // of the candidates with smaller keys some were left out; 0: none was
};

// Finds candidates. One per thread: it has the memory that this takes.
class ScoreFilter {
 public:
  explicit ScoreFilter(const PostprocessTask& task);

  // The candidates among the rows [begin, end) of an image, in the order in which rows lie in memory. Where there are
  // many, at least the best `capacity` of them.
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
  PostprocessTask limited_;  // the same, but that its threshold rises with the candidates found
  size_t capacity_ = 0;
  Candidates* candidates_ = nullptr;
  Survivors survivors_;
  std::vector<GroupColumn> group_;
  int group_rows_[kGroupRows] = {};
  int group_size_ = 0;
  std::vector<uint32_t> places_;
  std::vector<float> scores_;
};

}  // namespace ssd
