// Tiles of default boxes, which match on the CPU compares with one ground truth at a time.
#pragma once

#include <limits>

#include "common/box_math.h"

namespace ssd {

constexpr int kTile = 64;

// Default boxes, with one array per coordinate. The last tile is padded with boxes whose IoU with any box is 0.
struct Tile {
  static constexpr float kInfinity = std::numeric_limits<float>::infinity();

  float x1[kTile] = {}, y1[kTile] = {}, x2[kTile] = {}, y2[kTile] = {}, areas[kTile] = {};
  Box hull{kInfinity, kInfinity, -kInfinity, -kInfinity};  // around all boxes of the tile

  void set(int i, const Box& box) {
    x1[i] = box.x1, y1[i] = box.y1, x2[i] = box.x2, y2[i] = box.y2, areas[i] = area(box);
    hull = {min_of(hull.x1, box.x1), min_of(hull.y1, box.y1), max_of(hull.x2, box.x2), max_of(hull.y2, box.y2)};
  }
  // If so, every IoU is 0: no intersection has both a width and a height. (The hull passes over NaN, whose IoU is 0.)
  bool is_apart(const Box& gt) const {
    return gt.x2 <= hull.x1 || gt.x1 >= hull.x2 || gt.y2 <= hull.y1 || gt.y1 >= hull.y2;
  }
};

// Computes the IoUs of a ground truth with a tile, and returns the bits of the largest (match_cpu.cpp).
unsigned ious_with(Box gt, const Tile& tile, float* ious);

}  // namespace ssd
