// The first stage of postprocess on the CPU. Most rows hold no candidate, and the logits alone say so: the stage is one
// vectorized pass over the logits, and takes exponentials of the few rows that survive.
#include "postprocess/score_filter_cpu.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "common/interrupt.h"
#include "postprocess/score_threshold.h"

namespace ssd {

ScoreFilter::ScoreFilter(const PostprocessTask& task)
    : task_(task),
      limited_(task),
      group_(task.num_columns),
      places_(static_cast<size_t>(task.num_columns) * kGroupRows),
      scores_(places_.size()) {}

void ScoreFilter::find(int64_t image, int begin, int end, size_t capacity, Candidates& candidates) {
  capacity_ = capacity;
  candidates_ = &candidates;
  candidates.keys.clear();
  candidates.complete_from = 0;
  limited_.score_threshold = task_.score_threshold;
  limited_.reject_below = task_.reject_below;
  limited_.can_reject = task_.can_reject;
  group_size_ = 0;
  for (int i = 0; i < task_.num_levels; ++i) {
    const HeadLevel& level = task_.levels[i];
    const int first = std::max(begin - level.first_row, 0);
    const int last = std::min(end - level.first_row, level.num_rows);
    if (first >= last) continue;
    visit_logit_type(task_.logits_dtype, [&](auto zero) { scan_level<decltype(zero)>(level, image, first, last); });
  }
  score_group();
}

template <typename T>
void ScoreFilter::scan_level(const HeadLevel& level, int64_t image, int begin, int end) {
  const RowRuns runs(level.logits, level.sizes);
  const T* data = static_cast<const T*>(level.logits.data) + image * level.logits.image_stride;
  while (begin < end) {
    const int run = begin / runs.length();
    const int skipped = begin % runs.length();
    const int count = std::min(end - begin, runs.length() - skipped);
    const RowBlock<T> whole{data + runs.first_offset(run), runs.stride(), level.logits.column_stride, runs.length()};
    scan_block(whole.part(skipped, count), level.first_row + runs.first_row(run) + skipped * runs.step(), runs.step());
    begin += count;
  }
}

template <typename T>
void ScoreFilter::scan_block(const RowBlock<T>& block, int first_row, int step) {
  const int rows_together = Survivors::rows_together(block);
  for (int begin = 0; begin < block.count; begin += rows_together) {
    const RowBlock<T> part = block.part(begin, std::min(rows_together, block.count - begin));
    poll_interrupt(int64_t{part.count} * task_.num_columns);
    const RejectRule rule{task_.num_columns, task_.background, !task_.sigmoid, limited_.reject_below};
    const int count = limited_.can_reject ? survivors_.find(rule, part) : survivors_.take_all(part.count);
    for (int i = 0; i < count; ++i) {
      const int r = survivors_[i];
      add_row(part.first + r * part.row_stride, part.column_stride, first_row + (begin + r) * step);
    }
  }
}

template <typename T>
void ScoreFilter::add_row(const T* first, int64_t column_stride, int row) {
  for (int c = 0; c < task_.num_columns; ++c) group_[c].values[group_size_] = to_float(first[c * column_stride]);
  group_rows_[group_size_++] = row;
  if (group_size_ == kGroupRows) score_group();
}

// Lists the candidates of the rows added since the last call.
void ScoreFilter::score_group() {
  if (group_size_ == 0) return;
  GroupColumn sums;
  if (!task_.sigmoid) softmax_terms(group_.data(), task_.num_columns, sums);
  task_.class_mode == ClassMode::per_class ? list_candidates(sums) : list_best(sums);
  group_size_ = 0;
  if (candidates_->keys.size() / 2 >= capacity_) drop_worst();
}

void ScoreFilter::list_candidates(const GroupColumn& sums) {
  // The sum of a softmax is at least 1, so a score exceeds the threshold only where its term does.
  const float least = task_.sigmoid ? limited_.reject_below
                                    : std::nextafter(limited_.score_threshold, std::numeric_limits<float>::infinity());
  const int count = list_places(group_.data(), task_.num_columns, task_.background, least, places_.data());
  if (task_.sigmoid) {
    sigmoid_scores(group_.data(), places_.data(), count, scores_.data());
  } else {
    softmax_scores(group_.data(), sums, places_.data(), count, scores_.data());
  }
  for (int i = 0; i < count; ++i) {
    const int r = static_cast<int>(places_[i] % kGroupRows);
    if (r < group_size_ && scores_[i] > limited_.score_threshold) {
      append(scores_[i], group_rows_[r], static_cast<int>(places_[i] / kGroupRows));
    }
  }
}

void ScoreFilter::list_best(const GroupColumn& sums) {
  if (task_.sigmoid) {
    all_sigmoid_scores(group_.data(), task_.num_columns);
  } else {
    all_softmax_scores(group_.data(), task_.num_columns, sums);
  }
  GroupBest best;
  best_of_rows(group_.data(), task_.num_columns, task_.background, limited_.score_threshold, best);
  for (int r = 0; r < group_size_; ++r) {
    if (best.columns[r] >= 0) append(best.scores[r], group_rows_[r], best.columns[r]);
  }
}

void ScoreFilter::append(float score, int row, int column) {
  candidates_->keys.push_back(sorting_key(task_, candidate_key(task_, score, row, column)));
}

// Keeps the best `capacity` candidates, and raises the threshold so that later ones score no worse.
void ScoreFilter::drop_worst() {
  Vector<uint64_t>& keys = candidates_->keys;
  std::nth_element(keys.begin(), keys.begin() + capacity_ - 1, keys.end(), std::greater<uint64_t>());
  keys.resize(capacity_);
  candidates_->complete_from = keys.back();
  const float score = score_of(keys.back());
  if (score > 0) set_score_threshold(limited_, std::max(std::nextafter(score, -1.0f), task_.score_threshold));
}

}  // namespace ssd
