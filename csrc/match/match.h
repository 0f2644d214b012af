// match: assigns each default box a ground truth of its image, by index; int64 [N, P], -1 background, -2 ignored.
// Source: Liu et al. 2016, section 2.2. No matrix of IoUs is made: memory is O(P + G) per image.
#pragma once

#include <cmath>
#include <optional>

#include "common/view.h"
#include "match/match_task.h"

namespace ssd {

// The thresholds and rules of a MatcherSpec, which has checked them.
struct MatchOptions {
  double positive_threshold;
  bool positive_inclusive;
  double negative_threshold;
  bool bipartite, force, last_wins;
  double forced_above;  // below 0: every pair is forced
  double ignored_coverage;
};

inline int64_t match_workspace(const View& gt_boxes) {
  int64_t bytes = 0;
  dispatch(
      "match", gt_boxes, [](auto...) {},
      [&](auto) { bytes = static_cast<int64_t>(match_cuda_workspace(gt_boxes.ndim > 0 ? gt_boxes.shape[0] : 0)); });
  return bytes;
}

inline void match(const View& gt_boxes, const View& offsets, const View& default_boxes,
                  const std::optional<View>& gt_ignored, const MatchOptions& options, const View& workspace,
                  const View& matched_idxs) {
  const Checks check("match");
  check.boxes(gt_boxes, "gt_boxes", {kAny, 4}, {DType::float32}, gt_boxes);
  check.array(offsets, "gt_boxes.offsets", {kAny}, {DType::int64}, gt_boxes);
  check.at_least(offsets.shape[0], 1, "gt_boxes.offsets");
  check.boxes(default_boxes, "default_boxes", {kAny, 4}, {DType::float32}, gt_boxes);
  if (gt_ignored.has_value()) {
    check.array(*gt_ignored, "gt_ignored", {gt_boxes.shape[0]}, {DType::boolean, DType::uint8}, gt_boxes);
  }
  const int64_t images = offsets.shape[0] - 1;
  const int64_t num_default_boxes = default_boxes.shape[0];
  check.fits_int32({gt_boxes.shape[0]}, "gt_boxes");
  check.fits_int32({num_default_boxes}, "default_boxes");
  if (images > 65535) check.value_error("gt_boxes.offsets", "at most 65535 images", std::to_string(images));
  check.array(matched_idxs, "out", {images, num_default_boxes}, {DType::int64}, gt_boxes);
  check.array(workspace, "workspace", {kAny}, {DType::uint8}, gt_boxes);
  check.at_least(workspace.shape[0], match_workspace(gt_boxes), "workspace");
  if (images == 0 || num_default_boxes == 0) return;

  const auto before = [](double threshold) { return std::nextafter(static_cast<float>(threshold), -1.0f); };
  MatchTask task{};
  task.gt_boxes = gt_boxes.as<Box>();
  task.offsets = offsets.as<int64_t>();
  task.gt_ignored = gt_ignored.has_value() ? gt_ignored->as<uint8_t>() : nullptr;
  task.num_images = images;
  task.num_gt = gt_boxes.shape[0];
  task.default_boxes = default_boxes.as<Box>();
  task.num_default_boxes = static_cast<int>(num_default_boxes);
  const auto positive = static_cast<float>(options.positive_threshold);
  task.positive_above = options.positive_inclusive ? before(options.positive_threshold) : positive;
  task.negative_below = std::min(before(options.negative_threshold), task.positive_above);
  task.bipartite = options.bipartite;
  task.force = options.force;
  task.last_wins = options.last_wins;
  task.forced_above = static_cast<float>(options.forced_above);
  task.covered_from = static_cast<float>(options.ignored_coverage);
  task.matched_idxs = matched_idxs.as<int64_t>();
  dispatch(
      "match", gt_boxes, [&](auto...) { match_cpu(task); },
      [&](auto stream) { match_cuda(task, workspace.data, stream); });
}

}  // namespace ssd
