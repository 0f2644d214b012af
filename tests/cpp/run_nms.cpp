// run_nms.cpp: nms and batched_nms in float and double, and nms_padded, against greedy NMS over all pairs.
#include "nms/nms_task.h"
#include "oracles.h"

namespace {

using namespace ssd::test;
using ssd::Box;
using ssd::BoxOf;

constexpr float kThreshold = 0.5f;  // an IoU of exactly a half does not suppress

template <class T>
void compare_nms(Case& one, const std::vector<BoxOf<T>>& boxes, const std::vector<T>& scores,
                 const std::vector<int64_t>& classes, const std::vector<int64_t>& want) {
  const auto n = static_cast<int64_t>(boxes.size());
  DeviceArray<BoxOf<T>> device_boxes(boxes);
  DeviceArray<T> device_scores(scores);
  DeviceArray<int64_t> device_classes(classes);
  DeviceArray<int64_t> kept(boxes.size());
  DeviceArray<int64_t> count(1);
  DeviceArray<unsigned char> workspace(ssd::nms_cuda_workspace(n, sizeof(T) == 8));
  ssd::NmsTask<T> task{
      device_boxes.data(), device_scores.data(), classes.empty() ? nullptr : device_classes.data(), n, T(kThreshold),
      kept.data(),         count.data()};
  ssd::nms_cuda(task, workspace.data(), kStream);
  const auto want_count = static_cast<int64_t>(want.size());
  one.equal(count.host(), {want_count}, "cuda: count");
  one.equal(kept.first(want.size()), want, "cuda: kept");

  std::vector<int64_t> cpu_kept(boxes.size());
  int64_t cpu_count = -1;
  task.boxes = boxes.data();
  task.scores = scores.data();
  task.classes = classes.empty() ? nullptr : classes.data();
  task.kept = cpu_kept.data();
  task.count = &cpu_count;
  ssd::nms_cpu(task);
  cpu_kept.resize(want.size());
  one.equal(std::vector<int64_t>{cpu_count}, {want_count}, "cpu: count");
  one.equal(cpu_kept, want, "cpu: kept");
}

// num_classes: 0 for nms, else for batched_nms.
template <class T>
void nms(Case& one, int n, Boxes boxes_kind, Scores scores_kind, int num_classes) {
  const std::vector<BoxOf<T>> boxes = make_boxes<T>(boxes_kind, n, 11);
  const std::vector<T> scores = make_scores<T>(scores_kind, n, 12);
  std::vector<int64_t> classes(num_classes > 0 ? n : 0);
  Random random(13);
  for (int64_t& one_class : classes) one_class = (int64_t{1} << 40) * random.below(num_classes) - 3;
  compare_nms(one, boxes, scores, classes, plain_nms(boxes, best_first(scores), classes, T(kThreshold)));
}

struct Padded {
  int images;
  int segments;  // per image
  int n;
  int max_output;
  Boxes boxes;
  Scores scores;
};

void nms_padded(Case& one, const Padded& padded) {
  const int problems = padded.images * padded.segments;
  const std::vector<Box> boxes = make_boxes<float>(padded.boxes, padded.images * padded.n, 14);
  const std::vector<float> scores = make_scores<float>(padded.scores, problems * padded.n, 15);
  std::vector<int64_t> want_kept;
  std::vector<int64_t> want_counts;
  for (int problem = 0; problem < problems; ++problem) {
    const auto first_box = boxes.begin() + problem / padded.segments * padded.n;
    const auto first_score = scores.begin() + problem * padded.n;
    const std::vector<float> own_scores(first_score, first_score + padded.n);
    std::vector<int64_t> kept =
        plain_nms(std::vector<Box>(first_box, first_box + padded.n), best_first(own_scores), {}, kThreshold);
    want_counts.push_back(std::min<int64_t>(static_cast<int64_t>(kept.size()), padded.max_output));
    kept.resize(want_counts.back());
    kept.resize(padded.max_output, -1);
    want_kept.insert(want_kept.end(), kept.begin(), kept.end());
  }

  DeviceArray<Box> device_boxes(boxes);
  DeviceArray<float> device_scores(scores);
  DeviceArray<int64_t> kept(want_kept.size());
  DeviceArray<int64_t> counts(want_counts.size());
  DeviceArray<unsigned char> workspace(ssd::nms_padded_cuda_workspace(problems, padded.max_output));
  ssd::NmsPaddedTask task{device_boxes.data(), device_scores.data(), padded.images, padded.segments, padded.n,
                          kThreshold,          padded.max_output,    kept.data(),   counts.data()};
  ssd::nms_padded_cuda(task, workspace.data(), kStream);
  one.equal(counts.host(), want_counts, "cuda: counts");
  one.equal(kept.host(), want_kept, "cuda: kept");

  std::vector<int64_t> cpu_kept(want_kept.size());
  std::vector<int64_t> cpu_counts(want_counts.size());
  task.boxes = boxes.data();
  task.scores = scores.data();
  task.kept = cpu_kept.data();
  task.counts = cpu_counts.data();
  ssd::nms_padded_cpu(task);
  one.equal(cpu_counts, want_counts, "cpu: counts");
  one.equal(cpu_kept, want_kept, "cpu: kept");
}

template <class T>
void add_nms(Runner& runner, const std::string& type) {
  const auto add = [&](const std::string& name, int n, Boxes boxes, Scores scores, int num_classes) {
    runner.good(type + "-" + std::to_string(n) + "-" + name,
                [=](Case& one) { nms<T>(one, n, boxes, scores, num_classes); });
  };
  for (const int n : {0, 1, 31, 32, 33, 63, 64, 65, 255, 256, 257}) {
    add("random", n, Boxes::kRandom, Scores::kRandom, 0);
  }
  add("staircase", 200, Boxes::kStaircase, Scores::kDescending, 0);
  add("identical", 300, Boxes::kIdentical, Scores::kRandom, 0);
  add("disjoint", 300, Boxes::kDisjoint, Scores::kRandom, 0);
  add("tied", 300, Boxes::kRandom, Scores::kTied, 0);
  add("hostile", 500, Boxes::kHostile, Scores::kHostile, 0);
  add("hostile-classes", 300, Boxes::kHostile, Scores::kHostile, 3);
  add("classes", 300, Boxes::kRandom, Scores::kFew, 5);
}

// Sizes beyond the chunk (1024) and the sort's tile (2048): slower, so one type per size.
void add_large(Runner& runner) {
  for (const int n : {1023, 1024, 1025}) {
    runner.good("float-" + std::to_string(n) + "-random",
                [n](Case& one) { nms<float>(one, n, Boxes::kRandom, Scores::kRandom, 0); });
  }
  runner.good("double-1025-classes", [](Case& one) { nms<double>(one, 1025, Boxes::kRandom, Scores::kFew, 20); });
  runner.good("float-2047-identical", [](Case& one) { nms<float>(one, 2047, Boxes::kIdentical, Scores::kTied, 0); });
  runner.good("float-2048-classes", [](Case& one) { nms<float>(one, 2048, Boxes::kHostile, Scores::kFew, 30); });
  runner.good("float-2600-classes", [](Case& one) { nms<float>(one, 2600, Boxes::kRandom, Scores::kFew, 60); });
  runner.good("float-2049-staircase",
              [](Case& one) { nms<float>(one, 2049, Boxes::kStaircase, Scores::kDescending, 0); });
}

void add_padded(Runner& runner) {
  const auto add = [&](const std::string& name, const Padded& padded) {
    runner.good("padded-" + name, [=](Case& one) { nms_padded(one, padded); });
  };
  for (const int n : {1, 31, 32, 33, 63, 64, 65, 255, 256, 257, 1023, 1024, 1025}) {
    add(std::to_string(n), {1, 1, n, 50, Boxes::kRandom, Scores::kRandom});
  }
  add("no-boxes", {2, 2, 0, 4, Boxes::kRandom, Scores::kRandom});
  add("classes", {2, 5, 150, 100, Boxes::kRandom, Scores::kFew});
  add("max-1", {2, 2, 100, 1, Boxes::kRandom, Scores::kRandom});
  add("max-over-n", {1, 2, 40, 100, Boxes::kRandom, Scores::kRandom});
  add("tied", {1, 1, 600, 600, Boxes::kRandom, Scores::kTied});
  add("hostile", {2, 2, 300, 300, Boxes::kHostile, Scores::kHostile});
  add("rarely-hostile", {1, 2, 1100, 900, Boxes::kRarelyHostile, Scores::kRandom});
  add("identical", {1, 1, 2500, 5, Boxes::kIdentical, Scores::kRandom});  // three chunks of 1024 for one box
  add("points", {1, 1, 1100, 1100, Boxes::kPoints, Scores::kRandom});     // taken twice, a point would be kept twice
  add("disjoint", {1, 1, 1100, 1050, Boxes::kDisjoint, Scores::kRandom});
  add("staircase", {1, 1, 700, 700, Boxes::kStaircase, Scores::kDescending});
  add("staircase-shuffled-all", {1, 1, 1700, 1700, Boxes::kStaircase, Scores::kRandom});  // 700 are kept
  add("points-1024", {1, 1, 1024, 1100, Boxes::kPoints, Scores::kRandom});
  add("staircase-shuffled", {1, 1, 1500, 40, Boxes::kStaircase, Scores::kRandom});
}

}  // namespace

int main(int argc, char** argv) {
  Runner runner("nms", argc, argv, kSchedules);
  add_nms<float>(runner, "float");
  add_nms<double>(runner, "double");
  add_large(runner);
  add_padded(runner);
  return runner.finish();
}
