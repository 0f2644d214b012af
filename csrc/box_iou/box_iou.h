// box_iou: computes ious[i][j] of boxes1[i] and boxes2[j], in the boxes' dtype. Degenerate and NaN boxes have IoU 0.
#pragma once

#include "box_iou/box_iou_task.h"
#include "common/view.h"

namespace ssd {

inline void box_iou(const View& boxes1, const View& boxes2, const View& ious) {
  const Checks check("box_iou");
  check.boxes(boxes1, "boxes1", {kAny, 4}, {DType::float32, DType::float64}, boxes1);
  check.boxes(boxes2, "boxes2", {kAny, 4}, {boxes1.dtype}, boxes1);
  const int64_t n = boxes1.shape[0];
  const int64_t m = boxes2.shape[0];
  check.array(ious, "out", {n, m}, {boxes1.dtype}, boxes1);
  if (n == 0 || m == 0) return;

  const auto run = [&](auto zero) {
    using T = decltype(zero);
    const auto *first = boxes1.as<BoxOf<T>>(), *second = boxes2.as<BoxOf<T>>();
    dispatch(
        "box_iou", boxes1, [&](auto...) { box_iou_cpu(first, n, second, m, ious.as<T>()); },
        [&](auto stream) { box_iou_cuda(first, n, second, m, ious.as<T>(), stream); });
  };
  if (boxes1.dtype == DType::float64) {
    run(0.0);
  } else {
    run(0.0f);
  }
}

}  // namespace ssd
