// encode_boxes, decode_boxes: convert boxes to offsets from default boxes, and back. Source: Liu et al. 2016, eq. 2.
#pragma once

#include "box_coder/box_coder_task.h"
#include "common/view.h"

namespace ssd {

inline BoxCoder make_box_coder(const Checks& check, const std::vector<float>& variances, float log_scale_low,
                               float log_scale_high, bool yx) {
  if (variances.size() != 4) check.value_error("coder", "4 variances", std::to_string(variances.size()));
  return {variances[0], variances[1], variances[2], variances[3], log_scale_low, log_scale_high, yx};
}

// [..., P, 4] with the leading dimensions of `rows`.
inline std::vector<int64_t> row_shape(const View& rows, const View& default_boxes) {
  std::vector<int64_t> expected(std::clamp(rows.ndim, 2, kMaxDims), kAny);
  expected[expected.size() - 2] = default_boxes.shape[0];
  expected[expected.size() - 1] = 4;
  return expected;
}

inline void decode_boxes(const View& deltas, const View& default_boxes, const std::vector<float>& variances,
                         float log_scale_low, float log_scale_high, bool yx, const View& boxes) {
  const Checks check("decode_boxes");
  const std::vector<DType> delta_types = {DType::float32, DType::float16, DType::bfloat16};
  check.boxes(default_boxes, "default_boxes", {kAny, 4}, {DType::float32}, default_boxes);
  check.array(deltas, "deltas", row_shape(deltas, default_boxes), delta_types, default_boxes);
  check.boxes(boxes, "out", {deltas.shape, deltas.shape + deltas.ndim}, {DType::float32}, default_boxes);
  const BoxCoderTask task{deltas.size() / 4, default_boxes.shape[0], default_boxes.as<Box>(),
                          make_box_coder(check, variances, log_scale_low, log_scale_high, yx)};
  if (task.num_rows == 0) return;
  dispatch(
      "decode_boxes", deltas, [&](auto...) { decode_boxes_cpu(task, deltas.data, deltas.dtype, boxes.as<Box>()); },
      [&](auto stream) { decode_boxes_cuda(task, deltas.data, deltas.dtype, boxes.as<Box>(), stream); });
}

inline void encode_boxes(const View& boxes, const View& default_boxes, const std::vector<float>& variances, bool yx,
                         const View& deltas) {
  const Checks check("encode_boxes");
  check.boxes(default_boxes, "default_boxes", {kAny, 4}, {DType::float32}, default_boxes);
  check.boxes(boxes, "boxes", row_shape(boxes, default_boxes), {DType::float32}, default_boxes);
  check.array(deltas, "out", {boxes.shape, boxes.shape + boxes.ndim}, {DType::float32}, default_boxes);
  const BoxCoderTask task{boxes.size() / 4, default_boxes.shape[0], default_boxes.as<Box>(),
                          make_box_coder(check, variances, 0.0f, 0.0f, yx)};
  if (task.num_rows == 0) return;
  dispatch(
      "encode_boxes", boxes, [&](auto...) { encode_boxes_cpu(task, boxes.as<Box>(), deltas.as<float>()); },
      [&](auto stream) { encode_boxes_cuda(task, boxes.as<Box>(), deltas.as<float>(), stream); });
}

}  // namespace ssd
