// run_match.cpp: match under every rule, against the rules written out on the whole matrix of IoUs.
#include "match/match_launch.h"
#include "oracles.h"

namespace {

using namespace ssd::test;
using ssd::Box;

enum class Rule { kForcedLast, kForcedFirst, kBipartite, kThreshold };
constexpr Rule kRules[] = {Rule::kForcedLast, Rule::kForcedFirst, Rule::kBipartite, Rule::kThreshold};
const char* const kRuleNames[] = {"last", "first", "bipartite", "threshold"};

struct Problem {
  std::vector<int> num_gt;  // of each image
  int num_boxes;
  Boxes gts = Boxes::kRandom;
  Boxes boxes = Boxes::kRandom;
  float positive = 0.5f;  // the least IoU of a positive
  float negative = 2.0f;  // from here up to it a default box is ignored
  float forced_above = -1.0f;
};

// What the rules say of one image, given ious[gt][box].
std::vector<int64_t> plain_match(const Problem& problem, Rule rule, const std::vector<std::vector<float>>& ious) {
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

void compare(Case& one, const Problem& problem, Rule rule, const std::vector<Box>& gts,
             const std::vector<int64_t>& offsets, const std::vector<Box>& boxes, const std::vector<int64_t>& want) {
  DeviceArray<Box> device_gts(gts);
  DeviceArray<Box> device_boxes(boxes);
  DeviceArray<int64_t> device_offsets(offsets);
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

  task.gt_boxes = device_gts.data();
  task.offsets = device_offsets.data();
  task.default_boxes = device_boxes.data();
  task.matched_idxs = matched.data();
  ssd::match_cuda(task, workspace.data(), kStream);
  one.equal(matched.host(), want, std::string("cuda: ") + kRuleNames[static_cast<int>(rule)]);

  std::vector<int64_t> cpu_matched(want.size());
  task.gt_boxes = gts.data();
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
  for (const Rule rule : kRules) {
    std::vector<int64_t> want;
    for (std::size_t image = 0; image < problem.num_gt.size(); ++image) {
      std::vector<std::vector<float>> ious;
      for (int64_t gt = offsets[image]; gt < offsets[image + 1]; ++gt) {
        ious.emplace_back();
        for (const Box& box : boxes) ious.back().push_back(plain_iou(gts[gt], box));
      }
      const std::vector<int64_t> matched = plain_match(problem, rule, ious);
      want.insert(want.end(), matched.begin(), matched.end());
    }
    compare(one, problem, rule, gts, offsets, boxes, want);
  }
}

// Offsets that no host could check: ground truths before and behind the array, and an end before its begin.
void wrong_offsets(Case& one) {
  const Problem problem{{}, 40};
  const std::vector<Box> gts = make_boxes<float>(Boxes::kRandom, 6, 23);
  const std::vector<Box> boxes = make_boxes<float>(Boxes::kRandom, problem.num_boxes, 24);
  const int64_t far = int64_t{1} << 40;
  std::vector<std::vector<float>> all;
  for (const Box& gt : gts) {
    all.emplace_back();
    for (const Box& box : boxes) all.back().push_back(plain_iou(gt, box));
  }
  for (const Rule rule : kRules) {
    std::vector<int64_t> want = plain_match(problem, rule, {});
    const std::vector<int64_t> everything = plain_match(problem, rule, all);
    want.insert(want.end(), everything.begin(), everything.end());
    want.insert(want.end(), problem.num_boxes, ssd::kBackground);
    compare(one, problem, rule, gts, {-far, -3, far, 5}, boxes, want);
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
  runner.good("wrong-offsets", wrong_offsets);
}

}  // namespace

int main(int argc, char** argv) {
  Runner runner("match", argc, argv, kSchedules);
  add_all(runner);
  return runner.finish();
}
