// The scores of a few rows at once. Loops with an accumulator per row are written in vectors, since compilers keep
// arrays of accumulators in memory; compilers vectorize the other loops themselves.
#include "postprocess/row_group_cpu.h"

#include "common/lanes.h"

namespace ssd {
namespace {

template <int kLanes>
SSD_HD void find_largest(const GroupColumn* group, int columns, GroupColumn& largest) {
  for (int first = 0; first < kGroupRows; first += kLanes) {
    Floats<kLanes> best = load<kLanes>(group[0].values + first);
    for (int c = 1; c < columns; ++c) best = max_of(best, load<kLanes>(group[c].values + first));
    std::memcpy(largest.values + first, &best, sizeof best);
  }
}

template <int kLanes>
SSD_HD void add_up(const GroupColumn* group, int columns, GroupColumn& sums) {
  for (int first = 0; first < kGroupRows; first += kLanes) {
    Floats<kLanes> sum = all_lanes<kLanes>(0.0f);
    for (int c = 0; c < columns; ++c) sum = sum + load<kLanes>(group[c].values + first);
    std::memcpy(sums.values + first, &sum, sizeof sum);
  }
}

template <int kLanes>
SSD_HD int find_places(const GroupColumn* group, int columns, int background, float least, uint32_t* places) {
  int count = 0;
  for (int c = 0; c < columns; ++c) {
    if (c == background) continue;
    Ints<kLanes> hits = load<kLanes>(group[c].values) >= least;
    for (int first = kLanes; first < kGroupRows; first += kLanes) {
      hits = hits | (load<kLanes>(group[c].values + first) >= least);
    }
    if (!any<kLanes>(hits)) continue;
    for (int r = 0; r < kGroupRows; ++r) {
      places[count] = static_cast<uint32_t>(c * kGroupRows + r);
      count += group[c].values[r] >= least;
    }
  }
  return count;
}

template <int kLanes>
SSD_HD void find_best(const GroupColumn* scores, int columns, int background, float threshold, GroupBest& best) {
  for (int first = 0; first < kGroupRows; first += kLanes) {
    Floats<kLanes> best_score = all_lanes<kLanes>(threshold);
    Ints<kLanes> best_column = Ints<kLanes>{} - 1;
    for (int c = 0; c < columns; ++c) {
      if (c == background) continue;
      const Floats<kLanes> score = load<kLanes>(scores[c].values + first);
      const Ints<kLanes> better = score > best_score;
      best_score = max_of(best_score, score);
      best_column = (best_column & ~better) | (c & better);
    }
    std::memcpy(best.scores + first, &best_score, sizeof best_score);
    std::memcpy(best.columns + first, &best_column, sizeof best_column);
  }
}

SSD_LANES_CLONES(void, largest_cloned, (const GroupColumn* group, int columns, GroupColumn& largest), find_largest,
                 group, columns, largest)
SSD_LANES_CLONES(void, sums_cloned, (const GroupColumn* group, int columns, GroupColumn& sums), add_up, group, columns,
                 sums)
SSD_LANES_CLONES(int, places_cloned,
                 (const GroupColumn* group, int columns, int background, float least, uint32_t* places), find_places,
                 group, columns, background, least, places)
SSD_LANES_CLONES(void, best_cloned,
                 (const GroupColumn* scores, int columns, int background, float threshold, GroupBest& best), find_best,
                 scores, columns, background, threshold, best)

SSD_CLONES void to_terms(GroupColumn* group, int columns, const GroupColumn& largest) {
  for (int c = 0; c < columns; ++c) {
    for (int r = 0; r < kGroupRows; ++r) group[c].values[r] = softmax_term(group[c].values[r], largest.values[r]);
  }
}

}  // namespace

void softmax_terms(GroupColumn* group, int columns, GroupColumn& sums) {
  GroupColumn largest;
  largest_cloned(group, columns, largest);
  to_terms(group, columns, largest);
  sums_cloned(group, columns, sums);
}

int list_places(const GroupColumn* group, int columns, int background, float least, uint32_t* places) {
  return places_cloned(group, columns, background, least, places);
}

SSD_CLONES void sigmoid_scores(const GroupColumn* group, const uint32_t* places, int count, float* scores) {
  const float* logits = group->values;
  for (int i = 0; i < count; ++i) scores[i] = sigmoid(logits[places[i]]);
}
SSD_CLONES void softmax_scores(const GroupColumn* group, const GroupColumn& sums, const uint32_t* places, int count,
                               float* scores) {
  const float* terms = group->values;
  for (int i = 0; i < count; ++i) scores[i] = div(terms[places[i]], sums.values[places[i] % kGroupRows]);
}

SSD_CLONES void all_sigmoid_scores(GroupColumn* group, int columns) {
  for (int c = 0; c < columns; ++c) {
    for (float& value : group[c].values) value = sigmoid(value);
  }
}
SSD_CLONES void all_softmax_scores(GroupColumn* group, int columns, const GroupColumn& sums) {
  for (int c = 0; c < columns; ++c) {
    for (int r = 0; r < kGroupRows; ++r) group[c].values[r] = div(group[c].values[r], sums.values[r]);
  }
}

void best_of_rows(const GroupColumn* scores, int columns, int background, float threshold, GroupBest& best) {
  best_cloned(scores, columns, background, threshold, best);
}

}  // namespace ssd
