// The backward pass of multibox_loss on the CPU: gradients in parallel over rows.
#include <algorithm>

#include "common/parallel.h"
#include "common/simd.h"
#include "common/vector.h"
#include "multibox_loss/multibox_loss_task.h"

namespace ssd {
namespace {

constexpr int kLanes = 16;  // columns that are computed side by side
constexpr int64_t kGrain = 512;

SSD_CLONES void softmax_gradients(int columns, const float* logits, float max, float sum, int target, float scale,
                                  float* gradients) {
  for (int c = 0; c < columns; ++c) {
    gradients[c] = mul(cross_entropy_slope(logits[c], max, sum, c == target), scale);
  }
}

SSD_CLONES void focal_gradients(const FocalLoss focal, int columns, const float* logits, int target, float scale,
                                float* gradients) {
  for (int c = 0; c < columns; ++c) gradients[c] = mul(focal_slope(logits[c], c == target, focal), scale);
}

template <typename T>
void logit_gradients(const LossBackward& backward, int64_t begin, int64_t end) {
  const LossTask& task = backward.task;
  const int columns = task.num_columns;
  // Whole vectors, the last one padded with zeros: a remainder would be computed element by element.
  const int padded = (columns + kLanes - 1) / kLanes * kLanes;
  Vector<float> logits(padded), gradients(padded);
  for (int64_t place = begin; place < end; ++place) {
    T* out = static_cast<T*>(backward.grad_logits) + place * columns;
    const int64_t image = place / task.num_rows;
    if (task.selected[place] == kNotSelected) {
      std::fill(out, out + columns, T{});  // zero bits are 0 in each of the types
      continue;
    }
    const T* row = static_cast<const T*>(task.logits) + place * columns;
    for (int c = 0; c < columns; ++c) logits[c] = to_float(row[c]);
    const int target = row_target(task, image, static_cast<int>(place % task.num_rows)).column;
    const float scale = div(backward.grad_losses[1], task.normalizer[image]);
    if (task.classification == Classification::focal) {
      focal_gradients(task.focal, padded, logits.data(), target, scale, gradients.data());
    } else {
      softmax_gradients(padded, logits.data(), task.row_max[place], task.row_sum[place], target, scale,
                        gradients.data());
    }
    for (int c = 0; c < columns; ++c) store(out + c, gradients[c]);
  }
}

template <typename T>
void offset_gradients(const LossBackward& backward, int64_t begin, int64_t end) {
  const LossTask& task = backward.task;
  for (int64_t place = begin; place < end; ++place) {
    const int64_t image = place / task.num_rows;
    float gradients[4];
    regression_gradients(task, image, static_cast<int>(place % task.num_rows),
                         div(backward.grad_losses[0], task.normalizer[image]), gradients);
    for (int i = 0; i < 4; ++i) store(static_cast<T*>(backward.grad_deltas) + 4 * place + i, gradients[i]);
  }
}

}  // namespace

void multibox_loss_backward_cpu(const LossBackward& backward) {
  const int64_t total = backward.task.num_images * backward.task.num_rows;
  visit_logit_type(backward.task.logits_dtype, [&](auto zero) {
    parallel_for_parts(total, kGrain, backward.task.num_columns,
                       [&](int64_t begin, int64_t end) { logit_gradients<decltype(zero)>(backward, begin, end); });
  });
  visit_logit_type(backward.task.deltas_dtype, [&](auto zero) {
    parallel_for_parts(total, kGrain, 4,
                       [&](int64_t begin, int64_t end) { offset_gradients<decltype(zero)>(backward, begin, end); });
  });
}

}  // namespace ssd
