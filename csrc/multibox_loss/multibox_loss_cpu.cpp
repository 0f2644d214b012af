// The forward pass of multibox_loss on the CPU: row losses in parallel over tiles of rows, mining and sums over images.
#include <algorithm>

#include "common/parallel.h"
#include "common/simd.h"
#include "common/tree_sum.h"
#include "common/vector.h"
#include "multibox_loss/multibox_loss_task.h"

namespace ssd {
namespace {

constexpr int kLanes = 16;  // rows whose losses are computed side by side
constexpr int64_t kGrain = 512;

// Max and sum of 16 rows at once; tile: [columns, 16]. Each row adds its columns in ascending order.
SSD_CLONES void lane_statistics(const float* tile, int columns, float* max, float* sum) {
  for (int lane = 0; lane < kLanes; ++lane) {
    max[lane] = tile[lane];
    sum[lane] = 0.0f;
  }
  for (int c = 1; c < columns; ++c) {
    for (int lane = 0; lane < kLanes; ++lane) max[lane] = max_of(max[lane], tile[c * kLanes + lane]);
  }
  for (int c = 0; c < columns; ++c) {
    for (int lane = 0; lane < kLanes; ++lane) {
      sum[lane] = add(sum[lane], softmax_term(tile[c * kLanes + lane], max[lane]));
    }
  }
}

SSD_CLONES void cross_entropies(const float* logits, const float* max, const float* sum, float* losses) {
  for (int lane = 0; lane < kLanes; ++lane) losses[lane] = cross_entropy(logits[lane], max[lane], sum[lane]);
}

// Focal losses of 16 rows at once. Each row adds its columns in ascending order.
SSD_CLONES void focal_losses(const FocalLoss focal, const float* tile, int columns, const int* targets, float* losses) {
  for (int lane = 0; lane < kLanes; ++lane) losses[lane] = 0.0f;
  for (int c = 0; c < columns; ++c) {
    for (int lane = 0; lane < kLanes; ++lane) {
      losses[lane] = add(losses[lane], focal_loss(tile[c * kLanes + lane], c == targets[lane], focal));
    }
  }
}

// Cross-entropies of 16 rows at once; also their statistics, for the backward pass.
void softmax_losses(const float* tile, int columns, const int* targets, float* max, float* sum, float* losses) {
  float target_logits[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) target_logits[lane] = tile[targets[lane] * kLanes + lane];
  lane_statistics(tile, columns, max, sum);
  cross_entropies(target_logits, max, sum, losses);
}

struct RowLosses {
  Vector<float> classification, regression;  // [N, P]
};

// Computes the losses of rows [begin, end) of N * P, as if they were selected.
template <typename T>
void row_losses(const LossTask& task, int64_t begin, int64_t end, RowLosses& losses) {
  const int columns = task.num_columns;
  Vector<float> tile(static_cast<size_t>(columns) * kLanes);
  for (int64_t first = begin; first < end; first += kLanes) {
    const int count = static_cast<int>(std::min<int64_t>(kLanes, end - first));
    const T* logits = static_cast<const T*>(task.logits) + first * columns;
    for (int lane = 0; lane < kLanes; ++lane) {  // lanes past the end repeat the last row
      const T* row = logits + static_cast<int64_t>(std::min(lane, count - 1)) * columns;
      for (int c = 0; c < columns; ++c) tile[c * kLanes + lane] = to_float(row[c]);
    }
    int targets[kLanes] = {};
    for (int lane = 0; lane < count; ++lane) {
      const int64_t place = first + lane;
      const int64_t image = place / task.num_rows;
      const int row = static_cast<int>(place % task.num_rows);
      const RowTarget target = row_target(task, image, row);
      targets[lane] = target.column;
      task.selected[place] = target.kind;
      losses.regression[place] = target.kind == kPositive ? regression_loss(task, image, row, target.gt) : 0.0f;
    }
    float classification[kLanes];
    if (task.classification == Classification::focal) {
      focal_losses(task.focal, tile.data(), columns, targets, classification);
    } else {
      float max[kLanes], sum[kLanes];
      softmax_losses(tile.data(), columns, targets, max, sum, classification);
      std::copy_n(max, count, task.row_max + first);
      std::copy_n(sum, count, task.row_sum + first);
    }
    std::copy_n(classification, count, losses.classification.begin() + first);
    poll_interrupt(int64_t{kLanes} * columns);
  }
}

// Keeps the hardest of an image's negatives.
void mine(const LossTask& task, int num_positives, const float* classification, uint8_t* selected) {
  const auto wanted = static_cast<size_t>(wanted_negatives(task, num_positives));
  if (wanted >= static_cast<size_t>(task.num_rows)) return;
  Vector<uint64_t> keys;
  for (int row = 0; row < task.num_rows; ++row) {
    if (selected[row] == kHardNegative) keys.push_back(mining_key(classification[row], row));
  }
  if (wanted >= keys.size()) return;
  std::nth_element(keys.begin(), keys.begin() + wanted, keys.end(), [](uint64_t a, uint64_t b) { return a > b; });
  const uint64_t best_left_out = keys[wanted];
  for (int row = 0; row < task.num_rows; ++row) {
    const bool out = selected[row] == kHardNegative && mining_key(classification[row], row) <= best_left_out;
    if (out) selected[row] = kNotSelected;
  }
}

ImageSums sum_image(const LossTask& task, int64_t image, const RowLosses& losses) {
  const int64_t first = image * task.num_rows;
  uint8_t* selected = task.selected + first;
  const float* classification = losses.classification.data() + first;
  const auto num_positives = static_cast<int>(std::count(selected, selected + task.num_rows, kPositive));
  mine(task, num_positives, classification, selected);
  const auto chosen = [&](int64_t row) { return selected[row] == kNotSelected ? 0.0f : classification[row]; };
  const auto regression = [&](int64_t row) { return losses.regression[first + row]; };
  return {tree_sum(regression, task.num_rows), tree_sum(chosen, task.num_rows), num_positives};
}

}  // namespace

void multibox_loss_forward_cpu(const LossForward& forward) {
  const LossTask& task = forward.task;
  const int64_t total = task.num_images * task.num_rows;
  RowLosses losses{Vector<float>(total), Vector<float>(total)};
  visit_logit_type(task.logits_dtype, [&](auto zero) {
    parallel_for(total, kGrain,
                 [&](int64_t begin, int64_t end) { row_losses<decltype(zero)>(task, begin, end, losses); });
  });
  Vector<ImageSums> images(task.num_images);
  parallel_for(task.num_images, 1, [&](int64_t begin, int64_t end) {
    for (int64_t image = begin; image < end; ++image) {
      images[image] = sum_image(task, image, losses);
      poll_interrupt(task.num_rows);
    }
  });

  int64_t shares = 0;
  for (const ImageSums& image : images) shares += normalizer_share(task, image.num_positives);
  const auto batch = static_cast<float>(std::max<int64_t>(shares, 1));
  for (int64_t i = 0; i < task.num_images; ++i) {
    task.normalizer[i] = image_normalizer(task, images[i].num_positives, batch);
  }
  const auto regression = [&](int64_t i) { return loss_share(task, images[i].regression, i); };
  const auto classification = [&](int64_t i) { return loss_share(task, images[i].classification, i); };
  forward.losses[0] = total_loss(task, tree_sum(regression, task.num_images), batch);
  forward.losses[1] = total_loss(task, tree_sum(classification, task.num_images), batch);
}

}  // namespace ssd
