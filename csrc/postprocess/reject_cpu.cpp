// Which rows may hold a candidate. Few rows do, so many are looked at together before one is looked at alone.
#include "postprocess/reject_cpu.h"

#include <algorithm>
#include <limits>

#include "common/lanes.h"

namespace ssd {
namespace {

constexpr float kLowest = -std::numeric_limits<float>::infinity();
constexpr int kBlockRows = 8;

struct Range {
  int begin, end;
  SSD_HD int size() const { return end - begin; }
};
// The columns before and behind the background.
SSD_HD Range before_background(const RejectRule& rule) {
  return {0, rule.background < 0 ? rule.columns : rule.background};
}
SSD_HD Range behind_background(const RejectRule& rule) {
  return {rule.background < 0 ? rule.columns : rule.background + 1, rule.columns};
}

// ---- rows whose columns are neighbours ------------------------------------------------------------------------------

// Of at least kLanes columns: vectors may overlap, since a maximum does not mind.
template <int kLanes>
SSD_HD Floats<kLanes> largest(const float* row, Range range, Floats<kLanes> best) {
  if (range.size() == 0) return best;
  for (int c = range.begin; c + kLanes < range.end; c += kLanes) best = max_of(best, load<kLanes>(row + c));
  return max_of(best, load<kLanes>(row + range.end - kLanes));
}

template <int kLanes>
SSD_HD Floats<kLanes> margins_of_row(const RejectRule& rule, const float* row) {
  Floats<kLanes> best = largest<kLanes>(row, behind_background(rule), all_lanes<kLanes>(kLowest));
  best = largest<kLanes>(row, before_background(rule), best);
  return rule.relative ? best - row[rule.background] : best;
}

SSD_HD bool survives(const RejectRule& rule, const float* first, int64_t column_stride) {
  const float base = rule.relative ? first[rule.background * column_stride] : 0.0f;
  int any = 0;
  for (const Range range : {before_background(rule), behind_background(rule)}) {
    for (int c = range.begin; c < range.end; ++c) any |= sub(first[c * column_stride], base) >= rule.below;
  }
  return any != 0;
}

template <int kLanes>
SSD_HD int list_rows(const RejectRule& rule, const float* rows, int64_t row_stride, int count, int* survivors) {
  const int sizes[2] = {before_background(rule).size(), behind_background(rule).size()};
  const bool fits = (sizes[0] == 0 || sizes[0] >= kLanes) && (sizes[1] == 0 || sizes[1] >= kLanes);
  int num_survivors = 0;
  if (!fits) {
    if constexpr (kLanes > 4) return list_rows<kLanes / 2>(rule, rows, row_stride, count, survivors);
    for (int r = 0; r < count; ++r) {
      survivors[num_survivors] = r;
      num_survivors += survives(rule, rows + r * row_stride, 1);
    }
    return num_survivors;
  }
  for (int first = 0; first < count; first += kBlockRows) {
    const int last = std::min(first + kBlockRows, count);
    Floats<kLanes> best = all_lanes<kLanes>(kLowest);
    for (int r = first; r < last; ++r) best = max_of(best, margins_of_row<kLanes>(rule, rows + r * row_stride));
    if (!any<kLanes>(best >= rule.below)) continue;
    for (int r = first; r < last; ++r) {
      survivors[num_survivors] = r;
      num_survivors += any<kLanes>(margins_of_row<kLanes>(rule, rows + r * row_stride) >= rule.below);
    }
  }
  return num_survivors;
}

// ---- rows that are neighbours ---------------------------------------------------------------------------------------

// Of kVectors * kLanes rows from `first`, those from `from` on.
template <int kLanes, int kVectors>
SSD_HD int list_block(const RejectRule& rule, const float* rows, int64_t column_stride, int first, int from,
                      int* survivors) {
  Floats<kLanes> best[kVectors];
  for (auto& lanes : best) lanes = all_lanes<kLanes>(kLowest);
  for (const Range range : {before_background(rule), behind_background(rule)}) {
    const float* plane = rows + range.begin * column_stride + first;
    for (int c = range.begin; c < range.end; ++c, plane += column_stride) {
      for (int v = 0; v < kVectors; ++v) best[v] = max_of(best[v], load<kLanes>(plane + v * kLanes));
    }
  }
  if (rule.relative) {
    const float* background = rows + rule.background * column_stride + first;
    for (int v = 0; v < kVectors; ++v) best[v] = best[v] - load<kLanes>(background + v * kLanes);
  }
  Ints<kLanes> hits = best[0] >= rule.below;
  for (int v = 1; v < kVectors; ++v) hits = hits | (best[v] >= rule.below);
  if (!any<kLanes>(hits)) return 0;
  float margins[kVectors * kLanes];
  std::memcpy(margins, best, sizeof margins);
  int num_survivors = 0;
  for (int i = from - first; i < kVectors * kLanes; ++i) {
    survivors[num_survivors] = first + i;
    num_survivors += margins[i] >= rule.below;
  }
  return num_survivors;
}

template <int kLanes>
SSD_HD int list_neighbours(const RejectRule& rule, const float* rows, int64_t column_stride, int count,
                           int* survivors) {
  constexpr int kVectors = 4;
  int num_survivors = 0;
  int r = 0;
  for (; r + kVectors * kLanes <= count; r += kVectors * kLanes) {
    num_survivors += list_block<kLanes, kVectors>(rule, rows, column_stride, r, r, survivors + num_survivors);
  }
  if (count >= kLanes) {
    for (; r < count; r += kLanes) {
      const int first = std::min(r, count - kLanes);
      num_survivors += list_block<kLanes, 1>(rule, rows, column_stride, first, r, survivors + num_survivors);
    }
    return num_survivors;
  }
  if constexpr (kLanes > 4) return list_neighbours<kLanes / 2>(rule, rows, column_stride, count, survivors);
  for (; r < count; ++r) {
    survivors[num_survivors] = r;
    num_survivors += survives(rule, rows + r, column_stride);
  }
  return num_survivors;
}

SSD_LANES_CLONES(int, rows_cloned,
                 (const RejectRule& rule, const float* rows, int64_t row_stride, int count, int* survivors), list_rows,
                 rule, rows, row_stride, count, survivors)
SSD_LANES_CLONES(int, neighbours_cloned,
                 (const RejectRule& rule, const float* rows, int64_t column_stride, int count, int* survivors),
                 list_neighbours, rule, rows, column_stride, count, survivors)

}  // namespace

int surviving_rows(const RejectRule& rule, const float* rows, int64_t row_stride, int count, int* survivors) {
  return rows_cloned(rule, rows, row_stride, count, survivors);
}
int surviving_neighbours(const RejectRule& rule, const float* rows, int64_t column_stride, int count, int* survivors) {
  return neighbours_cloned(rule, rows, column_stride, count, survivors);
}

}  // namespace ssd
