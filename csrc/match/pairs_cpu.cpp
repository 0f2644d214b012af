// Ground truths that are nearly the same lose the same default boxes one after the other. Each loss must not cost a
// search of all default boxes, so that a search finds many pairs, and each search four times as many as the last one.
#include "match/pairs_cpu.h"

#include <algorithm>
#include <functional>

#include "common/interrupt.h"

namespace ssd {
namespace {

constexpr size_t kFirstWanted = 4;  // pairs that a ground truth's first search finds
// Pairs that the ground truths of an image may hold together, or each of them.
constexpr size_t kHeldTogether = 1u << 18, kHeldByEach = 64;
const uint64_t kNoOverlap = pair_key(0.0f, 0);  // the best pair with an IoU of 0

}  // namespace

void PairMatcher::match(const Box* gts, Vector<uint64_t>& pairs, int64_t* matched) {
  taken_.assign(task_.num_default_boxes, false);
  first_free_ = 0;
  most_wanted_ = std::max(kHeldByEach, kHeldTogether / (pairs.size() + 1));
  next_.resize(pairs.size());
  for (size_t gt = 0; gt < pairs.size(); ++gt) {
    next_[gt].keys.clear();
    next_[gt].complete = pairs[gt] <= kNoOverlap;
    next_[gt].wanted = kFirstWanted;
  }
  while (true) {
    poll_interrupt(static_cast<int64_t>(pairs.size()));
    const auto best = std::max_element(pairs.begin(), pairs.end());
    if (best == pairs.end() || !is_pair(task_, *best)) return;
    const int box = default_box_of(*best);
    matched[box] = best - pairs.begin();
    taken_[box] = true;
    *best = 0;
    for (size_t gt = 0; gt < pairs.size(); ++gt) {
      if (pairs[gt] != 0 && default_box_of(pairs[gt]) == box) pairs[gt] = next_pair(gts[gt], next_[gt]);
    }
  }
}

// Returns the best pair with a default box that is not taken; 0 if all are.
uint64_t PairMatcher::next_pair(const Box& gt, NextPairs& next) {
  while (true) {
    while (!next.keys.empty()) {
      const uint64_t key = next.keys.back();
      next.keys.pop_back();
      if (!taken_[default_box_of(key)]) return key;
    }
    if (next.complete) return pair_without_overlap();
    search(gt, next);
  }
}

// Finds the best pairs with default boxes that overlap the ground truth and are not taken.
void PairMatcher::search(const Box& gt, NextPairs& next) {
  poll_interrupt(task_.num_default_boxes);
  const auto keep_best = [&] {
    std::nth_element(found_.begin(), found_.begin() + next.wanted - 1, found_.end(), std::greater<uint64_t>());
    found_.resize(next.wanted);
    next.complete = false;
  };
  found_.clear();
  next.complete = true;
  uint64_t least = kNoOverlap;  // pairs up to it are not among the best
  float ious[kTile];
  for (size_t tile = 0; tile < tiles_.size(); ++tile) {
    if (tiles_[tile].is_apart(gt)) continue;
    if (bits_to_float(ious_with(gt, tiles_[tile], ious)) <= iou_of(least)) continue;
    for (int i = 0; i < kTile; ++i) {
      const int box = static_cast<int>(tile * kTile) + i;
      const uint64_t key = pair_key(ious[i], box);
      if (key > least && !taken_[box]) found_.push_back(key);
    }
    if (found_.size() < 2 * next.wanted) continue;
    keep_best();
    least = found_.back();
  }
  if (found_.size() > next.wanted) keep_best();
  std::sort(found_.begin(), found_.end());
  next.keys.assign(found_.begin(), found_.end());
  next.wanted = std::min(4 * next.wanted, most_wanted_);
}

// Returns the best pair of a ground truth that overlaps no free default box; 0 if none is free.
uint64_t PairMatcher::pair_without_overlap() {
  while (first_free_ < task_.num_default_boxes && taken_[first_free_]) ++first_free_;
  return first_free_ == task_.num_default_boxes ? 0 : pair_key(0.0f, first_free_);
}

}  // namespace ssd
