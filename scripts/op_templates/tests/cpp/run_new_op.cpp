// run_new_op.cpp: new_op on every kind of box, against the definition.
#include "new_op/new_op_task.h"
#include "oracles.h"

namespace {

using namespace ssd::test;
using ssd::Box;

void new_op(Case& one, int n, Boxes kind) {
  const std::vector<Box> boxes = make_boxes<float>(kind, n, 1);
  std::vector<float> want(n);
  // FILL IN: the definition, without a function of csrc.
  for (int i = 0; i < n; ++i) want[i] = (boxes[i].x2 - boxes[i].x1) * (boxes[i].y2 - boxes[i].y1);

  DeviceArray<Box> device_boxes(boxes);
  DeviceArray<float> out(want.size());
  ssd::new_op_cuda(device_boxes.data(), n, out.data(), kStream);
  one.equal(out.host(), want, "cuda");

  std::vector<float> on_cpu(want.size());
  ssd::new_op_cpu(boxes.data(), n, on_cpu.data());
  one.equal(on_cpu, want, "cpu");
}

}  // namespace

int main(int argc, char** argv) {
  Runner runner("new_op", argc, argv, kSchedules);
  for (const int n : {1, 31, 32, 33, 63, 64, 65, 255, 256, 257, 1025}) {
    runner.good("random-" + std::to_string(n), [=](Case& one) { new_op(one, n, Boxes::kRandom); });
  }
  runner.good("hostile", [](Case& one) { new_op(one, 300, Boxes::kHostile); });
  return runner.finish();
}
