// match on the CPU: images in parallel; one ground truth at a time against tiles of default boxes, so that the loop
// vectorizes and skips tiles far from the ground truth.
#include <algorithm>

#include "common/parallel.h"
#include "common/simd.h"
#include "common/vector.h"
#include "match/match_task.h"
#include "match/pairs_cpu.h"
#include "match/tiles_cpu.h"

namespace ssd {

// IoUs are not negative, so their bits order as they do, and an integer maximum vectorizes. (So do the loops, because
// their inputs are copies: a reference might alias the output.)
SSD_CLONES unsigned ious_with(const Box gt, const Tile& tile, float* ious) {
  const float gt_area = area(gt);
  unsigned largest = 0;
  for (int i = 0; i < kTile; ++i) {
    ious[i] = iou(gt, gt_area, Box{tile.x1[i], tile.y1[i], tile.x2[i], tile.y2[i]}, tile.areas[i]);
  }
  for (int i = 0; i < kTile; ++i) largest = max_of(largest, float_to_bits(ious[i]));
  return largest;
}

namespace {

// Makes the ground truth the best of every box whose IoU with it is larger than with all before.
SSD_CLONES void update_best(const float* ious, int gt, float* best_ious, int* best_gts) {
  for (int i = 0; i < kTile; ++i) {
    const bool better = ious[i] > best_ious[i];
    best_ious[i] = better ? ious[i] : best_ious[i];
    best_gts[i] = better ? gt : best_gts[i];
  }
}

SSD_CLONES void assign(const MatchTask task, const float* best_ious, const int* best_gts, int64_t* matched) {
  for (int i = 0; i < task.num_default_boxes; ++i) matched[i] = match_by_threshold(task, best_ious[i], best_gts[i]);
}

// Ignores the background that the ignored ground truth covers enough of. Only `count` boxes of the tile exist.
SSD_CLONES void ignore_covered(const MatchTask task, const Box ignored_gt, const Tile& tile, int count,
                               int64_t* matched) {
  for (int i = 0; i < count; ++i) {
    const Box box{tile.x1[i], tile.y1[i], tile.x2[i], tile.y2[i]};
    const bool covered = is_covered(task, box, tile.areas[i], ignored_gt);
    matched[i] = covered && matched[i] == kBackground ? kIgnored : matched[i];
  }
}

class ImageMatcher {
 public:
  ImageMatcher(const MatchTask& task, const Vector<Tile>& tiles)
      : task_(task),
        tiles_(tiles),
        best_ious_(tiles.size() * kTile),
        best_gts_(tiles.size() * kTile),
        pair_matcher_(task, tiles) {}

  void match(int64_t image) {
    const GtRange range = gt_range(task_.offsets, task_.num_gt, image);
    const Box* gts = task_.gt_boxes + range.first;
    int64_t* matched = task_.matched_idxs + image * task_.num_default_boxes;
    const auto ignored = [&](int gt) { return is_ignored(task_, range.first + gt); };
    int first_gt = 0;
    while (first_gt < range.count && ignored(first_gt)) ++first_gt;
    // The first ground truth is a box's best until another one overlaps it more.
    std::fill(best_ious_.begin(), best_ious_.end(), 0.0f);
    std::fill(best_gts_.begin(), best_gts_.end(), first_gt < range.count ? first_gt : -1);
    pairs_.resize(range.count);
    for (int gt = 0; gt < range.count; ++gt) pairs_[gt] = ignored(gt) ? 0 : find_pair(gts[gt], gt);
    assign(task_, best_ious_.data(), best_gts_.data(), matched);
    if (task_.bipartite) {
      pair_matcher_.match(gts, pairs_, matched);
    } else if (task_.force) {
      force(matched);
    }
    for (int gt = 0; gt < range.count; ++gt) {
      if (ignored(gt)) ignore_around(gts[gt], matched);
    }
  }

 private:
  // Finds the best pair of a ground truth with a default box; on the way, updates the best ground truth of each box.
  uint64_t find_pair(const Box& box, int gt) {
    poll_interrupt(task_.num_default_boxes);
    uint64_t best = pair_key(0.0f, 0);
    float ious[kTile];
    for (size_t tile = 0; tile < tiles_.size(); ++tile) {
      if (tiles_[tile].is_apart(box)) continue;
      const float largest = bits_to_float(ious_with(box, tiles_[tile], ious));
      if (largest == 0) continue;
      update_best(ious, gt, &best_ious_[tile * kTile], &best_gts_[tile * kTile]);
      if (largest > iou_of(best)) {
        best = pair_key(largest, static_cast<int>(tile * kTile + (std::find(ious, ious + kTile, largest) - ious)));
      }
    }
    return best;
  }

  void force(int64_t* matched) const {
    for (size_t i = 0; i < pairs_.size(); ++i) {  // the winner comes last
      const size_t gt = task_.last_wins ? i : pairs_.size() - 1 - i;
      if (is_pair(task_, pairs_[gt])) matched[default_box_of(pairs_[gt])] = static_cast<int64_t>(gt);
    }
  }

  void ignore_around(const Box& ignored_gt, int64_t* matched) const {
    for (size_t tile = 0; tile < tiles_.size(); ++tile) {
      if (tiles_[tile].is_apart(ignored_gt)) continue;
      const int begin = static_cast<int>(tile) * kTile;
      ignore_covered(task_, ignored_gt, tiles_[tile], std::min(kTile, task_.num_default_boxes - begin),
                     matched + begin);
    }
  }

  const MatchTask& task_;
  const Vector<Tile>& tiles_;
  Vector<float> best_ious_;  // of each default box with its best ground truth
  Vector<int> best_gts_;
  Vector<uint64_t> pairs_;  // each ground truth's best pair; 0 if it is ignored
  PairMatcher pair_matcher_;
};

}  // namespace

void match_cpu(const MatchTask& task) {
  Vector<Tile> tiles((static_cast<size_t>(task.num_default_boxes) + kTile - 1) / kTile);
  for (int i = 0; i < task.num_default_boxes; ++i) tiles[i / kTile].set(i % kTile, task.default_boxes[i]);
  parallel_for(task.num_images, 1, [&](int64_t begin, int64_t end) {
    ImageMatcher matcher(task, tiles);
    for (int64_t image = begin; image < end; ++image) matcher.match(image);
  });
}

}  // namespace ssd
