// encode_boxes, decode_boxes: boxes to and from offsets relative to the default boxes. Source: Liu et al. 2016, eq. 2.
#pragma once

#include "box_coder/box_coder_launch.h"
#include "common/view.h"

namespace ssd {

inline BoxCoder make_box_coder(const Checks& check, const std::vector<float>& variances, float log_scale_low,
                               float log_scale_high, bool yx) {
  if (variances.size() != 4) check.value_error("coder", "4 variances", std::to_string(variances.size()));
  return {variances[0], variances[1], variances[2], variances[3], log_scale_low, log_scale_high, yx};
}

// `rows` is [..., P, 4], its leading dimensions any.
inline void check_rows(const Checks& check, const View& rows, const char* argument, const std::vector<DType>& dtypes,
                       const View& default_boxes) {
  check.array(default_boxes, "default_boxes", {kAny, 4}, {DType::float32}, default_boxes);
  std::vector<int64_t> expected(rows.ndim < 2 ? 2 : rows.ndim, kAny);
  expected[expected.size() - 2] = default_boxes.shape[0];
  expected[expected.size() - 1] = 4;
  check.array(rows, argument, expected, dtypes, default_boxes);
}

inline void decode_boxes(const View& deltas, const View& default_boxes, const std::vector<float>& variances,
                         float log_scale_low, float log_scale_high, bool yx, const View& boxes) {
  const Checks check("decode_boxes");
  check_rows(check, deltas, "deltas", {DType::float32, DType::float16, DType::bfloat16}, default_boxes);
  check_rows(check, boxes, "out", {DType::float32}, default_boxes);
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
  check_rows(check, boxes, "boxes", {DType::float32}, default_boxes);
  check_rows(check, deltas, "out", {DType::float32}, default_boxes);
  const BoxCoderTask task{boxes.size() / 4, default_boxes.shape[0], default_boxes.as<Box>(),
                          make_box_coder(check, variances, 0.0f, 0.0f, yx)};
  if (task.num_rows == 0) return;
  dispatch(
      "encode_boxes", boxes, [&](auto...) { encode_boxes_cpu(task, boxes.as<Box>(), deltas.as<float>()); },
      [&](auto stream) { encode_boxes_cuda(task, boxes.as<Box>(), deltas.as<float>(), stream); });
}

}  // namespace ssd
