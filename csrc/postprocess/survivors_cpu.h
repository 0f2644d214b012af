// The rows of a block that may hold a candidate, wherever its logits lie in memory and whatever their type.
#pragma once

#include <cstdint>

#include "common/vector.h"
#include "postprocess/reject_cpu.h"

namespace ssd {

// The logits of `count` rows, equally far apart.
template <typename T>
struct RowBlock {
  const T* first;
  int64_t row_stride, column_stride;
  int count;

  RowBlock part(int begin, int rows) const { return {first + begin * row_stride, row_stride, column_stride, rows}; }
};

// Lists rows by their places in a block. One per thread, which reuses its memory.
class Survivors {
 public:
  Survivors();

  // How many rows of a block are best tested together.
  template <typename T>
  static int rows_together(const RowBlock<T>& block);

  // Both list rows of a part of at most rows_together, all or the survivors, and return how many they are.
  int take_all(int count);
  template <typename T>
  int find(const RejectRule& rule, const RowBlock<T>& part);

  int operator[](int i) const { return rows_[i]; }

 private:
  template <typename T>
  int find_by_row(const RejectRule& rule, const RowBlock<T>& part);
  template <typename T>
  int find_by_column(const RejectRule& rule, const RowBlock<T>& part);

  Vector<int> rows_;
  Vector<float> largest_;  // logits of the rows
  Vector<float> widened_;  // logits of 16 bits as floats
};

}  // namespace ssd
