// postprocess: head outputs -> padded detections. Scores, threshold, top-k a class, decode, clip, greedy NMS a class,
// the best keep_top_k of an image, rescale; over a batch, without a sync. Source: Liu et al. 2016, section 2.2.
#pragma once

#include <cmath>
#include <limits>
#include <optional>

#include "box_coder/box_coder.h"
#include "common/view.h"
#include "postprocess/postprocess_task.h"

namespace ssd {

// The smallest float whose value under a monotone function exceeds the threshold, by bisection over the floats in
// order.
template <typename Function>
float smallest_above(float threshold, Function function) {
  const auto float_at = [](int64_t position) {  // 0 is position 0, larger floats have larger positions
    const float magnitude = bits_to_float(static_cast<unsigned>(position < 0 ? -position : position));
    return position < 0 ? -magnitude : magnitude;
  };
  int64_t below = -0x7F800000;  // -infinity
  int64_t above = 0x7F800000;   // +infinity: taken where no float exceeds the threshold
  while (above - below > 1) {
    const int64_t middle = below + (above - below) / 2;
    (function(float_at(middle)) > threshold ? above : below) = middle;
  }
  return float_at(above);
}

// The options, flattened by the Python op from PostprocessSpec and BoxCoderSpec, which have checked their values.
struct PostprocessOptions {
  bool sigmoid;
  int64_t background;
  double score_threshold;
  bool score_inclusive;
  int64_t class_mode;   // ClassMode
  int64_t top_k;        // 0: all
  int64_t top_k_scope;  // TopKScope
  std::optional<double> min_box_size;
  double iou_threshold;
  bool iou_inclusive;
  int64_t keep_top_k;
  int64_t clip, rescale;  // Stage
  bool anchor_major;      // raw maps: channel a * C + c, else c * A + a
  bool ahw;               // raw maps: row order of default_boxes
  std::vector<float> variances;
  float log_scale_low, log_scale_high;
  bool yx;
};

struct PostprocessOutputs {
  View boxes, scores, labels, box_idxs, counts;
};

// One level of one head output. `columns` is C for cls_logits and 4 for bbox_regression.
inline HeadMap head_map(const View& view, int64_t columns, bool anchor_major, bool ahw) {
  if (view.ndim == 3) return {view.data, view.strides[0], view.strides[2], {0, view.strides[1], 0}};
  const int64_t channel = view.strides[1];
  const int64_t anchors = columns > 0 ? view.shape[1] / columns : 0;
  const int64_t anchor_stride = anchor_major ? columns * channel : channel;
  const int64_t column_stride = anchor_major ? channel : anchors * channel;
  const int64_t y = view.strides[2];
  const int64_t x = view.strides[3];
  if (ahw) return {view.data, view.strides[0], column_stride, {anchor_stride, y, x}};
  return {view.data, view.strides[0], column_stride, {y, x, anchor_stride}};
}

inline Sizes make_sizes(const Checks& check, const std::optional<View>& per_image, const std::vector<double>& one,
                        const char* argument, const View& reference) {
  if (per_image.has_value()) {
    check.array(*per_image, argument, {reference.shape[0], 2}, {DType::int64}, reference);
    return {per_image->as<int64_t>(), 0.0f, 0.0f};
  }
  if (one.empty()) return {nullptr, 1.0f, 1.0f};
  if (one.size() != 2) check.value_error(argument, "(height, width)", std::to_string(one.size()) + " numbers");
  for (const double side : one) {
    if (!(side > 0 && side <= 1e9)) check.value_error(argument, "finite positive sizes", std::to_string(side));
  }
  return {nullptr, static_cast<float>(one[0]), static_cast<float>(one[1])};
}

inline void set_columns(PostprocessTask& task, int columns) {
  task.num_columns = columns;
  task.column_bits = 0;
  while (int64_t{1} << task.column_bits < columns) ++task.column_bits;
}

// The threshold that candidates exceed, and the limits of logits that follow from it. The activation and the background
// are set.
inline void set_score_threshold(PostprocessTask& task, float threshold) {
  task.score_threshold = threshold;
  // Softmax: the sum is at least exp(0), and exp is monotone, so a score exceeds t only if exp(logit - max) does, and
  // then exp(logit - background logit) does too. Without a background column a row has nothing to be rejected by.
  task.can_reject = threshold >= 0 && (task.sigmoid || task.background >= 0);
  task.reject_below = -std::numeric_limits<float>::infinity();
  if (threshold >= 0) {
    task.reject_below = smallest_above(threshold, [&](float x) { return task.sigmoid ? sigmoid(x) : exp(x); });
  }
}

// What decides how much memory a task needs, checked before any of it is allocated.
inline void set_problem(const Checks& check, PostprocessTask& task, int64_t images, int64_t rows, int64_t columns,
                        const PostprocessOptions& options) {
  const int64_t least_columns = options.background == -1 ? 1 : 2;
  if (columns < least_columns) {
    check.value_error("cls_logits", "at least " + std::to_string(least_columns) + " columns", std::to_string(columns));
  }
  check.fits_int32({rows, columns}, "cls_logits");
  if (images > 65535) check.value_error("cls_logits", "at most 65535 images", std::to_string(images));
  check.at_least(options.top_k, 0, "spec.top_k");
  check.at_least(options.keep_top_k, 1, "spec.keep_top_k");
  check.fits_int32({options.keep_top_k, std::max<int64_t>(images, 1)}, "spec.keep_top_k");
  task.num_images = images;
  task.num_rows = static_cast<int>(rows);
  set_columns(task, static_cast<int>(columns));
  task.pool_capacity = kPoolCapacity;
  task.sigmoid = options.sigmoid;
  task.class_mode = static_cast<ClassMode>(options.class_mode);
  task.top_k_scope = options.top_k == 0 ? TopKScope::segment : static_cast<TopKScope>(options.top_k_scope);
  const int64_t most = task.top_k_scope == TopKScope::segment ? rows : rows * columns;
  task.top_k = static_cast<int>(options.top_k == 0 ? most : std::min(options.top_k, most));
  task.keep_top_k = static_cast<int>(options.keep_top_k);
}

// Bytes of device memory that postprocess needs beside its outputs; 0 on the CPU.
inline int64_t postprocess_workspace(const View& logits, int64_t num_rows, int64_t num_columns,
                                     const PostprocessOptions& options) {
  const Checks check("postprocess");
  if (logits.ndim != 3 && logits.ndim != 4) check.shape(logits, "cls_logits", {kAny, kAny, kAny});
  PostprocessTask task{};
  set_problem(check, task, logits.shape[0], num_rows, num_columns, options);
  int64_t bytes = 0;
  if (logits.shape[0] == 0) return bytes;
  dispatch(
      "postprocess", logits, [](auto...) {},
      [&](auto) { bytes = static_cast<int64_t>(postprocess_cuda_workspace(task)); });
  return bytes;
}

// cls_logits and bbox_regression: one [N, P, C] and [N, P, 4], or for each level [N, A * C, h, w] and [N, A * 4, h, w].
inline void postprocess(const std::vector<View>& cls_logits, const std::vector<View>& bbox_regression,
                        const View& default_boxes, int64_t num_columns, const PostprocessOptions& options,
                        const std::optional<View>& image_sizes, const std::vector<double>& image_size,
                        const std::optional<View>& original_sizes, const std::vector<double>& original_size,
                        const View& workspace, const PostprocessOutputs& out) {
  const Checks check("postprocess");
  const std::vector<DType> logit_types = {DType::float32, DType::float16, DType::bfloat16};
  if (cls_logits.empty() || cls_logits.size() > kMaxHeadLevels) {
    check.value_error("cls_logits", "1 to 8 levels", std::to_string(cls_logits.size()));
  }
  if (bbox_regression.size() != cls_logits.size()) {
    check.value_error("bbox_regression", std::to_string(cls_logits.size()) + " levels",
                      std::to_string(bbox_regression.size()));
  }
  PostprocessTask task{};
  const View& first = cls_logits[0];
  set_problem(check, task, first.shape[0], default_boxes.shape[0], num_columns, options);
  int64_t num_rows = 0;
  for (size_t i = 0; i < cls_logits.size(); ++i) {
    const View &logits = cls_logits[i], &deltas = bbox_regression[i];
    const bool raw = logits.ndim == 4;
    const int64_t anchors = !raw ? 1 : deltas.ndim == 4 ? deltas.shape[1] / 4 : logits.shape[1] / num_columns;
    if (raw) {
      check.shape(logits, "cls_logits", {first.shape[0], anchors * num_columns, kAny, kAny});
      check.shape(deltas, "bbox_regression", {first.shape[0], 4 * anchors, logits.shape[2], logits.shape[3]});
    } else {
      check.shape(logits, "cls_logits", {first.shape[0], kAny, num_columns});
      check.shape(deltas, "bbox_regression", {first.shape[0], logits.shape[1], 4});
    }
    check.dtype(logits, "cls_logits", i == 0 ? logit_types : std::vector<DType>{first.dtype});
    check.dtype(deltas, "bbox_regression", i == 0 ? logit_types : std::vector<DType>{bbox_regression[0].dtype});
    check.memory(logits, "cls_logits", first);
    check.memory(deltas, "bbox_regression", first);

    HeadLevel& level = task.levels[i];
    level.logits = head_map(logits, num_columns, options.anchor_major, options.ahw);
    level.deltas = head_map(deltas, 4, options.anchor_major, options.ahw);
    const int64_t height = raw ? logits.shape[2] : logits.shape[1];
    const int64_t width = raw ? logits.shape[3] : 1;
    check.fits_int32({anchors, height, width}, "cls_logits");
    const int64_t sizes[3] = {options.ahw ? anchors : height, options.ahw ? height : width,
                              options.ahw ? width : anchors};
    const int64_t flat_sizes[3] = {1, height, 1};
    for (int d = 0; d < 3; ++d) level.sizes[d] = static_cast<int>(raw ? sizes[d] : flat_sizes[d]);
    level.first_row = static_cast<int>(num_rows);
    level.num_rows = static_cast<int>(anchors * height * width);
    num_rows += level.num_rows;
    check.fits_int32({num_rows, num_columns}, "cls_logits");
  }
  const int64_t images = first.shape[0];
  check.boxes(default_boxes, "default_boxes", {num_rows, 4}, {DType::float32}, first);
  if (options.background >= num_columns) {
    check.value_error("spec.background", "a column below " + std::to_string(num_columns),
                      std::to_string(options.background));
  }
  check.threshold(options.score_threshold, "spec.score_threshold");
  check.threshold(options.iou_threshold, "spec.iou_threshold");
  check.boxes(out.boxes, "out.boxes", {images, options.keep_top_k, 4}, {DType::float32}, first);
  check.array(out.scores, "out.scores", {images, options.keep_top_k}, {DType::float32}, first);
  check.array(out.labels, "out.labels", {images, options.keep_top_k}, {DType::int64}, first);
  check.array(out.box_idxs, "out.box_idxs", {images, options.keep_top_k}, {DType::int64}, first);
  check.array(out.counts, "out.counts", {images}, {DType::int64}, first);
  check.array(workspace, "workspace", {kAny}, {DType::uint8}, first);
  check.at_least(workspace.shape[0], postprocess_workspace(first, num_rows, num_columns, options), "workspace");

  const auto exclusive = [](double threshold, bool inclusive) {  // x >= t is x > the float before t
    const auto value = static_cast<float>(threshold);
    if (!inclusive) return value;
    return value > 0 ? std::nextafter(value, -1.0f) : -1.0f;
  };
  task.num_levels = static_cast<int>(cls_logits.size());
  task.logits_dtype = first.dtype;
  task.deltas_dtype = bbox_regression[0].dtype;
  task.default_boxes = default_boxes.as<Box>();
  task.coder = make_box_coder(check, options.variances, options.log_scale_low, options.log_scale_high, options.yx);
  task.background = static_cast<int>(options.background);
  set_score_threshold(task, exclusive(options.score_threshold, options.score_inclusive));
  task.has_min_box_size = options.min_box_size.has_value();
  task.min_box_size = static_cast<float>(options.min_box_size.value_or(0.0));
  task.iou_threshold = iou_threshold(exclusive(options.iou_threshold, options.iou_inclusive));
  task.image_sizes = make_sizes(check, image_sizes, image_size, "image_sizes", first);
  task.original_sizes = make_sizes(check, original_sizes, original_size, "original_sizes", first);
  const bool rescales = original_sizes.has_value() || !original_size.empty();
  task.clip = static_cast<Stage>(options.clip);
  task.rescale = rescales ? static_cast<Stage>(options.rescale) : Stage::never;
  if ((task.clip != Stage::never || rescales) && !image_sizes.has_value() && image_size.empty()) {
    check.value_error("image_sizes",
                      rescales ? "sizes, since original_sizes are given" : "sizes, since spec.clip clips", "None");
  }
  task.boxes = out.boxes.as<Box>();
  task.scores = out.scores.as<float>();
  task.labels = out.labels.as<int64_t>();
  task.box_idxs = out.box_idxs.as<int64_t>();
  task.counts = out.counts.as<int64_t>();

  if (images == 0) return;
  dispatch(
      "postprocess", first, [&](auto...) { postprocess_cpu(task); },
      [&](auto stream) { postprocess_cuda(task, workspace.data, stream); });
}

}  // namespace ssd
