// postprocess_problem.h: head outputs in every layout and type, and the detections that postprocess must make of them.
// The problem is made as logits[image][row][column] and deltas[image][row][4]; storing them in a layout is the inverse
// of what the kernels do to read them. The oracle reads the values, not the layout.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <map>
#include <memory>
#include <optional>

#include "oracles.h"
#include "postprocess/postprocess.h"

namespace ssd::test {

enum class Logits {
  kTrained,    // most rows are background
  kUntrained,  // all scores are near 1 / C
  kTied,       // all scores are equal
  kHostile,    // some rows have NaN or infinite logits
  kNaN,        // all are NaN
};

struct MapSize {
  int anchors;
  int height;
  int width;
  int rows() const { return anchors * height * width; }
};

struct Problem {
  std::vector<MapSize> maps;
  int images = 2;
  int columns = 5;
  bool raw = true;  // else [N, P, C] with gaps between its rows
  bool channels_last = false;
  bool anchor_major = true;
  bool ahw = false;
  DType logits_dtype = DType::float32;
  DType deltas_dtype = DType::float32;
  Logits logits = Logits::kTrained;
  Boxes boxes = Boxes::kRandom;

  bool sigmoid = false;
  int background = 0;
  float score_threshold = 0.05f;
  bool inclusive = false;
  ClassMode class_mode = ClassMode::per_class;
  int top_k = 400;
  TopKScope top_k_scope = TopKScope::segment;
  std::optional<float> min_box_size;
  float iou_threshold = 0.5f;
  int keep_top_k = 100;
  Stage clip = Stage::before_nms;
  Stage rescale = Stage::after_nms;
  bool sizes_per_image = false;
  int pool_capacity = kPoolCapacity;

