// Finds the rows that may hold a candidate. Few do, so many rows are tested together before one is tested alone.
#include "postprocess/reject_cpu.h"

#include <algorithm>
#include <limits>

#include "common/lanes.h"

namespace ssd {
namespace {

constexpr float kLowest = -std::numeric_limits<float>::infinity();
constexpr int kBlockRows = 8;
constexpr int kLine = 16;  // floats per cache line

struct Range {
  int begin, end;
  SSD_HD int size() const { return end - begin; }
};
// The columns before and after the background.
SSD_HD Range before_background(const RejectRule& rule) {
  return {0, rule.background < 0 ? rule.columns : rule.background};
}
SSD_HD Range after_background(const RejectRule& rule) {
  return {rule.background < 0 ? rule.columns : rule.background + 1, rule.columns};
}

// ---- rows of adjacent columns ---------------------------------------------------------------------------------------

// The range has at least kLanes columns. Vectors may overlap, since a maximum does not mind.
template <int kLanes>
SSD_HD Floats<kLanes> largest(const float* row, Range range, Floats<kLanes> best) {
  if (range.size() == 0) return best;
  for (int c = range.begin; c + kLanes < range.end; c += kLanes) best = max_of(best, load<kLanes>(row + c));
  return max_of(best, load<kLanes>(row + range.end - kLanes));
}

template <int kLanes>
SSD_HD Floats<kLanes> margins_of_row(const RejectRule& rule, const float* row) {
  Floats<kLanes> best = largest<kLanes>(row, after_background(rule), all_lanes<kLanes>(kLowest));
  best = largest<kLanes>(row, before_background(rule), best);
  return rule.relative ? best - row[rule.background] : best;
}

SSD_HD bool survives(const RejectRule& rule, const float* row) {
  const float base = rule.relative ? row[rule.background] : 0.0f;
  int any = 0;
  for (const Range range : {before_background(rule), after_background(rule)}) {
    for (int c = range.begin; c < range.end; ++c) any |= sub(row[c], base) >= rule.below;
  }
  return any != 0;
}

template <int kLanes>
SSD_HD int list_rows(const RejectRule& rule, const float* rows, int64_t row_stride, int count, int* survivors) {
  const int sizes[2] = {before_background(rule).size(), after_background(rule).size()};
  const bool fits = (sizes[0] == 0 || sizes[0] >= kLanes) && (sizes[1] == 0 || sizes[1] >= kLanes);
  int num_survivors = 0;
  if (!fits) {
    if constexpr (kLanes > 4) return list_rows<kLanes / 2>(rule, rows, row_stride, count, survivors);
    for (int r = 0; r < count; ++r) {
      survivors[num_survivors] = r;
      num_survivors += survives(rule, rows + r * row_stride);
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

// ---- adjacent rows -------------------------------------------------------------------------------------------------

// Vectors may overlap, since a maximum does not mind.
template <int kLanes>
SSD_HD void raise(float* largest, const float* const columns[4], int64_t ahead, int count) {
  const float *a = columns[0], *b = columns[1], *c = columns[2], *d = columns[3];
  const auto raise_lanes = [&](int i) {
    Floats<kLanes> best = max_of(load<kLanes>(largest + i), load<kLanes>(a + i));
    best = max_of(max_of(max_of(best, load<kLanes>(b + i)), load<kLanes>(c + i)), load<kLanes>(d + i));
    std::memcpy(largest + i, &best, sizeof best);
  };
  int first = 0;
  for (; first + kLine <= count; first += kLine) {
    prefetch(a + first, ahead);
    prefetch(b + first, ahead);
    prefetch(c + first, ahead);
    prefetch(d + first, ahead);
    for (int i = first; i < first + kLine; i += kLanes) raise_lanes(i);
  }
  if (count >= kLanes) {
    for (; first < count; first += kLanes) raise_lanes(std::min(first, count - kLanes));
  } else {
    for (int i = 0; i < count; ++i) {
      largest[i] = max_of(max_of(max_of(max_of(largest[i], a[i]), b[i]), c[i]), d[i]);
    }
  }
}

template <int kLanes>
SSD_HD int list_neighbors(float below, const float* largest, const float* background, int count, int* survivors) {
  const auto margin = [&](int r) { return background == nullptr ? largest[r] : sub(largest[r], background[r]); };
  constexpr int kBlock = 4 * kLanes;
  int num_survivors = 0;
  for (int first = 0; first < count; first += kBlock) {
    const int last = std::min(first + kBlock, count);
    if (last - first == kBlock) {
      Ints<kLanes> hits{};
      for (int r = first; r < last; r += kLanes) {
        Floats<kLanes> margins = load<kLanes>(largest + r);
        if (background != nullptr) margins = margins - load<kLanes>(background + r);
        hits = hits | (margins >= below);
      }
      if (!any<kLanes>(hits)) continue;
    }
    for (int r = first; r < last; ++r) {
      survivors[num_survivors] = r;
      num_survivors += margin(r) >= below;
    }
  }
  return num_survivors;
}

SSD_LANES_CLONES(int, rows_cloned,
                 (const RejectRule& rule, const float* rows, int64_t row_stride, int count, int* survivors), list_rows,
                 rule, rows, row_stride, count, survivors)
SSD_LANES_CLONES(void, raise_cloned, (float* largest, const float* const columns[4], int64_t ahead, int count), raise,
                 largest, columns, ahead, count)
SSD_LANES_CLONES(int, neighbors_cloned,
                 (float below, const float* largest, const float* background, int count, int* survivors),
                 list_neighbors, below, largest, background, count, survivors)

}  // namespace

int surviving_rows(const RejectRule& rule, const float* rows, int64_t row_stride, int count, int* survivors) {
  return rows_cloned(rule, rows, row_stride, count, survivors);
}

void raise_to_columns(float* largest, const float* const columns[4], int64_t ahead, int count) {
  raise_cloned(largest, columns, ahead, count);
}
int surviving_neighbors(float below, const float* largest, const float* background, int count, int* survivors) {
  return neighbors_cloned(below, largest, background, count, survivors);
}

}  // namespace ssd
