// multibox_loss: cross-entropy of the positives and the hardest negatives, or sigmoid focal loss of all rows; smooth L1
// of the positives; forward and backward. Source: Liu et al. 2016, section 2.2 (training objective, hard negative
// mining); Lin et al. 2017, section 3 (focal loss).
#pragma once

#include <optional>

#include "box_coder/box_coder.h"
#include "common/view.h"
#include "multibox_loss/multibox_loss_task.h"

namespace ssd {

// The numbers of a LossSpec, which has checked them, and of a BoxCoderSpec.
struct LossOptions {
  std::optional<int64_t> background;  // -1: the last column; none: only with Classification::focal
  int64_t classification;             // Classification
  double target_weight, other_weight, gamma;
  double negatives_per_positive;
  int64_t min_negatives;
  double beta;
  int64_t normalizer;  // Normalizer
  std::vector<float> variances;
  bool yx;
};

struct LossInputs {
  const View &cls_logits, &bbox_regression, &gt_boxes, &gt_labels, &offsets, &matched_idxs, &default_boxes;
};

inline LossTask make_loss_task(const Checks& check, const LossInputs& in, const LossOptions& options,
                               const View& row_max, const View& row_sum, const View& selected, const View& normalizer) {
  const std::vector<DType> logit_types = {DType::float32, DType::float16, DType::bfloat16};
  check.array(in.cls_logits, "cls_logits", {kAny, kAny, kAny}, logit_types, in.cls_logits);
  const int64_t images = in.cls_logits.shape[0];
  const int64_t rows = in.cls_logits.shape[1];
  const int64_t columns = in.cls_logits.shape[2];
  const int64_t least_columns = options.background.has_value() ? 2 : 1;
  if (columns < least_columns) {
    const std::string expected = least_columns == 1 ? "at least 1 column" : "at least 2 columns";
    check.value_error("cls_logits", expected, std::to_string(columns));
  }
  if (images > 65535) check.value_error("cls_logits", "at most 65535 images", std::to_string(images));
  if (rows > 1 << 20) check.value_error("cls_logits", "at most 1048576 default boxes", std::to_string(rows));
  check.fits_int32({rows, columns}, "cls_logits");
  check.array(in.bbox_regression, "bbox_regression", {images, rows, 4}, logit_types, in.cls_logits);
  check.boxes(in.gt_boxes, "gt_boxes", {kAny, 4}, {DType::float32}, in.cls_logits);
  check.array(in.gt_labels, "gt_labels", {in.gt_boxes.shape[0]}, {DType::int64}, in.cls_logits);
  check.array(in.offsets, "gt_boxes.offsets", {images + 1}, {DType::int64}, in.cls_logits);
  check.array(in.matched_idxs, "matched_idxs", {images, rows}, {DType::int64}, in.cls_logits);
  check.boxes(in.default_boxes, "default_boxes", {rows, 4}, {DType::float32}, in.cls_logits);
  const int64_t background = options.background == -1 ? columns - 1 : options.background.value_or(-1);
  if (options.background.has_value() && (background < 0 || background >= columns)) {
    check.value_error("loss.background", "a column below " + std::to_string(columns), std::to_string(background));
  }
  const auto classification = static_cast<Classification>(options.classification);
  const int64_t statistics = classification == Classification::softmax ? rows : 0;
  check.array(row_max, "row_max", {images, statistics}, {DType::float32}, in.cls_logits);
  check.array(row_sum, "row_sum", {images, statistics}, {DType::float32}, in.cls_logits);
  check.array(selected, "selected", {images, rows}, {DType::uint8}, in.cls_logits);
  check.array(normalizer, "normalizer", {images}, {DType::float32}, in.cls_logits);

  LossTask task{};
  task.logits = in.cls_logits.data;
  task.deltas = in.bbox_regression.data;
  task.logits_dtype = in.cls_logits.dtype;
  task.deltas_dtype = in.bbox_regression.dtype;
  task.gt_boxes = in.gt_boxes.as<Box>();
  task.gt_labels = in.gt_labels.as<int64_t>();
  task.offsets = in.offsets.as<int64_t>();
  task.matched_idxs = in.matched_idxs.as<int64_t>();
  task.default_boxes = in.default_boxes.as<Box>();
  task.num_images = images;
  task.num_gt = in.gt_boxes.shape[0];
  task.num_rows = static_cast<int>(rows);
  task.num_columns = static_cast<int>(columns);
  task.coder = make_box_coder(check, options.variances, 0.0f, 0.0f, options.yx);
  task.background = static_cast<int>(background);
  task.classification = classification;
  task.focal = {static_cast<float>(options.gamma), static_cast<float>(options.target_weight),
                static_cast<float>(options.other_weight)};
  task.negatives_per_positive = static_cast<float>(options.negatives_per_positive);
  task.min_negatives = static_cast<int>(std::min(options.min_negatives, rows));  // there are no more
  task.beta = static_cast<float>(options.beta);
  task.normalizer_kind = static_cast<Normalizer>(options.normalizer);
  task.row_max = row_max.as<float>();
  task.row_sum = row_sum.as<float>();
  task.selected = selected.as<uint8_t>();
  task.normalizer = normalizer.as<float>();
  return task;
}

inline int64_t multibox_loss_workspace(const View& cls_logits) {
  int64_t bytes = 0;
  if (cls_logits.ndim != 3) return bytes;
  dispatch(
      "multibox_loss", cls_logits, [](auto...) {},
      [&](auto) {
        bytes = static_cast<int64_t>(multibox_loss_cuda_workspace(cls_logits.shape[0], cls_logits.shape[1]));
      });
  return bytes;
}

// losses: [2], box regression and classification. row_max, row_sum, selected and normalizer are saved for the backward
// pass; the first two are a softmax's, and [N, 0] for the focal loss.
inline void multibox_loss_forward(const View& cls_logits, const View& bbox_regression, const View& gt_boxes,
                                  const View& gt_labels, const View& offsets, const View& matched_idxs,
                                  const View& default_boxes, const LossOptions& options, const View& workspace,
                                  const View& losses, const View& row_max, const View& row_sum, const View& selected,
                                  const View& normalizer) {
  const Checks check("multibox_loss");
  const LossForward forward{
      make_loss_task(check, {cls_logits, bbox_regression, gt_boxes, gt_labels, offsets, matched_idxs, default_boxes},
                     options, row_max, row_sum, selected, normalizer),
      losses.as<float>()};
  check.array(losses, "losses", {2}, {DType::float32}, cls_logits);
  check.array(workspace, "workspace", {kAny}, {DType::uint8}, cls_logits);
  check.at_least(workspace.shape[0], multibox_loss_workspace(cls_logits), "workspace");
  dispatch(
      "multibox_loss", cls_logits, [&](auto...) { multibox_loss_forward_cpu(forward); },
      [&](auto stream) { multibox_loss_forward_cuda(forward, workspace.data, stream); });
}

// The gradients of the two losses, each times its upstream gradient, in the dtypes of the inputs.
inline void multibox_loss_backward(const View& grad_losses, const View& cls_logits, const View& bbox_regression,
                                   const View& gt_boxes, const View& gt_labels, const View& offsets,
                                   const View& matched_idxs, const View& default_boxes, const LossOptions& options,
                                   const View& row_max, const View& row_sum, const View& selected,
                                   const View& normalizer, const View& grad_logits, const View& grad_regression) {
  const Checks check("multibox_loss backward");
  const LossBackward backward{
      make_loss_task(check, {cls_logits, bbox_regression, gt_boxes, gt_labels, offsets, matched_idxs, default_boxes},
                     options, row_max, row_sum, selected, normalizer),
      grad_losses.as<float>(), grad_logits.data, grad_regression.data};
  check.array(grad_losses, "grad_losses", {2}, {DType::float32}, cls_logits);
  const auto like = [&](const View& view, const char* name, const View& input) {
    check.array(view, name, {input.shape, input.shape + input.ndim}, {input.dtype}, cls_logits);
  };
  like(grad_logits, "grad_logits", cls_logits);
  like(grad_regression, "grad_regression", bbox_regression);
  if (cls_logits.size() == 0) return;
  dispatch(
      "multibox_loss", cls_logits, [&](auto...) { multibox_loss_backward_cpu(backward); },
      [&](auto stream) { multibox_loss_backward_cuda(backward, stream); });
}

}  // namespace ssd
