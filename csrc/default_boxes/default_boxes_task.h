// default_boxes: the parameters that the entry points take, and default_box_at, by which every backend makes a box.
#pragma once

#include "common/box_math.h"
#include "common/stream.h"

namespace ssd {

constexpr int kMaxLevels = 8;
constexpr int kMaxBoxSizes = 128;  // over all levels; the parameters must fit a kernel's 4 KB

struct DefaultBoxLevel {
  int height, width, boxes_per_cell;
  int first_row, first_size;  // of this level in the output, and in `widths` and `heights`
  float step_y, step_x;
};

struct DefaultBoxParams {
  DefaultBoxLevel levels[kMaxLevels];
  int num_levels, num_rows;
  float widths[kMaxBoxSizes], heights[kMaxBoxSizes];
  float offset, image_height, image_width;
  bool clip_centers, clip, normalized, ahw;
};

SSD_HD Box default_box_at(const DefaultBoxParams& params, int row) {
  int index = 0;
  while (index + 1 < params.num_levels && row >= params.levels[index + 1].first_row) ++index;
  const DefaultBoxLevel& level = params.levels[index];
  const int local = row - level.first_row;
  const int cells = level.height * level.width;
  const int shape = params.ahw ? local / cells : local % level.boxes_per_cell;
  const int cell = params.ahw ? local % cells : local / level.boxes_per_cell;
  float cx = cell_center(cell % level.width, params.offset, level.step_x);
  float cy = cell_center(cell / level.width, params.offset, level.step_y);
  if (params.clip_centers) {
    cx = clamp(cx, 0.0f, params.image_width);
    cy = clamp(cy, 0.0f, params.image_height);
  }
  Box box = box_around(cx, cy, params.widths[level.first_size + shape], params.heights[level.first_size + shape]);
  if (params.normalized) box = divide(box, params.image_width, params.image_height);
  if (!params.clip) return box;
  return params.normalized ? clip(box, 1.0f, 1.0f) : clip(box, params.image_width, params.image_height);
}

void default_boxes_cpu(const DefaultBoxParams& params, Box* boxes);
void default_boxes_cuda(const DefaultBoxParams& params, Box* boxes, Stream stream);

}  // namespace ssd
