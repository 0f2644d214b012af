// run_box_iou.cpp: box_iou in float and double, every pair against the definition.
#include "box_iou/box_iou_task.h"
#include "oracles.h"

namespace {

using namespace ssd::test;
using ssd::BoxOf;

template <class T>
void box_iou(Case& one, int n, int m, Boxes kind) {
  const std::vector<BoxOf<T>> first = make_boxes<T>(kind, n, 1);
  const std::vector<BoxOf<T>> second = make_boxes<T>(kind, m, 2);
  std::vector<T> want(static_cast<std::size_t>(n) * m);
  for (int i = 0; i < n; ++i) {
    for (int j = 0; j < m; ++j) want[i * m + j] = plain_iou(first[i], second[j]);
  }

  DeviceArray<BoxOf<T>> device_first(first);
  DeviceArray<BoxOf<T>> device_second(second);
  DeviceArray<T> ious(want.size());
  ssd::box_iou_cuda(device_first.data(), n, device_second.data(), m, ious.data(), kStream);
  one.equal(ious.host(), want, "cuda");

  std::vector<T> on_cpu(want.size());
  ssd::box_iou_cpu(first.data(), n, second.data(), m, on_cpu.data());
  one.equal(on_cpu, want, "cpu");
}

void add(Runner& runner, int n, int m, Boxes kind, const std::string& name) {
  const std::string size = std::to_string(n) + "x" + std::to_string(m) + "-" + name;
  runner.good("float-" + size, [=](Case& one) { box_iou<float>(one, n, m, kind); });
  runner.good("double-" + size, [=](Case& one) { box_iou<double>(one, n, m, kind); });
}

}  // namespace

int main(int argc, char** argv) {
  Runner runner("box_iou", argc, argv, kSchedules);
  for (const int m : {1, 31, 32, 33, 63, 64, 65, 255, 256, 257, 1023, 1024, 1025}) {
    add(runner, 3, m, Boxes::kRandom, "random");
  }
  for (const int n : {1, 31, 33, 256}) add(runner, n, 40, Boxes::kRandom, "random");
  add(runner, 70, 300, Boxes::kHostile, "hostile");
  add(runner, 5, 5, Boxes::kIdentical, "identical");
#if !defined(SSD_CHECKED) && !defined(__SANITIZE_ADDRESS__)  // takes seconds, and tens of them where all is checked
  runner.good("float-more-rows-than-a-grid", [](Case& one) { box_iou<float>(one, 65537, 1, Boxes::kStaircase); });
#endif
  return runner.finish();
}
