// run_match.cpp: match under every rule, against the rules written out on the whole matrix of IoUs.
#include "match/match_task.h"
#include "oracles.h"

namespace {

using namespace ssd::test;
using ssd::Box;

enum class Rule { kForcedLast, kForcedFirst, kBipartite, kThreshold };
constexpr Rule kRules[] = {Rule::kForcedLast, Rule::kForcedFirst, Rule::kBipartite, Rule::kThreshold};
const char* const kRuleNames[] = {"last", "first", "bipartite", "threshold"};

struct Problem {
  std::vector<int> num_gt;  // per image
  int num_boxes;
  Boxes gts = Boxes::kRandom;
  Boxes boxes = Boxes::kRandom;
  float positive = 0.5f;  // the least IoU of a positive
  float negative = 2.0f;  // from here up to `positive` a default box is ignored
  float forced_above = -1.0f;
  int ignored_one_in = 0;  // of this many ground truths one is ignored; 0: none, and match gets no gt_ignored
  float covered_from = 0.5f;
};

// The matches of one image without ignored ground truths by the rules, given ious[gt][box].
std::vector<int64_t> plain_rules(const Problem& problem, Rule rule, const std::vector<std::vector<float>>& ious) {
  const int num_gt = static_cast<int>(ious.size());
  std::vector<int64_t> matched(problem.num_boxes, ssd::kBackground);
  for (int box = 0; box < problem.num_boxes; ++box) {
    int best = -1;
    for (int gt = 0; gt < num_gt; ++gt) {
      if (best < 0 || ious[gt][box] > ious[best][box]) best = gt;
    }
    if (best < 0) continue;
    if (ious[best][box] >= problem.negative) matched[box] = ssd::kIgnored;
    if (ious[best][box] >= problem.positive) matched[box] = best;
  }
  if (rule == Rule::kForcedLast || rule == Rule::kForcedFirst) {
    for (int i = 0; i < num_gt; ++i) {
      const int gt = rule == Rule::kForcedLast ? i : num_gt - 1 - i;  // later ones write over earlier ones
      const auto best = std::max_element(ious[gt].begin(), ious[gt].end());
      if (*best > problem.forced_above) matched[best - ious[gt].begin()] = gt;
    }
  }
  std::vector<bool> gt_free(num_gt, true);
  std::vector<bool> box_free(problem.num_boxes, true);
  for (int round = 0; rule == Rule::kBipartite && round < num_gt; ++round) {
    float largest = problem.forced_above;
    int pair_gt = -1;
    int pair_box = -1;
    for (int box = 0; box < problem.num_boxes; ++box) {
      for (int gt = 0; gt < num_gt; ++gt) {
        if (!gt_free[gt] || !box_free[box] || ious[gt][box] <= largest) continue;
        largest = ious[gt][box];
        pair_gt = gt;
        pair_box = box;
      }
    }
    if (pair_gt < 0) break;
    matched[pair_box] = pair_gt;
    gt_free[pair_gt] = box_free[pair_box] = false;
  }
  return matched;
}

float plain_coverage(const Box& box, const Box& gt) {
  const float width = std::max(0.0f, std::min(box.x2, gt.x2) - std::max(box.x1, gt.x1));
  const float height = std::max(0.0f, std::min(box.y2, gt.y2) - std::max(box.y1, gt.y1));
  const bool is_number = gt.x1 == gt.x1 && gt.y1 == gt.y1 && gt.x2 == gt.x2 && gt.y2 == gt.y2;
  const float share = width * height / ((box.x2 - box.x1) * (box.y2 - box.y1));
  return is_number && share > 0 ? share : 0.0f;
}

// The matches of the image with the ground truths begin .. end-1, some of which may be ignored, by the rules.
std::vector<int64_t> plain_match(const Problem& problem, Rule rule, const std::vector<Box>& gts,
                                 const std::vector<uint8_t>& ignored, int64_t begin, int64_t end,
                                 const std::vector<Box>& boxes) {
  std::vector<std::vector<float>> ious;
  std::vector<int64_t> indices;  // of the ground truths that are not ignored
  std::vector<bool> covered(boxes.size());
  for (int64_t gt = begin; gt < end; ++gt) {
    const bool counts = ignored.empty() || ignored[gt] == 0;
    if (counts) {
      indices.push_back(gt - begin);
      ious.emplace_back();
    }
    for (std::size_t box = 0; box < boxes.size(); ++box) {
      if (counts) {
        ious.back().push_back(plain_iou(gts[gt], boxes[box]));
      } else if (plain_coverage(boxes[box], gts[gt]) >= problem.covered_from) {
        covered[box] = true;
      }
    }
  }
  std::vector<int64_t> matched = plain_rules(problem, rule, ious);
  for (std::size_t box = 0; box < boxes.size(); ++box) {
    if (matched[box] >= 0) {
      matched[box] = indices[matched[box]];
    } else if (matched[box] == ssd::kBackground && covered[box]) {
      matched[box] = ssd::kIgnored;
    }
  }
  return matched;
}

void compare(Case& one, const Problem& problem, Rule rule, const std::vector<Box>& gts,
             const std::vector<uint8_t>& ignored, const std::vector<int64_t>& offsets, const std::vector<Box>& boxes,
             const std::vector<int64_t>& want) {
  DeviceArray<Box> device_gts(gts);
  DeviceArray<Box> device_boxes(boxes);
  DeviceArray<int64_t> device_offsets(offsets);
  DeviceArray<uint8_t> device_ignored(ignored);
  DeviceArray<int64_t> matched(want.size());
  DeviceArray<unsigned char> workspace(ssd::match_cuda_workspace(static_cast<int64_t>(gts.size())));
  ssd::MatchTask task{};
  task.num_images = static_cast<int64_t>(offsets.size()) - 1;
  task.num_gt = static_cast<int64_t>(gts.size());
  task.num_default_boxes = problem.num_boxes;
  task.positive_above = std::nextafter(problem.positive, -1.0f);
  task.negative_below = std::min(std::nextafter(problem.negative, -1.0f), task.positive_above);
  task.bipartite = rule == Rule::kBipartite;
  task.force = rule == Rule::kForcedLast || rule == Rule::kForcedFirst;
  task.last_wins = rule == Rule::kForcedLast;
  task.forced_above = problem.forced_above;
  task.covered_from = problem.covered_from;

  task.gt_boxes = device_gts.data();
  task.gt_ignored = ignored.empty() ? nullptr : device_ignored.data();
  task.offsets = device_offsets.data();
  task.default_boxes = device_boxes.data();
  task.matched_idxs = matched.data();
  ssd::match_cuda(task, workspace.data(), kStream);
  one.equal(matched.host(), want, std::string("cuda: ") + kRuleNames[static_cast<int>(rule)]);

  std::vector<int64_t> cpu_matched(want.size());
  task.gt_boxes = gts.data();
  task.gt_ignored = ignored.empty() ? nullptr : ignored.data();
  task.offsets = offsets.data();
  task.default_boxes = boxes.data();
  task.matched_idxs = cpu_matched.data();
  ssd::match_cpu(task);
  one.equal(cpu_matched, want, std::string("cpu: ") + kRuleNames[static_cast<int>(rule)]);
}

void match(Case& one, const Problem& problem) {
  int num_gt = 0;
  std::vector<int64_t> offsets{0};
  for (const int count : problem.num_gt) offsets.push_back(num_gt += count);
  const std::vector<Box> gts = make_boxes<float>(problem.gts, num_gt, 21);
  const std::vector<Box> boxes = make_boxes<float>(problem.boxes, problem.num_boxes, 22);
  std::vector<uint8_t> ignored(problem.ignored_one_in > 0 ? num_gt : 0);
  Random random(25);
  for (uint8_t& flag : ignored) flag = random.below(problem.ignored_one_in) == 0 ? 1 + random.below(255) : 0;
  for (const Rule rule : kRules) {
    std::vector<int64_t> want;
    for (std::size_t image = 0; image < problem.num_gt.size(); ++image) {
      const std::vector<int64_t> matched =
          plain_match(problem, rule, gts, ignored, offsets[image], offsets[image + 1], boxes);
      want.insert(want.end(), matched.begin(), matched.end());
    }
    compare(one, problem, rule, gts, ignored, offsets, boxes, want);
  }
}

// Offsets that no host could check: ground truths before and after the array, and an end before its begin.
void wrong_offsets(Case& one) {
  const Problem problem{{}, 40};
  const std::vector<Box> gts = make_boxes<float>(Boxes::kRandom, 6, 23);
  const std::vector<Box> boxes = make_boxes<float>(Boxes::kRandom, problem.num_boxes, 24);
  const int64_t far = int64_t{1} << 40;
  for (const std::vector<uint8_t>& ignored : {std::vector<uint8_t>{}, {0, 1, 0, 0, 255, 0}}) {
    for (const Rule rule : kRules) {
      std::vector<int64_t> want(problem.num_boxes, ssd::kBackground);
      const std::vector<int64_t> everything = plain_match(problem, rule, gts, ignored, 0, 6, boxes);
      want.insert(want.end(), everything.begin(), everything.end());
      want.insert(want.end(), problem.num_boxes, ssd::kBackground);
      compare(one, problem, rule, gts, ignored, {-far, -3, far, 5}, boxes, want);
    }
  }
}

void add_all(Runner& runner) {
  const auto add = [&](const std::string& name, const Problem& problem) {
    runner.good(name, [=](Case& one) { match(one, problem); });
  };
  for (const int n : {1, 31, 32, 33, 63, 64, 65, 255, 256, 257, 513}) add("boxes-" + std::to_string(n), {{3}, n});
  for (const int n : {31, 32, 33, 127, 128, 129, 255, 256, 257}) add("gts-" + std::to_string(n), {{n}, 40});
  add("images", {{5, 0, 1, 40, 0}, 150});
  add("no-gts", {{0, 0}, 100});
  add("ignored", {{9, 3}, 200, Boxes::kRandom, Boxes::kRandom, 0.5f, 0.25f});
  add("minimum", {{9, 30}, 50, Boxes::kRandom, Boxes::kRandom, 0.5f, 0.25f, 0.375f});
  add("hostile", {{40, 7}, 120, Boxes::kHostile, Boxes::kHostile, 0.5f, 0.25f});
  add("hostile-minimum", {{40, 7}, 120, Boxes::kHostile, Boxes::kHostile, 0.5f, 0.25f, 0.0f});
  add("tied", {{20, 3}, 300, Boxes::kIdentical, Boxes::kIdentical});  // every pair has an IoU of 1
  add("same-gts", {{40}, 30, Boxes::kIdentical, Boxes::kRandom});     // more of them than boxes, and all want the same
  add("apart", {{40}, 300, Boxes::kIdentical, Boxes::kDisjoint});     // no pair overlaps
  add("staircase", {{70}, 80, Boxes::kStaircase, Boxes::kStaircase, 0.6f});
  const auto add_ignored = [&](const std::string& name, Problem problem, int one_in, float covered_from = 0.5f) {
    problem.ignored_one_in = one_in;
    problem.covered_from = covered_from;
    add("ignored-gts-" + name, problem);
  };
  for (const int n : {31, 32, 33, 127, 128, 129, 257}) add_ignored(std::to_string(n), {{n}, 40}, 3);
  add_ignored("boxes-257", {{7}, 257}, 2, 0.25f);
  add_ignored("images", {{5, 0, 1, 40, 0}, 150}, 2);
  add_ignored("none", {{5, 0, 1, 40, 0}, 150}, 1 << 30);
  add_ignored("all", {{5, 0, 1, 40, 0}, 150}, 1);
  add_ignored("band", {{9, 3}, 200, Boxes::kRandom, Boxes::kRandom, 0.5f, 0.25f}, 3, 0.1f);
  add_ignored("all-with-a-band", {{9, 3}, 200, Boxes::kRandom, Boxes::kRandom, 0.5f, 0.0f}, 1);
  add_ignored("minimum", {{9, 30}, 50, Boxes::kRandom, Boxes::kRandom, 0.5f, 0.25f, 0.375f}, 3);
  add_ignored("hostile", {{40, 7}, 120, Boxes::kHostile, Boxes::kHostile, 0.5f}, 2);
  // Few ground truths per image, so that no infinite one covers what a NaN must not.
  add_ignored("hostile-images", {std::vector<int>(20, 2), 60, Boxes::kHostile, Boxes::kRandom}, 1);
  add_ignored("tied", {{20, 3}, 300, Boxes::kIdentical, Boxes::kIdentical}, 2, 1.0f);
  add_ignored("apart", {{40}, 300, Boxes::kIdentical, Boxes::kDisjoint}, 2);
  runner.good("wrong-offsets", wrong_offsets);
}

}  // namespace

int main(int argc, char** argv) {
  Runner runner("match", argc, argv, kSchedules);
  add_all(runner);
  return runner.finish();
}
