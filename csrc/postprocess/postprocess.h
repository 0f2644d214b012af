// postprocess: turns head outputs into padded detections by scores, threshold, top-k per class, decoding, clipping,
// greedy NMS per class, the best keep_top_k per image and rescaling; for a batch, without a sync. Source: Liu et al.
// 2016, section 2.2.
#pragma once

#include <optional>

#include "box_coder/box_coder.h"
#include "common/view.h"
#include "postprocess/head_outputs.h"
#include "postprocess/postprocess_task.h"
#include "postprocess/score_threshold.h"

namespace ssd {

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

// Checks and sets what decides how much memory a task needs, before any of it is allocated.
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

inline void check_options(const Checks& check, const PostprocessOptions& options, int64_t num_columns) {
  if (options.background >= num_columns) {
    check.value_error("spec.background", "a column below " + std::to_string(num_columns),
                      std::to_string(options.background));
  }
  check.threshold(options.score_threshold, "spec.score_threshold");
  check.threshold(options.iou_threshold, "spec.iou_threshold");
}

inline void check_outputs(const Checks& check, const PostprocessOutputs& out, int64_t images, int64_t keep_top_k,
                          const View& reference) {
  check.boxes(out.boxes, "out.boxes", {images, keep_top_k, 4}, {DType::float32}, reference);
  check.array(out.scores, "out.scores", {images, keep_top_k}, {DType::float32}, reference);
  check.array(out.labels, "out.labels", {images, keep_top_k}, {DType::int64}, reference);
  check.array(out.box_idxs, "out.box_idxs", {images, keep_top_k}, {DType::int64}, reference);
  check.array(out.counts, "out.counts", {images}, {DType::int64}, reference);
}

// Sets the options that set_problem leaves, apart from clip and rescale.
inline void set_options(const Checks& check, PostprocessTask& task, const PostprocessOptions& options) {
  task.coder = make_box_coder(check, options.variances, options.log_scale_low, options.log_scale_high, options.yx);
  task.background = static_cast<int>(options.background);
  set_score_threshold(task, exclusive_threshold(options.score_threshold, options.score_inclusive));
  task.has_min_box_size = options.min_box_size.has_value();
  task.min_box_size = static_cast<float>(options.min_box_size.value_or(0.0));
  task.iou_threshold = iou_threshold(exclusive_threshold(options.iou_threshold, options.iou_inclusive));
}

// The sizes of the network's inputs and of the original images: one for the batch, one per image, or neither.
struct ImageSizes {
  const std::optional<View>& image_sizes;
  const std::vector<double>& image_size;
  const std::optional<View>& original_sizes;
  const std::vector<double>& original_size;
};

// Sets the sizes, and the stages that need them.
inline void set_sizes(const Checks& check, PostprocessTask& task, const ImageSizes& sizes,
                      const PostprocessOptions& options, const View& reference) {
  task.image_sizes = make_sizes(check, sizes.image_sizes, sizes.image_size, "image_sizes", reference);
  task.original_sizes = make_sizes(check, sizes.original_sizes, sizes.original_size, "original_sizes", reference);
  const bool rescales = sizes.original_sizes.has_value() || !sizes.original_size.empty();
  task.clip = static_cast<Stage>(options.clip);
  task.rescale = rescales ? static_cast<Stage>(options.rescale) : Stage::never;
  const bool has_image_sizes = sizes.image_sizes.has_value() || !sizes.image_size.empty();
  if ((task.clip != Stage::never || rescales) && !has_image_sizes) {
    check.value_error("image_sizes",
                      rescales ? "sizes, since original_sizes are given" : "sizes, since spec.clip clips", "None");
  }
}

inline void set_outputs(PostprocessTask& task, const PostprocessOutputs& out) {
  task.boxes = out.boxes.as<Box>();
  task.scores = out.scores.as<float>();
  task.labels = out.labels.as<int64_t>();
  task.box_idxs = out.box_idxs.as<int64_t>();
  task.counts = out.counts.as<int64_t>();
}

// cls_logits and bbox_regression: as in HeadOutputs.
inline void postprocess(const std::vector<View>& cls_logits, const std::vector<View>& bbox_regression,
                        const View& default_boxes, int64_t num_columns, const PostprocessOptions& options,
                        const std::optional<View>& image_sizes, const std::vector<double>& image_size,
                        const std::optional<View>& original_sizes, const std::vector<double>& original_size,
                        const View& workspace, const PostprocessOutputs& out) {
  const Checks check("postprocess");
  const HeadOutputs heads{cls_logits, bbox_regression, num_columns, options.anchor_major, options.ahw};
  check_level_counts(check, heads);
  const View& first = cls_logits[0];
  const int64_t images = first.shape[0];
  PostprocessTask task{};
  set_problem(check, task, images, default_boxes.shape[0], num_columns, options);
  const int64_t num_rows = set_levels(check, task, heads);
  check.boxes(default_boxes, "default_boxes", {num_rows, 4}, {DType::float32}, first);
  task.default_boxes = default_boxes.as<Box>();
  check_options(check, options, num_columns);
  check_outputs(check, out, images, options.keep_top_k, first);
  check.array(workspace, "workspace", {kAny}, {DType::uint8}, first);
  check.at_least(workspace.shape[0], postprocess_workspace(first, num_rows, num_columns, options), "workspace");
  set_options(check, task, options);
  set_sizes(check, task, {image_sizes, image_size, original_sizes, original_size}, options, first);
  set_outputs(task, out);

  if (images == 0) return;
  dispatch(
      "postprocess", first, [&](auto...) { postprocess_cpu(task); },
      [&](auto stream) { postprocess_cuda(task, workspace.data, stream); });
}

}  // namespace ssd