  int rows() const {
    int sum = 0;
    for (const MapSize& map : maps) sum += map.rows();
    return sum;
  }
  int level_of(int row) const {
    int level = 0;
    for (int end = maps[0].rows(); row >= end; end += maps[level].rows()) ++level;
    return level;
  }
};

struct Detections {
  std::vector<Box> boxes;
  std::vector<float> scores;
  std::vector<int64_t> labels;
  std::vector<int64_t> box_idxs;
  std::vector<int64_t> counts;
};

const BoxCoder kCoder{0.1f, 0.1f, 0.2f, 0.2f, -4.135166556742356f, 4.135166556742356f, false};

// ---- values ---------------------------------------------------------------------------------------------------------

inline std::size_t bytes_of(DType dtype) { return dtype == DType::float32 ? 4 : 2; }

// Writes the value in the type. Returns the written value as a float.
inline float store(float value, DType dtype, unsigned char* to) {
  if (dtype == DType::float16) {
    const __half rounded = __float2half(value);
    std::memcpy(to, &rounded, 2);
    return __half2float(rounded);
  }
  if (dtype == DType::bfloat16) {
    const __nv_bfloat16 rounded = __float2bfloat16(value);
    std::memcpy(to, &rounded, 2);
    return __bfloat162float(rounded);
  }
  std::memcpy(to, &value, 4);
  return value;
}

inline float make_logit(const Problem& problem, Random& random, int column) {
  const float specials[4] = {NAN, INFINITY, -INFINITY, 80.0f};
  const bool is_background = column == problem.background;
  switch (problem.logits) {
    case Logits::kTied:
      return 0.0f;
    case Logits::kNaN:
      return NAN;
    case Logits::kUntrained:
      return random.uniform(-0.25f, 0.25f);
    case Logits::kHostile:
      if (random.below(16) == 0) return specials[random.below(4)];
      [[fallthrough]];
    case Logits::kTrained:
      return is_background ? random.uniform(3.0f, 9.0f) : random.uniform(-6.0f, 6.0f);
  }
  return 0.0f;
}

// ---- one head output ------------------------------------------------------------------------------------------------

// The logits or the deltas of all levels: stored, and as values[(image * rows + row) * columns + column].
struct Head {
  std::vector<View> views;  // one per level, without memory
  std::vector<std::vector<unsigned char>> stored;
  std::vector<float> values;
};

inline View make_view(const Problem& problem, const MapSize& map, int columns, DType dtype) {
  View view;
  view.dtype = dtype;
  const int64_t channels = map.anchors * columns;
  const int64_t cells = map.height * map.width;
  view.shape[0] = problem.images;
  if (!problem.raw) {
    const int64_t gap = 3;
    view.ndim = 3;
    view.shape[1] = map.rows();
    view.shape[2] = columns;
    view.strides[0] = map.rows() * (columns + gap) + gap;
    view.strides[1] = columns + gap;
    view.strides[2] = 1;
    return view;
  }
  view.ndim = 4;
  view.shape[1] = channels;
  view.shape[2] = map.height;
  view.shape[3] = map.width;
  view.strides[0] = channels * cells;
  view.strides[1] = problem.channels_last ? 1 : cells;
  view.strides[2] = problem.channels_last ? map.width * channels : map.width;
  view.strides[3] = problem.channels_last ? channels : 1;
  return view;
}

// value(column) is called once for each value, in the order of the values' indices.
template <class Value>
Head make_head(const Problem& problem, int columns, DType dtype, const Value& value) {
  Head head;
  for (int i = 0; i < problem.images * problem.rows() * columns; ++i) head.values.push_back(value(i % columns));
  int first_row = 0;
  for (const MapSize& map : problem.maps) {
    const View view = make_view(problem, map, columns, dtype);
    std::vector<unsigned char> stored(view.strides[0] * problem.images * bytes_of(dtype));
    for (int image = 0; image < problem.images; ++image) {
      for (int local = 0; local < map.rows(); ++local) {
        const int cells = map.height * map.width;
        const int anchor = problem.ahw ? local / cells : local % map.anchors;
        const int cell = problem.ahw ? local % cells : local / map.anchors;
        for (int column = 0; column < columns; ++column) {
          const int channel = problem.anchor_major ? anchor * columns + column : column * map.anchors + anchor;
          int64_t at = image * view.strides[0];
          if (problem.raw) {
            at += channel * view.strides[1] + cell / map.width * view.strides[2] + cell % map.width * view.strides[3];
          } else {
            at += local * view.strides[1] + column * view.strides[2];
          }
          float& one =
              head.values[(static_cast<int64_t>(image) * problem.rows() + first_row + local) * columns + column];
          one = store(one, dtype, &stored[at * bytes_of(dtype)]);
        }
      }
    }
    head.views.push_back(view);
    head.stored.push_back(stored);
    first_row += map.rows();
  }
  return head;
}

struct Inputs {
  Head logits;
  Head deltas;
  std::vector<Box> default_boxes;
  std::vector<int64_t> image_sizes;  // [N, 2] (height, width)
  std::vector<int64_t> original_sizes;
};

inline Inputs make_inputs(const Problem& problem) {
  Inputs inputs;
  Random random(21);
  inputs.logits = make_head(problem, problem.columns, problem.logits_dtype,
                            [&](int column) { return make_logit(problem, random, column); });
  const bool moved = problem.boxes == Boxes::kRandom || problem.boxes == Boxes::kHostile;
  inputs.deltas =
      make_head(problem, 4, problem.deltas_dtype, [&](int) { return moved ? random.uniform(-1.5f, 1.5f) : 0.0f; });
  inputs.default_boxes = make_boxes<float>(problem.boxes, problem.rows(), 22);
  for (int image = 0; image < problem.images; ++image) {
    const int which = problem.sizes_per_image ? image : 0;
    inputs.image_sizes.insert(inputs.image_sizes.end(), {240 - 7 * which, 230 + 5 * which});
    inputs.original_sizes.insert(inputs.original_sizes.end(), {481 + which, 640 - 3 * which});
  }
  return inputs;
}

// ---- the oracle -----------------------------------------------------------------------------------------------------

// The scores of a row. The formulas for exp and for decoding are box_math's, which other tests cover.
inline std::vector<float> plain_scores(const Problem& problem, const float* logits) {
  const int columns = problem.columns;
  std::vector<float> scores(columns);
  const float max = *std::max_element(logits, logits + columns);
  float sum = 0.0f;
  for (int c = 0; c < columns; ++c) sum += ssd::exp(logits[c] - max);
  for (int c = 0; c < columns; ++c) {
    scores[c] = problem.sigmoid ? 1.0f / (1.0f + ssd::exp(-logits[c])) : ssd::exp(logits[c] - max) / sum;
  }
  return scores;
}

inline Box plain_stage(const Problem& problem, const Inputs& inputs, Stage stage, int image, Box box) {
  const auto height = static_cast<float>(inputs.image_sizes[2 * image]);
  const auto width = static_cast<float>(inputs.image_sizes[2 * image + 1]);
  if (problem.clip == stage) {
    box = {std::clamp(box.x1, 0.0f, width), std::clamp(box.y1, 0.0f, height), std::clamp(box.x2, 0.0f, width),
           std::clamp(box.y2, 0.0f, height)};
  }
  if (problem.rescale == stage) {
    const float y = static_cast<float>(inputs.original_sizes[2 * image]) / height;
    const float x = static_cast<float>(inputs.original_sizes[2 * image + 1]) / width;
    box = {box.x1 * x, box.y1 * y, box.x2 * x, box.y2 * y};
  }
  return box;
}

struct Candidate {
  float score;
  int row, column;
};

// The candidates of an image, best first; ties go to the lower row, then to the lower column.
inline std::vector<Candidate> plain_candidates(const Problem& problem, const Inputs& inputs, int image) {
  std::vector<Candidate> candidates;
  for (int row = 0; row < problem.rows(); ++row) {
    const int64_t first = (static_cast<int64_t>(image) * problem.rows() + row) * problem.columns;
    const std::vector<float> scores = plain_scores(problem, &inputs.logits.values[first]);
    std::vector<Candidate> of_row;
    for (int c = 0; c < problem.columns; ++c) {
      const float limit = problem.score_threshold;
      const bool passes = problem.inclusive ? scores[c] >= limit : scores[c] > limit;
      if (c != problem.background && passes) of_row.push_back({scores[c], row, c});
    }
    if (problem.class_mode != ClassMode::per_class && of_row.size() > 1) {
      of_row = {*std::max_element(of_row.begin(), of_row.end(),
                                  [](const Candidate& a, const Candidate& b) { return a.score < b.score; })};
    }
    candidates.insert(candidates.end(), of_row.begin(), of_row.end());
  }
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const Candidate& a, const Candidate& b) { return a.score > b.score; });
  if (problem.top_k == 0 || problem.top_k_scope == TopKScope::segment) return candidates;
  std::map<int, int> taken;  // of a level, or of the image
  std::vector<Candidate> best;
  for (const Candidate& candidate : candidates) {
    const int scope = problem.top_k_scope == TopKScope::level ? problem.level_of(candidate.row) : 0;
    if (++taken[scope] <= problem.top_k) best.push_back(candidate);
  }
  return best;
}

