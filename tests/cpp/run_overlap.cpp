// run_overlap.cpp: NMS decides IoU > threshold without a division, and on the CPU leaves out pairs that are too far apart
// to overlap so much. This compares both with the division, pair by pair, where it is hardest: quotients at the threshold
// and beside it, areas that underflow or overflow, degenerate and NaN boxes.
#include "common/overlap.h"
#include "nms/kept_sets.h"
#include "oracles.h"
#include "overlap.h"

namespace {

using namespace ssd::test;
using ssd::Box;
using ssd::BoxOf;
using ssd::IouThreshold;

#if defined(SSD_CHECKED) || defined(__SANITIZE_ADDRESS__)
constexpr int kPairs = 30000;
#else
constexpr int kPairs = 700000;
#endif
#if defined(SSD_CHECKED)
constexpr int kKernelPairs = 3000;
#elif defined(SSD_EMULATED)
constexpr int kKernelPairs = 30000;
#else
constexpr int kKernelPairs = kPairs;
#endif

constexpr double kMostTiles = 1000;  // of a search in a grid

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kTiny = std::numeric_limits<float>::denorm_min();

template <std::size_t Size>
float one_of(Random& random, const float (&values)[Size]) {
  return values[random.below(static_cast<int>(Size))];
}

// The float that is `steps` floats above, or below.
float moved(float value, int steps) {
  const float end = steps < 0 ? -kInfinity : kInfinity;
  for (int i = 0; i < std::abs(steps); ++i) value = std::nextafter(value, end);
  return value;
}

float scale(Random& random, int most) { return std::ldexp(1.0f, random.below(2 * most + 1) - most); }

float any_threshold(Random& random) {
  const float values[] = {0.0f,  -0.0f, kTiny, 1e-40f, 0x1p-126f, 1e-9f, 0x1p-20f,  1e-6f,      0.1f, 1.0f / 3,
                          0.45f, 0.5f,  0.7f,  1.0f,   1.5f,      -1.0f, kInfinity, -kInfinity, kNaN};
  return moved(one_of(random, values), random.below(3) - 1);
}

// IoUs of small whole numbers: shifted boxes, and one within the other. The units scale them, and round unless they are
// powers of two.
Pair whole_numbers(Random& random, float x_unit, float y_unit) {
  const int more = 1 + random.below(60);
  const int less = 1 + random.below(more);
  const int shift = random.below(more);
  const float height = y_unit * static_cast<float>(1 + random.below(9));
  Pair pair{{0, 0, x_unit * static_cast<float>(more), height}, {}, 0};
  if (random.below(2) == 0) {
    pair.b = {0, 0, x_unit * static_cast<float>(less), height};
    pair.threshold = static_cast<float>(less) / static_cast<float>(more);
  } else {
    pair.b = {x_unit * static_cast<float>(shift), 0, x_unit * static_cast<float>(more + shift), height};
    pair.threshold = static_cast<float>(more - shift) / static_cast<float>(more + shift);
  }
  if (random.below(4) == 0) pair.threshold = one_of(random, {0.1f, 1.0f / 3, 0.45f, 0.5f, 0.7f, 1.0f});
  pair.threshold = moved(pair.threshold, random.below(5) - 2);
  return pair;
}

// One box within the other, with areas that are whole numbers of 22 bits: the quotient is as near to the threshold as a
// quotient of floats can be. `shrink`, a power of two, makes the inner box and the threshold so much smaller.
Pair nearest(Random& random, float x_unit, float y_unit, float shrink = 1.0f) {
  const float thresholds[] = {0.1f, 1.0f / 3, 0.45f, 0.5f, 0.7f, 0x1p-20f, 1e-6f, 1.0f};
  float threshold = one_of(random, thresholds);
  if (random.below(2) == 0) threshold = std::ldexp(random.uniform(0.5f, 1.0f), -random.below(19));
  const double united = 1 + random.below(1 << 22);
  const double shared = std::max(0.0, std::round(threshold * united) + random.below(3) - 1);
  const auto side = [&](double units) { return x_unit * static_cast<float>(units); };
  return {{0, 0, side(united), y_unit},
          {0, 0, shrink * side(shared), y_unit},
          moved(shrink * threshold, random.below(3) - 1)};
}

Pair random_pair(Random& random, float x_unit, float y_unit) {
  const auto box = [&] {
    const float x = random.uniform(-20.0f, 60.0f);
    const float y = random.uniform(-20.0f, 60.0f);
    return Box{x_unit * x, y_unit * y, x_unit * (x + random.uniform(0.0f, 60.0f)),
               y_unit * (y + random.uniform(0.0f, 60.0f))};
  };
  return {box(), box(), any_threshold(random)};
}

// Corners in any order, of any size.
Pair strange_pair(Random& random) {
  const float values[] = {0.0f,    -0.0f,   1.0f,   2.0f,   3.0f,      10.0f,      -5.0f,      0x1p-25f, 0x1p-24f,
                          0x1p49f, 0x1p50f, 1e-30f, 1e-40f, kTiny,     0x1p-126f,  -1e-22f,    1e19f,    2e19f,
                          -1e19f,  3e38f,   -3e38f, kNaN,   kInfinity, -kInfinity, 16777216.0f};
  const auto box = [&] {
    return Box{one_of(random, values), one_of(random, values), one_of(random, values), one_of(random, values)};
  };
  const Box usual{0, 0, 10, 10};
  return {box(), random.below(3) == 0 ? usual : box(), any_threshold(random)};
}

Pair make_pair(Random& random, int kind) {
  const float near_one = scale(random, 3);
  const float extreme = std::ldexp(1.0f, random.below(250) - 140);
  switch (kind) {
    case 0:
      return random_pair(random, 1.0f, 1.0f);
    case 1:
      return whole_numbers(random, near_one, 1.0f);
    case 2:
      return whole_numbers(random, random.uniform(0.5f, 2.0f), random.uniform(0.5f, 2.0f));
    case 3:
      return whole_numbers(random, 1.0f, extreme);
    case 4:
      return nearest(random, near_one, near_one);
    case 5:
      return nearest(random, 0x1p-22f, extreme);
    case 6:
      return nearest(random, 0x1p-22f, extreme, std::ldexp(1.0f, -random.below(130)));
    case 7:
      return random_pair(random, scale(random, 75), scale(random, 75));
    default:
      return strange_pair(random);
  }
}

// Whether the CPU's NMS finds the pair's overlap in a list, where `place` boxes have been kept before.
bool found_in_list(const Pair& pair, int place, bool& expected) {
  const Box filler{-9, -9, -8, -8};
  ssd::KeptSets<float> kept(pair.threshold);
  for (int i = 0; i < place; ++i) {
    kept.add(0, filler);
    expected |= plain_iou(filler, pair.b) > pair.threshold;
  }
  kept.add(0, pair.a);
  return kept.overlaps(0, pair.b);
}

// Whether it misses the pair's overlap in the grid, for which boxes must be within the other's reach.
template <class T>
bool missed_in_grid(const BoxOf<T>& a, const BoxOf<T>& b, T threshold) {
  const auto has_overlaps = [](const BoxOf<T>& box) { return ssd::OverlapReach<T>::has_overlaps(box, ssd::area(box)); };
  const bool expected = ssd::iou(a, b) > threshold;
  if (!(threshold >= 0 && threshold < 1)) return false;  // such a grid is never made
  if (!has_overlaps(a)) return expected;
  ssd::KeptGrid<T> grid(threshold);
  grid.add(0, a);
  const ssd::Found found = grid.search(0, b, 0, kMostTiles);
  return found != ssd::Found::unknown && (found == ssd::Found::yes) != expected;
}

template <class T>
BoxOf<T> moved_box(const Box& box, T dx, T dy) {
  return {box.x1 + dx, box.y1 + dy, box.x2 + dx, box.y2 + dy};
}

// The same for the pair, and where coordinates are large compared with the boxes, in float and in double.
bool missed_in_any_grid(const Pair& pair, Random& random) {
  const float dx = std::ldexp(1.0f, random.below(30)), dy = -std::ldexp(1.0f, random.below(30));
  const double far = std::ldexp(1.0, random.below(60));
  const double threshold = pair.threshold;
  return missed_in_grid(pair.a, pair.b, pair.threshold) ||
         missed_in_grid(moved_box(pair.a, dx, dy), moved_box(pair.b, dx, dy), pair.threshold) ||
         missed_in_grid(moved_box(pair.a, 0.0, 0.0), moved_box(pair.b, 0.0, 0.0), threshold) ||
         missed_in_grid(moved_box(pair.a, far, -far), moved_box(pair.b, far, -far), threshold);
}

std::string described(const Pair& pair, const std::string& what) {
  const auto numbers = [](const Box& box) {
    char text[160];
    std::snprintf(text, sizeof text, "{%a, %a, %a, %a}", box.x1, box.y1, box.x2, box.y2);
    return std::string(text);
  };
  char threshold[40];
  std::snprintf(threshold, sizeof threshold, "%a", pair.threshold);
  return what + ": " + numbers(pair.a) + ", " + numbers(pair.b) + ", threshold " + threshold;
}

void compare(Case& one, int kind) {
  Random random(31 + kind);
  std::vector<Pair> pairs;
  std::vector<uint8_t> want;
  int overlapping = 0;
  for (int i = 0; i < kPairs; ++i) {
    const Pair pair = make_pair(random, kind);
    const float iou = plain_iou(pair.a, pair.b);
    const bool expected = iou > pair.threshold;
    overlapping += expected ? 1 : 0;

    const float area_a = ssd::area(pair.a);
    const float area_b = ssd::area(pair.b);
    const IouThreshold threshold = ssd::iou_threshold(pair.threshold);
    const auto check = [&](bool holds, const char* what) {
      if (!holds) one.expect(false, described(pair, what));
    };
    check((ssd::iou(pair.a, pair.b) > pair.threshold) == expected, "iou");
    check(ssd::overlaps(pair.a, area_a, pair.b, area_b, threshold) == expected, "overlaps");
    check(ssd::overlaps(pair.b, area_b, pair.a, area_a, threshold) == expected, "overlaps, exchanged");
    if (i % 8 == 0) {
      bool in_list = expected;
      const bool found = found_in_list(pair, i / 8 % 80, in_list);
      check(found == in_list, "a list of kept boxes");
      check(!missed_in_any_grid(pair, random), "a grid of kept boxes");
    }
    // An inclusive threshold is the float before it.
    if (pair.threshold > 0.0f && pair.threshold < kInfinity) {
      const IouThreshold before = ssd::iou_threshold(moved(pair.threshold, -1));
      check(ssd::overlaps(pair.a, area_a, pair.b, area_b, before) == (iou >= pair.threshold), "inclusive");
    }

    if (i < kKernelPairs) {
      pairs.push_back(pair);
      want.push_back(expected ? 3 : 0);
    }
  }
  one.expect(10 * std::min(overlapping, kPairs - overlapping) >= kPairs, "nearly all decisions are alike");

  DeviceArray<Pair> device_pairs(pairs);
  DeviceArray<uint8_t> decisions(pairs.size());
  overlaps_cuda(device_pairs.data(), static_cast<int>(pairs.size()), decisions.data(), kStream);
  one.equal(decisions.host(), want, "cuda");
}

}  // namespace

int main(int argc, char** argv) {
  Runner runner("overlap", argc, argv, 1);  // nothing here depends on the schedule
  const char* const names[] = {"random",  "whole-numbers",       "whole-numbers-rounded", "whole-numbers-of-any-size",
                               "nearest", "nearest-of-any-size", "nearest-shrunk",        "random-of-any-size",
                               "strange"};
  int kind = 0;
  for (const char* name : names) {
    runner.good(name, [=](Case& one) { compare(one, kind); });
    ++kind;
  }
  return runner.finish();
}
