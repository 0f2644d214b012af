// The one order in which losses are summed, whatever the backend, launch shape or number of threads: in tiles of 1024,
// lane j of 32 adds values 32 i + j, i ascending; the lanes are then added in halves of 16, 8, 4, 2, 1; the tiles' sums
// are summed by the same rule. tree_sum.cuh is the same on a GPU.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "common/box_math.h"

namespace ssd {

constexpr int kSumLanes = 32;
constexpr int kSumTile = 1024;

// The sum of the values begin .. end-1 of at most one tile; value_at(i) is the i-th value.
template <typename ValueAt>
float tile_sum(const ValueAt& value_at, int64_t begin, int64_t end) {
  float lanes[kSumLanes] = {};
  for (int64_t i = begin; i < end; i += kSumLanes) {
    const int64_t width = std::min<int64_t>(kSumLanes, end - i);
    for (int64_t lane = 0; lane < width; ++lane) lanes[lane] = add(lanes[lane], value_at(i + lane));
  }
  for (int half = kSumLanes / 2; half > 0; half /= 2) {
    for (int lane = 0; lane < half; ++lane) lanes[lane] = add(lanes[lane], lanes[lane + half]);
  }
  return lanes[0];
}

// The sum of up to 2^20 values.
template <typename ValueAt>
float tree_sum(const ValueAt& value_at, int64_t count) {
  std::vector<float> tiles;
  for (int64_t begin = 0; begin < count; begin += kSumTile) {
    tiles.push_back(tile_sum(value_at, begin, std::min(begin + kSumTile, count)));
  }
  return tile_sum([&](int64_t i) { return tiles[i]; }, 0, static_cast<int64_t>(tiles.size()));
}

}  // namespace ssd
