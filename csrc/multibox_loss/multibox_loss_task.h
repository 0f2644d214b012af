// multibox_loss: the task that the entry points take, and the steps on one row that every backend shares.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/box_math.h"
#include "common/dtype.h"
#include "common/ground_truth.h"
#include "common/ranking_key.h"
#include "common/stream.h"

namespace ssd {

enum class Classification { softmax, focal };
enum class Normalizer { positives, positives_per_image, sum_max_one };
enum Selected : uint8_t { kNotSelected = 0, kHardNegative = 1, kPositive = 2 };  // what a row contributes to the losses

struct LossTask {
  const void* logits;  // [N, P, C]
  const void* deltas;  // [N, P, 4]
  DType logits_dtype, deltas_dtype;
  const Box* gt_boxes;          // of all images, one after the other
  const int64_t* gt_labels;     // likewise: columns of the logits
  const int64_t* offsets;       // [N + 1]
  const int64_t* matched_idxs;  // [N, P]
  const Box* default_boxes;     // [P]
  int64_t num_images, num_gt;
  int num_rows, num_columns;  // P, C
  BoxCoder coder;
  int background;  // -1: none
  Classification classification;
  FocalLoss focal;  // for Classification::focal, which mines nothing
  float negatives_per_positive;
  int min_negatives;
  float beta;
  Normalizer normalizer_kind;

