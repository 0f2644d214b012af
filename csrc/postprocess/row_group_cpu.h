// The scores of a few rows at once, one row per lane, so that each row's sum is taken in the order of its columns.
#pragma once

#include <cstdint>

namespace ssd {

constexpr int kGroupRows = 16;

struct alignas(64) GroupColumn {  // one column of the rows of a group
  float values[kGroupRows];
};

struct GroupBest {  // per row
  float scores[kGroupRows];
  int columns[kGroupRows];  // -1: none
};

// Replaces logits by the terms of a softmax, exp(logit - the row's largest), and sums those per row.
void softmax_terms(GroupColumn* group, int columns, GroupColumn& sums);

// Lists the places, column * kGroupRows + row, outside the background whose values are at least `least`, by ascending
// column. `places` has room for all places of a group.
int list_places(const GroupColumn* group, int columns, int background, float least, uint32_t* places);

// Computes the scores at listed places, from logits or from softmax terms.
void sigmoid_scores(const GroupColumn* group, const uint32_t* places, int count, float* scores);
void softmax_scores(const GroupColumn* group, const GroupColumn& sums, const uint32_t* places, int count,
                    float* scores);

// Computes all scores, in place.
void all_sigmoid_scores(GroupColumn* group, int columns);
void all_softmax_scores(GroupColumn* group, int columns, const GroupColumn& sums);

// Finds each row's best score above the threshold, and its column, the lowest of tied ones.
void best_of_rows(const GroupColumn* scores, int columns, int background, float threshold, GroupBest& best);

}  // namespace ssd
