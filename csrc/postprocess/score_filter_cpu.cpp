// The first stage of postprocess on the CPU. Most rows hold no candidate, and the logits alone say so: the stage is one
// vectorised pass over the logits, and takes exponentials of the few rows that survive.
#include "postprocess/score_filter_cpu.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <type_traits>

#include "common/simd.h"
#include "postprocess/postprocess.h"
#include "postprocess/reject_cpu.h"

namespace ssd {
namespace {

constexpr int kBlockRows = 64;     // rows that are looked at together
constexpr int kColumnRows = 1536;  // the same, if column by column: a few pages of memory each
constexpr int kColumnsAhead = 6;   // a column is prefetched so many columns before it is read
constexpr int kNeighbours = 8;     // rows that must be neighbours in memory for a pass column by column to pay

// Logits as floats, where `count` of them lie `stride` apart. target_clones does not work on templates.
template <typename T>
SSD_HD void widen_all(const T* from, int64_t stride, int count, float* to) {
  if (stride == 1) {
    for (int i = 0; i < count; ++i) to[i] = to_float(from[i]);
  } else {
    for (int i = 0; i < count; ++i) to[i] = to_float(from[i * stride]);
  }
}
SSD_CLONES void widen(const float* from, int64_t stride, int count, float* to) { widen_all(from, stride, count, to); }
SSD_CLONES void widen(const Half* from, int64_t stride, int count, float* to) { widen_all(from, stride, count, to); }
SSD_CLONES void widen(const BFloat16* from, int64_t stride, int count, float* to) {
  widen_all(from, stride, count, to);
}

}  // namespace

ScoreFilter::ScoreFilter(const PostprocessTask& task)
    : task_(task),
      limited_(task),
      group_(task.num_columns),
      places_(static_cast<size_t>(task.num_columns) * kGroupRows),
      scores_(places_.size()),
      largest_(kColumnRows),
      survivors_(kColumnRows) {}

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
    scan_run(level, runs, data + runs.first_offset(run) + skipped * runs.stride(),
             level.first_row + runs.first_row(run) + skipped * runs.step(), count);
    begin += count;
  }
}

template <typename T>
void ScoreFilter::scan_run(const HeadLevel& level, const RowRuns& runs, const T* first, int row, int count) {
  const int64_t column_stride = level.logits.column_stride;
  const bool by_column = column_stride != 1 && runs.stride() == 1 && count >= kNeighbours;
  const int block_rows = by_column ? kColumnRows : kBlockRows;
  for (int begin = 0; begin < count; begin += block_rows) {
    const T* block = first + begin * runs.stride();
    const int rows = std::min(block_rows, count - begin);
    int num_survivors = rows;
    if (!limited_.can_reject) {
      std::iota(survivors_.begin(), survivors_.begin() + rows, 0);
    } else if (by_column) {
      num_survivors = survivors_by_column(block, column_stride, rows);
    } else {
      num_survivors = survivors(block, runs.stride(), column_stride, rows);
    }
    for (int i = 0; i < num_survivors; ++i) {
      const int r = survivors_[i];
      add_row(block + r * runs.stride(), column_stride, row + (begin + r) * runs.step());
    }
  }
}

// Fills survivors_; returns how many.
template <typename T>
int ScoreFilter::survivors(const T* first, int64_t row_stride, int64_t column_stride, int count) {
  const int columns = task_.num_columns;
  const RejectRule rule{columns, task_.background, !task_.sigmoid, limited_.reject_below};
  if constexpr (std::is_same_v<T, float>) {
    if (column_stride == 1) return surviving_rows(rule, first, row_stride, count, survivors_.data());
  }
  widened_.resize(static_cast<size_t>(kBlockRows) * columns);
  if (column_stride == 1 && row_stride == columns) {
    widen(first, 1, count * columns, widened_.data());
  } else {
    for (int r = 0; r < count; ++r) widen(first + r * row_stride, column_stride, columns, &widened_[r * columns]);
  }
  return surviving_rows(rule, widened_.data(), columns, count, survivors_.data());
}

template <typename T>
int ScoreFilter::survivors_by_column(const T* first, int64_t column_stride, int count) {
  widened_.resize(5 * kColumnRows);
  const auto floats = [&](int column, int buffer) -> const float* {
    const T* of_column = first + column * column_stride;
    if constexpr (std::is_same_v<T, float>) {
      return of_column;
    } else {
      widen(of_column, 1, count, &widened_[buffer * kColumnRows]);
      return &widened_[buffer * kColumnRows];
    }
  };
  std::fill_n(largest_.begin(), count, -std::numeric_limits<float>::infinity());
  // Widened logits are in the cache.
  const int64_t ahead = std::is_same_v<T, float> ? kColumnsAhead * column_stride : 0;
  const float* columns[4];
  int num_columns = 0;
  for (int c = 0; c < task_.num_columns; ++c) {
    if (c != task_.background) {
      columns[num_columns] = floats(c, num_columns);
      ++num_columns;
    }
    if (num_columns == 4 || (num_columns > 0 && c + 1 == task_.num_columns)) {
      std::fill(columns + num_columns, columns + 4, columns[0]);
      raise_to_columns(largest_.data(), columns, ahead, count);
      num_columns = 0;
    }
  }
  const float* background = task_.sigmoid ? nullptr : floats(task_.background, 4);
  return surviving_neighbours(limited_.reject_below, largest_.data(), background, count, survivors_.data());
}

template <typename T>
void ScoreFilter::add_row(const T* first, int64_t column_stride, int row) {
  for (int c = 0; c < task_.num_columns; ++c) group_[c].of_row[group_size_] = to_float(first[c * column_stride]);
  group_rows_[group_size_++] = row;
  if (group_size_ == kGroupRows) score_group();
}

// Lists the candidates of the rows added since the last time.
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

// Leaves the best `capacity` candidates, and lets the next ones be no worse in score.
void ScoreFilter::drop_worst() {
  std::vector<uint64_t>& keys = candidates_->keys;
  std::nth_element(keys.begin(), keys.begin() + capacity_ - 1, keys.end(), std::greater<uint64_t>());
  keys.resize(capacity_);
  candidates_->complete_from = keys.back();
  const float score = score_of(keys.back());
  if (score > 0) set_score_threshold(limited_, std::max(std::nextafter(score, -1.0f), task_.score_threshold));
}

}  // namespace ssd