  float* row_max;  // [N, P], as are the next two; saved for the backward pass
  float* row_sum;  // (row_max and row_sum: not used by focal)
  uint8_t* selected;
  float* normalizer;  // [N]: the number that an image's rows are divided by
};

struct LossForward {
  LossTask task;
  float* losses;  // [2]: box regression, classification
};

struct LossBackward {
  LossTask task;
  const float* grad_losses;  // [2]
  void* grad_logits;         // of the logits' dtype
  void* grad_deltas;         // of the offsets' dtype
};

void multibox_loss_forward_cpu(const LossForward& forward);
void multibox_loss_forward_cuda(const LossForward& forward, void* workspace, Stream stream);
void multibox_loss_backward_cpu(const LossBackward& backward);
void multibox_loss_backward_cuda(const LossBackward& backward, Stream stream);
size_t multibox_loss_cuda_workspace(int64_t num_images, int64_t num_rows);

// ---- one row --------------------------------------------------------------------------------------------------------

struct RowTarget {
  Selected kind;  // kNotSelected: ignored; kHardNegative: may be mined
  int column;     // of the target class, -1: none
  int64_t gt;     // among all ground truths, for a positive
};

// The target of a row. Indices and labels in device memory cannot be checked without a sync: a row whose index or label
// is out of range counts as ignored.
SSD_HD RowTarget row_target(const LossTask& task, int64_t image, int row) {
  const int64_t matched = task.matched_idxs[image * task.num_rows + row];
  if (matched == kBackground) return {kHardNegative, task.background, -1};
  const GtRange range = gt_range(task.offsets, task.num_gt, image);
  if (matched < 0 || matched >= range.count) return {kNotSelected, 0, -1};
  const int64_t label = task.gt_labels[range.first + matched];
  if (label < 0 || label >= task.num_columns || label == task.background) return {kNotSelected, 0, -1};
  return {kPositive, static_cast<int>(label), range.first + matched};
}

// -log softmax of the target: not negative, so its bits order as it does. NaN where a logit is NaN.
SSD_HD float cross_entropy(float logit, float max, float sum) { return sub(log(sum), sub(logit, max)); }

// Ranks an image's negatives by cross-entropy: the largest is mined first, NaN before all; ties go to the lower row.
// Never 0 nor all ones.
SSD_HD uint64_t mining_key(float loss, int row) {
  const uint32_t rank = loss == loss ? float_to_bits(add(loss, 0.0f)) + 1 : 0xFFFFFFFEu;
  return ranking_key(rank, static_cast<uint32_t>(row));
}

// How many negatives an image with that many positives may have.
SSD_HD int64_t wanted_negatives(const LossTask& task, int num_positives) {
  if (task.normalizer_kind == Normalizer::positives_per_image && num_positives == 0) return 0;
  if (task.classification == Classification::focal) return task.num_rows;
  const auto by_ratio = static_cast<int64_t>(mul(task.negatives_per_positive, static_cast<float>(num_positives)));
  return max_of(by_ratio, static_cast<int64_t>(task.min_negatives));
}

SSD_HD float smooth_l1(float difference, float beta) {
  const float magnitude = difference < 0.0f ? -difference : difference;
  if (magnitude < beta) return div(mul(mul(0.5f, magnitude), magnitude), beta);
  return sub(magnitude, mul(0.5f, beta));
}
SSD_HD float smooth_l1_slope(float difference, float beta) {
  const float magnitude = difference < 0.0f ? -difference : difference;
  if (magnitude < beta) return div(difference, beta);
  if (difference == 0.0f) return 0.0f;                                       // beta 0: plain L1
  return difference < 0.0f ? -1.0f : difference > 0.0f ? 1.0f : difference;  // NaN stays NaN
}

// The predicted minus the wanted offsets of a positive row, in the coder's order.
SSD_HD void offset_differences(const LossTask& task, int64_t image, int row, int64_t gt, float differences[4]) {
  const Deltas target = encode(task.gt_boxes[gt], task.default_boxes[row], task.coder);
  const bool yx = task.coder.yx;
  const float wanted[4] = {yx ? target.y : target.x, yx ? target.x : target.y, yx ? target.h : target.w,
                           yx ? target.w : target.h};
  const int64_t offset = 4 * (image * task.num_rows + row);
  for (int i = 0; i < 4; ++i) {
    differences[i] = sub(load_as_float(task.deltas, task.deltas_dtype, offset + i), wanted[i]);
  }
}

SSD_HD float regression_loss(const LossTask& task, int64_t image, int row, int64_t gt) {
  float differences[4];
  offset_differences(task, image, row, gt, differences);
  float sum = 0.0f;
  for (int i = 0; i < 4; ++i) sum = add(sum, smooth_l1(differences[i], task.beta));
  return sum;
}

// ---- one image, and the batch ---------------------------------------------------------------------------------------

struct ImageSums {
  float regression, classification;
  int num_positives;
};

// An image's share of the batch's normalizer.
SSD_HD int normalizer_share(const LossTask& task, int num_positives) {
  return task.normalizer_kind == Normalizer::sum_max_one ? max_of(num_positives, 1) : num_positives;
}
// The number that an image's rows are divided by; `batch` is the sum of the shares, at least 1.
SSD_HD float image_normalizer(const LossTask& task, int num_positives, float batch) {
  if (task.normalizer_kind != Normalizer::positives_per_image) return batch;
  return mul(static_cast<float>(max_of(num_positives, 1)), static_cast<float>(task.num_images));
}
// An image's share of the sum over images, and the loss that this sum makes.
SSD_HD float loss_share(const LossTask& task, float image_sum, int64_t image) {
  return task.normalizer_kind == Normalizer::positives_per_image ? div(image_sum, task.normalizer[image]) : image_sum;
}
SSD_HD float total_loss(const LossTask& task, float sum, float batch) {
  return task.normalizer_kind == Normalizer::positives_per_image ? sum : div(sum, batch);
}

// ---- gradients ------------------------------------------------------------------------------------------------------

// The derivative of a row's cross-entropy: softmax minus one-hot.
SSD_HD float cross_entropy_slope(float logit, float max, float sum, bool is_target) {
  return sub(softmax_score(logit, max, sum), is_target ? 1.0f : 0.0f);
}

// The gradients of a row's offsets, which are 0 unless it is positive. `scale`: the upstream gradient over the
// normalizer.
SSD_HD void regression_gradients(const LossTask& task, int64_t image, int row, float scale, float gradients[4]) {
  for (int i = 0; i < 4; ++i) gradients[i] = 0.0f;
  if (task.selected[image * task.num_rows + row] != kPositive) return;
  const RowTarget target = row_target(task, image, row);
  if (target.kind != kPositive) return;  // the matches have changed since the forward pass
  float differences[4];
  offset_differences(task, image, row, target.gt, differences);
  for (int i = 0; i < 4; ++i) gradients[i] = mul(smooth_l1_slope(differences[i], task.beta), scale);
}

}  // namespace ssd
