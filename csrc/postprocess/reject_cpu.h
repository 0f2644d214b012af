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

// Of `count` rows whose columns are neighbors in memory.
int surviving_rows(const RejectRule& rule, const float* rows, int64_t row_stride, int count, int* survivors);

// The same of rows that are neighbors in memory themselves, column by column: the largest logits so far, of columns four
// at a time, and at last what they exceed. background: the logits to subtract, or null.
// ahead: what lies so many floats behind each column is prefetched, since a column is too short for the hardware to
// foresee where the next one is.
void raise_to_columns(float* largest, const float* const columns[4], int64_t ahead, int count);
int surviving_neighbors(float below, const float* largest, const float* background, int count, int* survivors);

}  // namespace ssd
