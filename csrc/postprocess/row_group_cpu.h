// The scores of a few rows at once, a row per lane, so that each row's sum is taken in the order of its columns.
#pragma once

#include <cstdint>

namespace ssd {

constexpr int kGroupRows = 16;

struct alignas(64) GroupColumn {  // one column of the rows of a group
  float values[kGroupRows];
};

struct GroupBest {  // of each row
  float scores[kGroupRows];
  int columns[kGroupRows];  // -1: none
};

// Logits become the terms of a softmax, exp(logit - the row's largest), and their sums.
void softmax_terms(GroupColumn* group, int columns, GroupColumn& sums);

// Lists the places, column * kGroupRows + row, but in the background, whose values are at least `least`; columns ascend.
// `places` has room for all places of a group.
int list_places(const GroupColumn* group, int columns, int background, float least, uint32_t* places);

// The scores at listed places: of logits, or of softmax terms.
void sigmoid_scores(const GroupColumn* group, const uint32_t* places, int count, float* scores);
void softmax_scores(const GroupColumn* group, const GroupColumn& sums, const uint32_t* places, int count,
                    float* scores);

// All scores, in place.
void all_sigmoid_scores(GroupColumn* group, int columns);
void all_softmax_scores(GroupColumn* group, int columns, const GroupColumn& sums);

// The best score of each row that exceeds the threshold, and its column, the lowest of equal ones.
void best_of_rows(const GroupColumn* scores, int columns, int background, float threshold, GroupBest& best);

}  // namespace ssd