inline Detections plain_postprocess(const Problem& problem, const Inputs& inputs) {
  Detections all;
  const int rows = problem.rows();
  for (int image = 0; image < problem.images; ++image) {
    std::vector<Box> boxes(rows);
    for (int row = 0; row < rows; ++row) {
      const float* d = &inputs.deltas.values[4 * (image * rows + row)];
      boxes[row] = plain_stage(problem, inputs, Stage::before_nms, image,
                               ssd::decode({d[0], d[1], d[2], d[3]}, inputs.default_boxes[row], kCoder));
    }
    const std::vector<Candidate> candidates = plain_candidates(problem, inputs, image);
    const bool agnostic = problem.class_mode == ClassMode::agnostic;
    std::vector<Candidate> kept;  // by segment, then best first
    for (int segment = 0; segment < (agnostic ? 1 : problem.columns); ++segment) {
      std::vector<Candidate> members;
      for (const Candidate& candidate : candidates) {
        if (agnostic || candidate.column == segment) members.push_back(candidate);
      }
      if (problem.top_k > 0 && problem.top_k_scope == TopKScope::segment &&
          static_cast<int>(members.size()) > problem.top_k) {
        members.resize(problem.top_k);
      }
      std::vector<int64_t> order;
      std::map<int64_t, Candidate> of_row;
      for (const Candidate& member : members) {
        const Box box = boxes[member.row];
        const float limit = problem.min_box_size.value_or(0.0f);
        if (problem.min_box_size.has_value() && !(box.x2 - box.x1 > limit && box.y2 - box.y1 > limit)) continue;
        order.push_back(member.row);
        of_row[member.row] = member;
      }
      for (const int64_t row : plain_nms(boxes, order, {}, problem.iou_threshold)) kept.push_back(of_row[row]);
    }
    std::stable_sort(kept.begin(), kept.end(),
                     [](const Candidate& a, const Candidate& b) { return a.score > b.score; });
    const auto count = std::min<std::size_t>(kept.size(), problem.keep_top_k);
    kept.resize(count);
    for (const Candidate& candidate : kept) {
      all.boxes.push_back(plain_stage(problem, inputs, Stage::after_nms, image, boxes[candidate.row]));
      all.scores.push_back(candidate.score);
      all.labels.push_back(candidate.column);
      all.box_idxs.push_back(candidate.row);
    }
    all.counts.push_back(static_cast<int64_t>(count));
    const std::size_t padded = static_cast<std::size_t>(image + 1) * problem.keep_top_k;
    all.boxes.resize(padded, Box{0, 0, 0, 0});
    all.scores.resize(padded, 0.0f);
    all.labels.resize(padded, -1);
    all.box_idxs.resize(padded, -1);
  }
  return all;
}

}  // namespace ssd::test
