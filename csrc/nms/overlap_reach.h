// The pruning rule of NMS on the CPU: how different two boxes can be, in size and in place, and still overlap by more
// than a threshold.
//
// Let two boxes have the widths w1, w2 (as computed, rounded) and an IoU above t > 0. Their intersection is at most as
// wide as either and as tall as either, and their union is at least as large as the larger one. So
//   - both ratios of their widths exceed t, and so do those of their heights;
//   - the intersection is wider than t / (1 + t) * (w1 + w2). As its width is at most (w1 + w2) / 2 less the distance of
//     the centers, that distance is below (w1 + w2) / 2 * (1 - t) / (1 + t); the same holds for heights.
// Each step of the IoU's arithmetic rounds by at most a unit roundoff u and ten of them lie between it and these bounds,
// which therefore hold with a slack of 32 u, unless areas underflow. With t = 0 only touching is asked for: the computed
// intersection has sides above 0, which no rounding makes of a distance that is 0 or less.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "common/box_math.h"

namespace ssd {

// A box along one axis.
struct Extent {
  double center, side;
};

template <typename T>
Extent extent_of(T low, T high) {
  // The center of floats is exact. That of doubles is halved first, so that it cannot overflow.
  return {0.5 * low + 0.5 * high, static_cast<double>(sub(high, low))};
}

// Sides are divided into levels, in geometric steps that follow the threshold: a box meets boxes of two or three levels.
template <typename T>
class OverlapReach {
 public:
  explicit OverlapReach(T iou_threshold) {
    constexpr double kSlack = 16 * std::numeric_limits<T>::epsilon();  // 32 units of roundoff
    const double t = iou_threshold >= kLeastPruning ? static_cast<double>(iou_threshold) : 0.0;
    prunes_sizes_ = t > 0;
    smallest_ratio_ = t * (1 - kSlack);
    largest_ratio_ = 1 / smallest_ratio_;
    reach_ = (1 - t) / (1 + t) + kSlack;
    // A level spans at most a ratio of 4, and at most that of the largest to the smallest side that a box can meet.
    const double octaves = prunes_sizes_ ? -2 * std::log2(smallest_ratio_) : 2.0;
    level_shift_ = 52 + static_cast<int>(std::floor(std::log2(clamp(octaves, 0x1p-44, 2.0))));
  }

  // Whether the box can overlap another one by more than a threshold in [0, 1). Boxes that are flipped, empty, not
  // finite, or of an area that is 0 or overflows have an IoU of 0 with every box.
  static bool has_overlaps(const BoxOf<T>& box, T box_area) {
    return box.x2 > box.x1 && box.y2 > box.y1 && box_area > 0 && box_area <= std::numeric_limits<T>::max();
  }

  // Whether the rule holds for the box, which has overlaps: its area may not be so small that IoUs underflow.
  bool holds_for(T box_area) const { return !prunes_sizes_ || box_area >= kSmallestArea; }

  int64_t level_of(double side) const {  // the bits of positive doubles are in their order
    return static_cast<int64_t>(double_to_bits(side) >> level_shift_);
  }
  int64_t lowest_level(double side) const { return level_of(side * smallest_ratio_); }
  int64_t highest_level(double side) const { return level_of(side * largest_ratio_); }
  double largest_side(int64_t level) const {
    const uint64_t bits = static_cast<uint64_t>(level + 1) << level_shift_;
    return bits < kInfinityBits ? double_from_bits(bits) : std::numeric_limits<double>::infinity();
  }

  // How far from the box's center those of boxes of the level can lie.
  double distance(const Extent& box, int64_t level) const {
    const double largest = min_of(largest_side(level), box.side * largest_ratio_);
    const double rounding = 0x1p-50 * std::fabs(box.center) + 0x1p-1070;  // of both centers
    return 0.5 * (box.side + largest) * reach_ + rounding;
  }
  // Cells of a size that lets a box of the level reach about two of them along each axis. The number is finite.
  double cells_per_unit(int64_t level) const { return min_of(1 / (1.5 * reach_ * largest_side(level)), 0x1p1023); }

 private:
  static constexpr double kLeastPruning = 0x1p-10;
  static constexpr T kSmallestArea = sizeof(T) == 4 ? T(0x1p-100) : T(0x1p-900);
  static constexpr uint64_t kInfinityBits = uint64_t{0x7ff} << 52;

  static double double_from_bits(uint64_t bits) {
    double value;
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
  }

  bool prunes_sizes_;
  double smallest_ratio_, largest_ratio_;  // of the sides of two boxes that overlap; 0 and infinity if any will do
  double reach_;                           // the distance of their centers, in half sums of their sides, is below this
  int level_shift_;                        // a level is a side's bits without the lowest ones
};

}  // namespace ssd
