// match: the task that the entry points take, and the decisions that every backend shares.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/box_math.h"
#include "common/ground_truth.h"
#include "common/ranking_key.h"
#include "common/stream.h"

namespace ssd {

struct MatchTask {
  const Box* gt_boxes;        // of all images, one after the other
  const int64_t* offsets;     // [N + 1]: image n has the ground truths offsets[n] .. offsets[n + 1] - 1
  const uint8_t* gt_ignored;  // one byte per ground truth, not 0 if it is ignored; null if none is
  int64_t num_images, num_gt;
  const Box* default_boxes;
  int num_default_boxes;
  float positive_above;   // an IoU above it makes a positive; an inclusive threshold comes as the float before it
  float negative_below;   // an IoU up to it makes background; between the two thresholds a box is ignored
  bool bipartite;         // each ground truth gets a default box of its own, best pairs first
  bool force;             // each ground truth gets its best default box, whatever the IoU
  bool last_wins;         // the last of several ground truths gets the best box that they share; else the first
  float forced_above;     // a forced or bipartite pair has an IoU above it
  float covered_from;     // background is ignored if an ignored ground truth covers at least this share of it
  int64_t* matched_idxs;  // [N, P]
};

// An ignored ground truth matches nothing and enters no pair.
SSD_HD bool is_ignored(const MatchTask& task, int64_t gt) {
  return task.gt_ignored != nullptr && task.gt_ignored[gt] != 0;
}

// Ranks the default boxes of a ground truth by IoU, which is not negative, so that its bits order as it does. 0 stands
// for no pair.
SSD_HD uint64_t pair_key(float iou, int default_box) {
  return ranking_key(float_to_bits(iou), static_cast<uint32_t>(default_box));
}
SSD_HD float iou_of(uint64_t key) { return bits_to_float(rank_of(key)); }
SSD_HD int default_box_of(uint64_t key) { return static_cast<int>(index_of(key)); }
SSD_HD bool is_pair(const MatchTask& task, uint64_t key) { return key != 0 && iou_of(key) > task.forced_above; }

// The match of a default box by its best ground truth, before any pair is forced.
SSD_HD int64_t match_by_threshold(const MatchTask& task, float best_iou, int64_t best_gt) {
  if (best_gt >= 0 && best_iou > task.positive_above) return best_gt;
  return best_gt >= 0 && best_iou > task.negative_below ? kIgnored : kBackground;
}

// Whether an ignored ground truth covers enough of a default box for the box to be ignored, if it is background.
SSD_HD bool is_covered(const MatchTask& task, const Box& box, float box_area, const Box& ignored_gt) {
  return coverage(box, box_area, ignored_gt) >= task.covered_from;
}

void match_cpu(const MatchTask& task);
void match_cuda(const MatchTask& task, void* workspace, Stream stream);
size_t match_cuda_workspace(int64_t num_gt);

}  // namespace ssd
