// new_op: FILL IN: computes out[i], the area of boxes[i], which stands in for the op's own formula.
#pragma once

#include "common/view.h"
#include "new_op/new_op_task.h"

namespace ssd {

inline void new_op(const View& boxes, const View& out) {
  const Checks check("new_op");
  check.boxes(boxes, "boxes", {kAny, 4}, {DType::float32}, boxes);
  const int64_t n = boxes.shape[0];
  check.array(out, "out", {n}, {DType::float32}, boxes);
  if (n == 0) return;
  dispatch(
      "new_op", boxes, [&](auto...) { new_op_cpu(boxes.as<Box>(), n, out.as<float>()); },
      [&](auto stream) { new_op_cuda(boxes.as<Box>(), n, out.as<float>(), stream); });
}

}  // namespace ssd
