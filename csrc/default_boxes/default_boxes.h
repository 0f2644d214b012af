// default_boxes: makes the boxes of every cell of every feature map, [P, 4] float32 xyxy. Source: Liu et al. 2016,
// section 2.2.
#pragma once

#include "common/view.h"
#include "default_boxes/default_boxes_task.h"

namespace ssd {

// feature_maps: (height, width) per level. box_sizes: (width, height) per box of a cell, level after level. steps:
// (vertical, horizontal) per level. The Python spec has checked the values; this checks their counts.
inline void default_boxes(const std::vector<int64_t>& feature_maps, const std::vector<int64_t>& boxes_per_cell,
                          const std::vector<float>& box_sizes, const std::vector<float>& steps, float offset,
                          bool clip_centers, bool clip, bool normalized, bool ahw, int64_t image_height,
                          int64_t image_width, const View& boxes) {
  const Checks check("default_boxes");
  const auto num_levels = static_cast<int64_t>(boxes_per_cell.size());
  if (num_levels < 1 || num_levels > kMaxLevels) check.value_error("spec", "1 to 8 maps", std::to_string(num_levels));
  if (feature_maps.size() != 2 * boxes_per_cell.size() || steps.size() != feature_maps.size()) {
    check.value_error("spec", "a size and a step for each map", std::to_string(feature_maps.size()) + " numbers");
  }
  if (box_sizes.size() > 2 * kMaxBoxSizes) {
    check.value_error("spec", "at most 128 boxes per cell over all maps", std::to_string(box_sizes.size() / 2));
  }

  DefaultBoxParams params{};
  params.num_levels = static_cast<int>(num_levels);
  int64_t num_rows = 0;
  int64_t num_sizes = 0;
  for (int64_t i = 0; i < num_levels; ++i) {
    params.levels[i] = {static_cast<int>(feature_maps[2 * i]),
                        static_cast<int>(feature_maps[2 * i + 1]),
                        static_cast<int>(boxes_per_cell[i]),
                        static_cast<int>(num_rows),
                        static_cast<int>(num_sizes),
                        steps[2 * i],
                        steps[2 * i + 1]};
    const int64_t height = feature_maps[2 * i], width = feature_maps[2 * i + 1], boxes_of_cell = boxes_per_cell[i];
    check.at_least(std::min({height, width, boxes_of_cell}), 0, "spec");
    check.fits_int32({height, width, boxes_of_cell}, "spec");
    num_rows += height * width * boxes_of_cell;
    num_sizes += boxes_of_cell;
    check.fits_int32({num_rows, 4}, "spec");
  }
  if (2 * num_sizes != static_cast<int64_t>(box_sizes.size())) {
    check.value_error("spec", std::to_string(num_sizes) + " box sizes", std::to_string(box_sizes.size() / 2));
  }
  for (int64_t i = 0; i < num_sizes; ++i) {
    params.widths[i] = box_sizes[2 * i];
    params.heights[i] = box_sizes[2 * i + 1];
  }
  params.num_rows = static_cast<int>(num_rows);
  params.offset = offset;
  params.image_height = static_cast<float>(image_height);
  params.image_width = static_cast<float>(image_width);
  params.clip_centers = clip_centers;
  params.clip = clip;
  params.normalized = normalized;
  params.ahw = ahw;

  check.boxes(boxes, "out", {num_rows, 4}, {DType::float32}, boxes);
  dispatch(
      "default_boxes", boxes, [&](auto...) { default_boxes_cpu(params, boxes.as<Box>()); },
      [&](auto stream) { default_boxes_cuda(params, boxes.as<Box>(), stream); });
}

}  // namespace ssd
