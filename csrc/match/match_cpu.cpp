// match on the CPU: images in parallel; a ground truth at a time against all default boxes, so that it vectorises.
#include <algorithm>
#include <vector>

#include "common/parallel.h"
#include "common/simd.h"
#include "match/match_launch.h"

namespace ssd {
namespace {

struct Columns {  // the default boxes, laid out one coordinate after the other
  std::vector<float> values;
  int count;

  explicit Columns(const MatchTask& task) : values(5 * task.num_default_boxes), count(task.num_default_boxes) {
    for (int i = 0; i < count; ++i) {
      const Box& box = task.default_boxes[i];
      const float fields[5] = {box.x1, box.y1, box.x2, box.y2, area(box)};
      for (int f = 0; f < 5; ++f) values[f * count + i] = fields[f];
    }
  }
  const float* field(int index) const { return values.data() + index * count; }
};

SSD_CLONES void ious_with(const Box& gt, const Columns& boxes, float* ious) {
  const float *x1 = boxes.field(0), *y1 = boxes.field(1), *x2 = boxes.field(2), *y2 = boxes.field(3);
  const float* areas = boxes.field(4);
  const float gt_area = area(gt);
  for (int i = 0; i < boxes.count; ++i) ious[i] = iou(gt, gt_area, Box{x1[i], y1[i], x2[i], y2[i]}, areas[i]);
}

// Where the IoU is larger than with any ground truth before, this one is the box's best.
SSD_CLONES void update_best(const float* ious, int gt, int count, float* best_ious, int* best_gts) {
  for (int i = 0; i < count; ++i) {
    const bool better = ious[i] > best_ious[i];
    best_ious[i] = better ? ious[i] : best_ious[i];
    best_gts[i] = better ? gt : best_gts[i];
  }
}

// The best pair of a ground truth with a default box that is not taken, 0 if there is none.
uint64_t best_pair(const float* ious, const std::vector<char>& taken) {
  uint64_t best = 0;
  for (size_t i = 0; i < taken.size(); ++i) {
    if (!taken[i]) best = std::max(best, pair_key(ious[i], static_cast<int>(i)));
  }
  return best;
}

class ImageMatcher {
 public:
  ImageMatcher(const MatchTask& task, const Columns& boxes)
      : task_(task), boxes_(boxes), ious_(boxes.count), best_ious_(boxes.count), best_gts_(boxes.count) {}

  void match(int64_t image) {
    const GtRange range = gt_range(task_, image);
    const Box* gts = task_.gt_boxes + range.first;
    const int num_gt = range.count;
    int64_t* matched = task_.matched_idxs + image * boxes_.count;
    std::fill(best_ious_.begin(), best_ious_.end(), -1.0f);
    std::fill(best_gts_.begin(), best_gts_.end(), -1);
    taken_.assign(boxes_.count, 0);
    pairs_.assign(num_gt, 0);
    for (int gt = 0; gt < num_gt; ++gt) {
      ious_with(gts[gt], boxes_, ious_.data());
      update_best(ious_.data(), gt, boxes_.count, best_ious_.data(), best_gts_.data());
      pairs_[gt] = best_pair(ious_.data(), taken_);
    }
    for (int i = 0; i < boxes_.count; ++i) matched[i] = match_by_threshold(task_, best_ious_[i], best_gts_[i]);
    if (task_.bipartite) {
      match_pairs(gts, matched);
    } else if (task_.force) {
      force(matched);
    }
  }

 private:
  void force(int64_t* matched) {
    for (size_t i = 0; i < pairs_.size(); ++i) {  // the winner comes last
      const size_t gt = task_.last_wins ? i : pairs_.size() - 1 - i;
      if (pairs_[gt] != 0 && iou_of(pairs_[gt]) > task_.forced_above) {
        matched[default_box_of(pairs_[gt])] = static_cast<int64_t>(gt);
      }
    }
  }

  // The best pair of a ground truth and a default box that are both free, again and again; ties as pair_key has them,
  // then the lower ground truth.
  void match_pairs(const Box* gts, int64_t* matched) {
    while (true) {
      const auto best = std::max_element(pairs_.begin(), pairs_.end());
      if (best == pairs_.end() || *best == 0 || !(iou_of(*best) > task_.forced_above)) return;
      const int box = default_box_of(*best);
      matched[box] = best - pairs_.begin();
      taken_[box] = 1;
      *best = 0;
      for (size_t gt = 0; gt < pairs_.size(); ++gt) {
        if (pairs_[gt] == 0 || default_box_of(pairs_[gt]) != box) continue;
        ious_with(gts[gt], boxes_, ious_.data());
        pairs_[gt] = best_pair(ious_.data(), taken_);
      }
    }
  }

  const MatchTask& task_;
  const Columns& boxes_;
  std::vector<float> ious_, best_ious_;
  std::vector<int> best_gts_;
  std::vector<char> taken_;
  std::vector<uint64_t> pairs_;  // of each ground truth its best pair; 0 when it has none or has been matched
};

}  // namespace

void match_cpu(const MatchTask& task) {
  const SubnormalsOn subnormals_on;
  const Columns boxes(task);
  parallel_for(task.num_images, 1, [&](int64_t begin, int64_t end) {
    ImageMatcher matcher(task, boxes);
    for (int64_t image = begin; image < end; ++image) matcher.match(image);
  });
}

}  // namespace ssd
