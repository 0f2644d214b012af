// Finds the rows that may hold a candidate, in one pass over the logits, without an exponential.
#pragma once

#include <cstdint>

namespace ssd {

// A row survives if some column other than the background has a logit, or, if `relative`, a logit minus the
// background's, of at least `below`. Survivors are listed in ascending order.
struct RejectRule {
  int columns, background;  // background: a column, or -1
  bool relative;
  float below;
};

// Lists the survivors among `count` rows whose columns are adjacent in memory, and returns how many they are.
int surviving_rows(const RejectRule& rule, const float* rows, int64_t row_stride, int count, int* survivors);

// The same for rows that are adjacent in memory themselves, column by column: raise_to_columns raises the largest
// logits so far to those of four columns at a time, and surviving_neighbors lists the survivors by them at the end.
// background: the logits to subtract, or null.
// ahead: the floats this far past each column are prefetched, since a column is too short for the hardware to foresee
// where the next one is.
void raise_to_columns(float* largest, const float* const columns[4], int64_t ahead, int count);
int surviving_neighbors(float below, const float* largest, const float* background, int count, int* survivors);

}  // namespace ssd
