// nms, batched_nms, nms_padded: greedy non-maximum suppression, exact at any size, O(n) memory.
//
// Candidates are taken by descending score, ties by lower index; NaN scores are not candidates. A candidate is kept
// unless a kept one (batched_nms: of its class) has iou > iou_threshold with it.
#pragma once

#include "common/view.h"
#include "nms/nms_task.h"

namespace ssd {

// Bytes of device memory that nms needs beside its outputs; 0 on the CPU.
inline int64_t nms_workspace(const View& boxes) {
  int64_t bytes = 0;
  dispatch(
      "nms", boxes, [](auto...) {},
      [&](auto) {
        bytes = static_cast<int64_t>(
            nms_cuda_workspace(boxes.ndim > 0 ? boxes.shape[0] : 0, boxes.dtype == DType::float64));
      });
  return bytes;
}

inline void run_nms(const Checks& check, const char* op, const View& boxes, const View& scores, const View* idxs,
                    double iou_threshold, const View& workspace, const View& kept, const View& count) {
  check.boxes(boxes, "boxes", {kAny, 4}, {DType::float32, DType::float64}, boxes);
  const int64_t n = boxes.shape[0];
  check.array(scores, "scores", {n}, {boxes.dtype}, boxes);
  if (idxs != nullptr) check.array(*idxs, "idxs", {n}, {DType::int64}, boxes);
  check.threshold(iou_threshold, "iou_threshold");
  check.fits_int32({n}, "boxes");
  check.array(kept, "out", {n}, {DType::int64}, boxes);
  check.array(count, "count", {1}, {DType::int64}, boxes);
  check.array(workspace, "workspace", {kAny}, {DType::uint8}, boxes);
  check.at_least(workspace.shape[0], nms_workspace(boxes), "workspace");

  const auto run = [&](auto zero) {
    using T = decltype(zero);
    const NmsTask<T> task{boxes.as<BoxOf<T>>(),
                          scores.as<T>(),
                          idxs == nullptr ? nullptr : idxs->as<int64_t>(),
                          n,
                          static_cast<T>(iou_threshold),
                          kept.as<int64_t>(),
                          count.as<int64_t>()};
    dispatch(op, boxes, [&](auto...) { nms_cpu(task); }, [&](auto stream) { nms_cuda(task, workspace.data, stream); });
  };
  if (boxes.dtype == DType::float64) {
    run(0.0);
  } else {
    run(0.0f);
  }
}

inline void nms(const View& boxes, const View& scores, double iou_threshold, const View& workspace, const View& kept,
                const View& count) {
  run_nms(Checks("nms"), "nms", boxes, scores, nullptr, iou_threshold, workspace, kept, count);
}

inline void batched_nms(const View& boxes, const View& scores, const View& idxs, double iou_threshold,
                        const View& workspace, const View& kept, const View& count) {
  run_nms(Checks("batched_nms"), "batched_nms", boxes, scores, &idxs, iou_threshold, workspace, kept, count);
}

// Checks the inputs of nms_padded and makes its task, without the outputs. scores: [N, n] or [N, C, n].
inline NmsPaddedTask make_nms_padded_task(const Checks& check, const View& boxes, const View& scores,
                                          double iou_threshold, int64_t max_output) {
  check.boxes(boxes, "boxes", {kAny, kAny, 4}, {DType::float32}, boxes);
  const int64_t images = boxes.shape[0];
  const int64_t n = boxes.shape[1];
  const bool has_classes = scores.ndim == 3;
  const int64_t classes = has_classes ? scores.shape[1] : 1;
  using Shape = std::vector<int64_t>;
  check.array(scores, "scores", has_classes ? Shape{images, kAny, n} : Shape{images, n}, {DType::float32}, boxes);
  check.threshold(iou_threshold, "iou_threshold");
  check.at_least(max_output, 1, "max_output");
  check.fits_int32({n}, "boxes");
  check.fits_int32({max_output}, "max_output");
  check.fits_int32({images, classes}, "scores");
  return {
      boxes.as<Box>(), scores.as<float>(), images, classes, n, static_cast<float>(iou_threshold), max_output, nullptr,
      nullptr};
}

// Bytes of device memory that nms_padded needs beside its outputs; 0 on the CPU. Checks all inputs, so that nothing is
// allocated for a wrong max_output.
inline int64_t nms_padded_workspace(const View& boxes, const View& scores, double iou_threshold, int64_t max_output) {
  const NmsPaddedTask task = make_nms_padded_task(Checks("nms_padded"), boxes, scores, iou_threshold, max_output);
  int64_t bytes = 0;
  dispatch(
      "nms_padded", boxes, [](auto...) {},
      [&](auto) {
        bytes = static_cast<int64_t>(nms_padded_cuda_workspace(task.images * task.segments_per_image, task.max_output));
      });
  return bytes;
}

// kept and counts have the leading dimensions of scores.
inline void nms_padded(const View& boxes, const View& scores, double iou_threshold, int64_t max_output,
                       const View& workspace, const View& kept, const View& counts) {
  const Checks check("nms_padded");
  NmsPaddedTask task = make_nms_padded_task(check, boxes, scores, iou_threshold, max_output);
  std::vector<int64_t> shape(scores.shape, scores.shape + scores.ndim - 1);
  check.array(counts, "counts", shape, {DType::int64}, boxes);
  shape.push_back(max_output);
  check.array(kept, "out", shape, {DType::int64}, boxes);
  check.array(workspace, "workspace", {kAny}, {DType::uint8}, boxes);
  check.at_least(workspace.shape[0], nms_padded_workspace(boxes, scores, iou_threshold, max_output), "workspace");
  if (task.images * task.segments_per_image == 0) return;
  task.kept = kept.as<int64_t>();
  task.counts = counts.as<int64_t>();
  dispatch(
      "nms_padded", boxes, [&](auto...) { nms_padded_cpu(task); },
      [&](auto stream) { nms_padded_cuda(task, workspace.data, stream); });
}

}  // namespace ssd
