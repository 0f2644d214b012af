// The ground truths of a batch: which ones belong to an image, and the matches that are not a ground truth.
#pragma once

#include <cstdint>

#include "common/box_math.h"

namespace ssd {

constexpr int64_t kBackground = -1;  // values of matched_idxs that are not the index of a ground truth
constexpr int64_t kIgnored = -2;

struct GtRange {
  int64_t first, count;
};
// The ground truths of an image, out of `num_gt` in the batch: image n has offsets[n] .. offsets[n + 1] - 1. Offsets in
// device memory cannot be checked without a sync, so wrong ones are made harmless.
SSD_HD GtRange gt_range(const int64_t* offsets, int64_t num_gt, int64_t image) {
  const int64_t first = clamp(offsets[image], int64_t{0}, num_gt);
  const int64_t end = clamp(offsets[image + 1], first, num_gt);
  return {first, end - first};
}

}  // namespace ssd
