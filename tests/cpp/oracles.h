// oracles.h: inputs that are hard on kernels, and the oracles that several runners share. An oracle is the definition,
// written out naively. It takes no algorithm from csrc, so that an error that the CPU and the CUDA code share shows.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "common/box_math.h"
#include "common/stream.h"
#include "runner.h"

namespace ssd::test {

const Stream kStream{};

// Fewer where each takes long. The checker finds faults by rule, under any schedule; wrong results take luck.
#if defined(SSD_CHECKED) || defined(__SANITIZE_ADDRESS__)
constexpr int kSchedules = 3;
#else
constexpr int kSchedules = 5;
#endif

// ---- boxes ----------------------------------------------------------------------------------------------------------

enum class Boxes {
  kRandom,     // many overlap; half of them on a coarse grid, where IoUs of exactly a half are common
  kIdentical,  // each overlaps all
  kDisjoint,
  kPoints,         // without area: each is disjoint from all, even from itself
  kStaircase,      // each overlaps the next one only: IoU 0.54, then 0.25
  kHostile,        // a third of them NaN, infinite, degenerate or huge
  kRarelyHostile,  // a few of them are, so that most warps have none
};

template <class T>
BoxOf<T> hostile_box(int which) {
  const T nan = std::numeric_limits<T>::quiet_NaN();
  const T infinity = std::numeric_limits<T>::infinity();
  const T huge = std::numeric_limits<T>::max() / 2;
  switch (which) {
    case 0:
      return {nan, nan, nan, nan};
    case 1:
      return {0, 0, nan, 50};
    case 2:
      return {0, 0, infinity, infinity};
    case 3:
      return {-infinity, 0, infinity, 50};
    case 4:
      return {20, 20, 20, 60};  // no width
    case 5:
      return {60, 60, 20, 20};  // the wrong way round
    case 6:
      return {0, 90, 100, 0};  // in one direction: its area is below 0, more than others' are above
    default:
      return {-huge, -huge, huge, huge};
  }
}

template <class T>
std::vector<BoxOf<T>> make_boxes(Boxes kind, int n, uint64_t seed) {
  Random random(seed);
  std::vector<BoxOf<T>> boxes(n);
  for (int i = 0; i < n; ++i) {
    const int grid = i % 2 == 0 ? 1 : 20;
    const auto on_grid = [&](int limit) { return T(grid * random.below(limit / grid)); };
    const T x = on_grid(200);
    const T y = on_grid(200);
    switch (kind) {
      case Boxes::kRandom:
        boxes[i] = {x, y, x + T(grid) + on_grid(80), y + T(grid) + on_grid(80)};
        break;
      case Boxes::kIdentical:
        boxes[i] = {10, 10, 30, 50};
        break;
      case Boxes::kDisjoint:
        boxes[i] = {T(2 * i), T(0), T(2 * i + 1), T(1)};
        break;
      case Boxes::kPoints:
        boxes[i] = {T(i), T(i), T(i), T(i)};
        break;
      case Boxes::kStaircase:
        boxes[i] = {T(3 * i), T(0), T(3 * i + 10), T(10)};
        break;
      case Boxes::kHostile:
      case Boxes::kRarelyHostile: {
        const bool hostile = i % (kind == Boxes::kHostile ? 3 : 97) == 1;
        boxes[i] = hostile ? hostile_box<T>(random.below(8)) : BoxOf<T>{x, y, x + T(60), y + T(60)};
        break;
      }
    }
  }
  return boxes;
}

// The IoU; 0 where it is undefined.
template <class T>
T plain_iou(const BoxOf<T>& a, const BoxOf<T>& b) {
  const T width = std::max(T(0), std::min(a.x2, b.x2) - std::max(a.x1, b.x1));
  const T height = std::max(T(0), std::min(a.y2, b.y2) - std::max(a.y1, b.y1));
  const T intersection = width * height;
  const T united = (a.x2 - a.x1) * (a.y2 - a.y1) + (b.x2 - b.x1) * (b.y2 - b.y1) - intersection;
  const T quotient = intersection / united;
  return quotient > 0 ? quotient : T(0);
}

// ---- scores ---------------------------------------------------------------------------------------------------------

enum class Scores {
  kRandom,
  kDescending,  // the boxes keep their order
  kTied,
  kFew,      // five values, so that ties are everywhere; zeros of both signs
  kHostile,  // NaN, infinities, subnormals, negative ones
};

template <class T>
std::vector<T> make_scores(Scores kind, int n, uint64_t seed) {
  const T nan = std::numeric_limits<T>::quiet_NaN();
  const T infinity = std::numeric_limits<T>::infinity();
  const T subnormal = std::numeric_limits<T>::denorm_min();
  const T few[5] = {T(0.5), T(-0.0), T(0), T(0.25), T(-0.25)};
  const T hostile[8] = {nan, infinity, -infinity, subnormal, -subnormal, T(-0.0), T(0), T(-1)};
  Random random(seed);
  std::vector<T> scores(n);
  for (int i = 0; i < n; ++i) {
    // For double, more digits than a float has.
    const T uniform = T(random.uniform(0.0f, 1.0f)) + T(random.uniform(0.0f, 1.0f)) * T(0x1p-24f);
    switch (kind) {
      case Scores::kRandom:
        scores[i] = uniform;
        break;
      case Scores::kDescending:
        scores[i] = T(n - i);
        break;
      case Scores::kTied:
        scores[i] = T(0.5);
        break;
      case Scores::kFew:
        scores[i] = few[random.below(5)];
        break;
      case Scores::kHostile:
        scores[i] = random.below(2) == 0 ? hostile[random.below(8)] : uniform;
        break;
    }
  }
  return scores;
}

// ---- greedy NMS -----------------------------------------------------------------------------------------------------

// The indices of the scores that are not NaN, best first, ties by index.
template <class T>
std::vector<int64_t> best_first(const std::vector<T>& scores) {
  std::vector<int64_t> order;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (!std::isnan(scores[i])) order.push_back(static_cast<int64_t>(i));
  }
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return scores[a] > scores[b]; });
  return order;
}

// Keeps, of the boxes in this order, those that no kept one suppresses. classes: none, or one per box.
template <class T>
std::vector<int64_t> plain_nms(const std::vector<BoxOf<T>>& boxes, const std::vector<int64_t>& order,
                               const std::vector<int64_t>& classes, T iou_threshold) {
  std::vector<int64_t> kept;
  for (const int64_t i : order) {
    const auto suppresses_i = [&](int64_t k) {
      return (classes.empty() || classes[k] == classes[i]) && plain_iou(boxes[k], boxes[i]) > iou_threshold;
    };
    if (std::none_of(kept.begin(), kept.end(), suppresses_i)) kept.push_back(i);
  }
  return kept;
}

}  // namespace ssd::test
