// The first stage of postprocess on the CPU. Most rows hold no candidate, and the logits alone say so (reject_below):
// the stage is one vectorised pass over the logits, and takes exponentials of the few rows that survive.
#include "postprocess/score_filter_cpu.h"

#include <algorithm>

#include "common/simd.h"

namespace ssd {
namespace {

constexpr int kTileRows = 64;
constexpr int kLanes = 16;

// Lists the rows of a tile in which some column but the background may hold a candidate. rows: [count, columns].
SSD_CLONES int surviving_rows(const PostprocessTask& task, const float* rows, int64_t row_stride, int count,
                              int* survivors) {
  const int columns = task.num_columns;
  const int background = task.background;
  const bool relative = !task.sigmoid;
  const int head = background < 0 ? columns : background;  // the columns before and behind the background
  int num_survivors = 0;
  for (int r = 0; r < count; ++r) {
    const float* row = rows + r * row_stride;
    const float base = relative ? row[background] : 0.0f;
    int any = 0;
    for (int c = 0; c < head; ++c) any |= sub(row[c], base) >= task.reject_below;
    for (int c = head + 1; c < columns; ++c) any |= sub(row[c], base) >= task.reject_below;
    survivors[num_survivors] = r;
    num_survivors += any;
  }
  return num_survivors;
}

// The scores of one row.
SSD_CLONES void row_scores(bool sigmoid_activation, const float* row, int columns, float* scores) {
  if (sigmoid_activation) {
    for (int c = 0; c < columns; ++c) scores[c] = sigmoid(row[c]);
    return;
  }
  float lanes[kLanes];  // the maximum does not depend on the order, so it may be taken in lanes
  for (float& lane : lanes) lane = row[0];
  int c = 0;
  for (; c + kLanes <= columns; c += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] = max_of(lanes[lane], row[c + lane]);
  }
  float max = lanes[0];
  for (const float lane : lanes) max = max_of(max, lane);
  for (; c < columns; ++c) max = max_of(max, row[c]);

  for (int i = 0; i < columns; ++i) scores[i] = softmax_term(row[i], max);
  float sum = 0.0f;
  for (int i = 0; i < columns; ++i) sum = add(sum, scores[i]);
  for (int i = 0; i < columns; ++i) scores[i] = div(scores[i], sum);
}

// A tile's logits as float rows: where they lie if they do so already, else gathered into `buffer`.
template <typename T>
const float* tile_rows(const PostprocessTask& task, const HeadLevel& level, int64_t image, int first, int count,
                       std::vector<float>& buffer, int64_t& row_stride) {
  const HeadMap& map = level.logits;
  const auto* data = static_cast<const T*>(map.data);
  const int columns = task.num_columns;
  const bool plain_rows = level.sizes[0] == 1 && level.sizes[2] == 1 && map.column_stride == 1;
  if constexpr (std::is_same_v<T, float>) {
    if (plain_rows) {
      row_stride = map.strides[1];
      return data + map.row_offset(image, first, level.sizes);
    }
  }
  row_stride = columns;
  buffer.resize(static_cast<size_t>(kTileRows) * columns);
  int64_t offsets[kTileRows];
  for (int r = 0; r < count; ++r) offsets[r] = map.row_offset(image, first + r, level.sizes);
  if (map.column_stride == 1) {
    for (int r = 0; r < count; ++r) {
      for (int c = 0; c < columns; ++c) buffer[r * columns + c] = to_float(data[offsets[r] + c]);
    }
  } else {  // NCHW: neighbouring rows are neighbours in memory
    for (int c = 0; c < columns; ++c) {
      const T* plane = data + c * map.column_stride;
      for (int r = 0; r < count; ++r) buffer[r * columns + c] = to_float(plane[offsets[r]]);
    }
  }
  return buffer.data();
}

template <typename T>
void filter_level(const PostprocessTask& task, const HeadLevel& level, int64_t image, int begin, int end,
                  std::vector<uint64_t>& candidates) {
  std::vector<float> buffer;
  std::vector<float> scores(task.num_columns);
  int survivors[kTileRows];
  for (int first = begin; first < end; first += kTileRows) {
    const int count = std::min(kTileRows, end - first);
    int64_t row_stride;
    const float* rows = tile_rows<T>(task, level, image, first, count, buffer, row_stride);
    int num_survivors = count;
    if (task.can_reject) {
      num_survivors = surviving_rows(task, rows, row_stride, count, survivors);
    } else {
      for (int r = 0; r < count; ++r) survivors[r] = r;
    }
    for (int s = 0; s < num_survivors; ++s) {
      const int r = survivors[s];
      row_scores(task.sigmoid, rows + r * row_stride, task.num_columns, scores.data());
      const int row = level.first_row + first + r;
      float best = task.score_threshold;
      int best_column = -1;
      for (int c = 0; c < task.num_columns; ++c) {
        if (c == task.background || !(scores[c] > best)) continue;
        if (task.class_mode == ClassMode::per_class) {
          candidates.push_back(candidate_key(task, scores[c], row, c));
        } else {
          best = scores[c];
          best_column = c;
        }
      }
      if (best_column >= 0) candidates.push_back(candidate_key(task, best, row, best_column));
    }
  }
}

}  // namespace

void score_filter_cpu(const PostprocessTask& task, int64_t image, int begin, int end,
                      std::vector<uint64_t>& candidates) {
  for (int i = 0; i < task.num_levels; ++i) {
    const HeadLevel& level = task.levels[i];
    const int first = std::max(begin - level.first_row, 0);
    const int last = std::min(end - level.first_row, level.num_rows);
    if (first >= last) continue;
    visit_logit_type(task.logits_dtype,
                     [&](auto zero) { filter_level<decltype(zero)>(task, level, image, first, last, candidates); });
  }
}

}  // namespace ssd
