// The rows of a block that may hold a candidate, wherever its logits lie in memory and whatever their type.
#include "postprocess/survivors_cpu.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <type_traits>

#include "postprocess/widen_cpu.h"

namespace ssd {
namespace {

constexpr int kBlockRows = 64;     // rows that are tested together
constexpr int kColumnRows = 1536;  // the same, if column by column: a few pages of memory each
constexpr int kColumnsAhead = 6;   // a column is prefetched this many columns before it is read
constexpr int kNeighbors = 8;      // adjacent rows that a pass column by column needs to pay off

template <typename T>
bool is_by_column(const RowBlock<T>& block) {
  return block.column_stride != 1 && block.row_stride == 1 && block.count >= kNeighbors;
}

}  // namespace

Survivors::Survivors() : rows_(kColumnRows), largest_(kColumnRows) {}

template <typename T>
int Survivors::rows_together(const RowBlock<T>& block) {
  return is_by_column(block) ? kColumnRows : kBlockRows;
}

int Survivors::take_all(int count) {
  std::iota(rows_.begin(), rows_.begin() + count, 0);
  return count;
}

template <typename T>
int Survivors::find(const RejectRule& rule, const RowBlock<T>& part) {
  return is_by_column(part) ? find_by_column(rule, part) : find_by_row(rule, part);
}

template <typename T>
int Survivors::find_by_row(const RejectRule& rule, const RowBlock<T>& part) {
  const auto& [first, row_stride, column_stride, count] = part;
  if constexpr (std::is_same_v<T, float>) {
    if (column_stride == 1) return surviving_rows(rule, first, row_stride, count, rows_.data());
  }
  const int columns = rule.columns;
  widened_.resize(static_cast<size_t>(kBlockRows) * columns);
  if (column_stride == 1 && row_stride == columns) {
    widen(first, 1, count * columns, widened_.data());
  } else {
    for (int r = 0; r < count; ++r) widen(first + r * row_stride, column_stride, columns, &widened_[r * columns]);
  }
  return surviving_rows(rule, widened_.data(), columns, count, rows_.data());
}

template <typename T>
int Survivors::find_by_column(const RejectRule& rule, const RowBlock<T>& part) {
  widened_.resize(5 * kColumnRows);
  const auto floats = [&](int column, int buffer) -> const float* {
    const T* column_logits = part.first + column * part.column_stride;
    if constexpr (std::is_same_v<T, float>) {
      return column_logits;
    } else {
      widen(column_logits, 1, part.count, &widened_[buffer * kColumnRows]);
      return &widened_[buffer * kColumnRows];
    }
  };
  std::fill_n(largest_.begin(), part.count, -std::numeric_limits<float>::infinity());
  // Widened logits are in the cache.
  const int64_t ahead = std::is_same_v<T, float> ? kColumnsAhead * part.column_stride : 0;
  const float* columns[4];
  int num_columns = 0;
  for (int c = 0; c < rule.columns; ++c) {
    if (c != rule.background) {
      columns[num_columns] = floats(c, num_columns);
      ++num_columns;
    }
    if (num_columns == 4 || (num_columns > 0 && c + 1 == rule.columns)) {
      std::fill(columns + num_columns, columns + 4, columns[0]);
      raise_to_columns(largest_.data(), columns, ahead, part.count);
      num_columns = 0;
    }
  }
  const float* background = rule.relative ? floats(rule.background, 4) : nullptr;
  return surviving_neighbors(rule.below, largest_.data(), background, part.count, rows_.data());
}

template int Survivors::rows_together(const RowBlock<float>& block);
template int Survivors::rows_together(const RowBlock<Half>& block);
template int Survivors::rows_together(const RowBlock<BFloat16>& block);
template int Survivors::find(const RejectRule& rule, const RowBlock<float>& part);
template int Survivors::find(const RejectRule& rule, const RowBlock<Half>& part);
template int Survivors::find(const RejectRule& rule, const RowBlock<BFloat16>& part);

}  // namespace ssd
