// The head outputs that postprocess takes: their checks, and where their elements lie.
#pragma once

#include <string>
#include <vector>

#include "common/view.h"
#include "postprocess/postprocess_task.h"

namespace ssd {

// Where the elements of one level of one head output lie. `columns`: C for cls_logits, 4 for bbox_regression.
inline HeadMap head_map(const View& view, int64_t columns, bool anchor_major, bool ahw) {
  if (view.ndim == 3) return {view.data, view.strides[0], view.strides[2], {0, view.strides[1], 0}};
  const int64_t channel = view.strides[1];
  const int64_t anchors = columns > 0 ? view.shape[1] / columns : 0;
  const int64_t anchor_stride = anchor_major ? columns * channel : channel;
  const int64_t column_stride = anchor_major ? channel : anchors * channel;
  const int64_t y = view.strides[2];
  const int64_t x = view.strides[3];
  if (ahw) return {view.data, view.strides[0], column_stride, {anchor_stride, y, x}};
  return {view.data, view.strides[0], column_stride, {y, x, anchor_stride}};
}

// Both head outputs: one [N, P, C] and one [N, P, 4], or per level a raw map [N, A * C, h, w] and one [N, A * 4, h, w].
struct HeadOutputs {
  const std::vector<View>&cls_logits, &bbox_regression;
  int64_t num_columns;  // C
  bool anchor_major;    // raw maps: channel a * C + c, else c * A + a
  bool ahw;             // raw maps: row order of default_boxes
};

inline void check_level_counts(const Checks& check, const HeadOutputs& heads) {
  const size_t levels = heads.cls_logits.size();
  if (levels < 1 || levels > kMaxHeadLevels) check.value_error("cls_logits", "1 to 8 levels", std::to_string(levels));
  if (heads.bbox_regression.size() != levels) {
    check.value_error("bbox_regression", std::to_string(levels) + " levels",
                      std::to_string(heads.bbox_regression.size()));
  }
}

// A: the boxes per cell of a raw map.
inline int64_t anchors_of(const HeadOutputs& heads, size_t index) {
  const View &logits = heads.cls_logits[index], &deltas = heads.bbox_regression[index];
  if (logits.ndim != 4) return 1;
  return deltas.ndim == 4 ? deltas.shape[1] / 4 : logits.shape[1] / heads.num_columns;
}

// A level as messages name it: with its index, unless it is the only one.
inline std::string level_name(const HeadOutputs& heads, const char* head, size_t index) {
  const std::string name = head;
  return heads.cls_logits.size() > 1 ? name + "[" + std::to_string(index) + "]" : name;
}

// Level 0 sets the number of images, the device and each head's dtype; the other levels must agree with it.
inline void check_level(const Checks& check, const HeadOutputs& heads, size_t index) {
  const View &logits = heads.cls_logits[index], &deltas = heads.bbox_regression[index];
  const View& first = heads.cls_logits[0];
  const std::string logits_name = level_name(heads, "cls_logits", index);
  const std::string deltas_name = level_name(heads, "bbox_regression", index);
  const int64_t images = first.shape[0];
  if (logits.ndim == 4) {
    const int64_t anchors = anchors_of(heads, index);
    check.shape(logits, logits_name, {images, anchors * heads.num_columns, kAny, kAny});
    check.shape(deltas, deltas_name, {images, 4 * anchors, logits.shape[2], logits.shape[3]});
  } else {
    check.shape(logits, logits_name, {images, kAny, heads.num_columns});
    check.shape(deltas, deltas_name, {images, logits.shape[1], 4});
  }
  using DTypes = std::vector<DType>;
  const DTypes logit_types = {DType::float32, DType::float16, DType::bfloat16};
  check.dtype(logits, logits_name, index == 0 ? logit_types : DTypes{first.dtype});
  check.dtype(deltas, deltas_name, index == 0 ? logit_types : DTypes{heads.bbox_regression[0].dtype});
  check.memory(logits, logits_name, first);
  check.memory(deltas, deltas_name, first);
}

// The level whose rows begin at first_row of the P rows.
inline HeadLevel make_level(const Checks& check, const HeadOutputs& heads, size_t index, int64_t first_row) {
  const View &logits = heads.cls_logits[index], &deltas = heads.bbox_regression[index];
  HeadLevel level{};
  level.logits = head_map(logits, heads.num_columns, heads.anchor_major, heads.ahw);
  level.deltas = head_map(deltas, 4, heads.anchor_major, heads.ahw);
  const bool raw = logits.ndim == 4;
  const int64_t anchors = anchors_of(heads, index);
  const int64_t height = raw ? logits.shape[2] : logits.shape[1];
  const int64_t width = raw ? logits.shape[3] : 1;
  check.fits_int32({anchors, height, width}, level_name(heads, "cls_logits", index));
  const int64_t sizes[3] = {heads.ahw ? anchors : height, heads.ahw ? height : width, heads.ahw ? width : anchors};
  const int64_t flat_sizes[3] = {1, height, 1};
  for (int d = 0; d < 3; ++d) level.sizes[d] = static_cast<int>(raw ? sizes[d] : flat_sizes[d]);
  level.first_row = static_cast<int>(first_row);
  level.num_rows = static_cast<int>(anchors * height * width);
  check.fits_int32({first_row + level.num_rows, heads.num_columns}, "cls_logits");
  return level;
}

// Sets the levels. Returns P, the rows of all of them.
inline int64_t set_levels(const Checks& check, PostprocessTask& task, const HeadOutputs& heads) {
  int64_t num_rows = 0;
  for (size_t i = 0; i < heads.cls_logits.size(); ++i) {
    check_level(check, heads, i);
    task.levels[i] = make_level(check, heads, i, num_rows);
    num_rows += task.levels[i].num_rows;
  }
  task.num_levels = static_cast<int>(heads.cls_logits.size());
  task.logits_dtype = heads.cls_logits[0].dtype;
  task.deltas_dtype = heads.bbox_regression[0].dtype;
  return num_rows;
}

}  // namespace ssd
