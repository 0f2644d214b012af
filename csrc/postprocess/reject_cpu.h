// Which rows may hold a candidate: one pass over the logits, without an exponential.
#pragma once

#include <cstdint>

namespace ssd {

// A row survives if some column but the background has a logit that is not below `below`: the logit itself, or, if
// `relative`, what it has more than the background's. Lists of survivors ascend.
struct RejectRule {
  int columns, background;  // background: a column, or -1
  bool relative;
  float below;
};

// Of `count` rows whose columns are neighbours in memory.
int surviving_rows(const RejectRule& rule, const float* rows, int64_t row_stride, int count, int* survivors);

// Of `count` rows that are neighbours in memory themselves, column by column.
int surviving_neighbours(const RejectRule& rule, const float* rows, int64_t column_stride, int count, int* survivors);

}  // namespace ssd
