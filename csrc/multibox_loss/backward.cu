// The backward pass of multibox_loss in CUDA.
#include "common/cuda.cuh"
#include "multibox_loss/multibox_loss_task.h"

namespace ssd {
namespace {

constexpr int kThreads = 256;
constexpr int kRows = 32;        // per block
constexpr int kUnselected = -2;  // in the place of a target column, or of -1 for none

struct RowGradient {      // what the gradient of every element of a row needs
  float max, sum, scale;  // max and sum are a softmax's
  int target;             // column, or kUnselected
};

// grad_logits_kernel: writes the slopes of the selected rows' losses, times the upstream gradient over the normalizer,
// rounded once to the logits' dtype; 0 elsewhere.
// Block:   32 rows of image blockIdx.y, whose statistics are staged.
// Thread:  elements, 256 apart.
// Memory:  writes each gradient once, coalesced; reads logits of selected rows only.
// Order:   deterministic; no atomics.
template <typename T, bool Focal>
__global__ void __launch_bounds__(kThreads) grad_logits_kernel(const __grid_constant__ LossBackward backward) {
  SSD_SHARED(rows, RowGradient[kRows]);
  const LossTask& task = backward.task;
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t image = blockIdx.y;
  const int first = static_cast<int>(blockIdx.x) * kRows;
  const int count = min(kRows, task.num_rows - first);
  const int64_t first_place = image * task.num_rows + first;
  if (thread < count) {
    const bool selected = task.selected[first_place + thread] != kNotSelected;
    rows[thread] = {Focal ? 0.0f : task.row_max[first_place + thread],
                    Focal ? 0.0f : task.row_sum[first_place + thread],
                    div(backward.grad_losses[1], task.normalizer[image]),
                    selected ? row_target(task, image, first + thread).column : kUnselected};
  }
  __syncthreads();
  const T* logits = static_cast<const T*>(task.logits) + first_place * task.num_columns;
  T* grads = static_cast<T*>(backward.grad_logits) + first_place * task.num_columns;
  for (int i = thread; i < count * task.num_columns; i += kThreads) {
    const RowGradient row = rows[i / task.num_columns];
    float gradient = 0.0f;
    if (row.target != kUnselected) {
      const bool is_target = i % task.num_columns == row.target;
      const float logit = to_float(logits[i]);
      const float slope =
          Focal ? focal_slope(logit, is_target, task.focal) : cross_entropy_slope(logit, row.max, row.sum, is_target);
      gradient = mul(slope, row.scale);
    }
    store(grads + i, gradient);
  }
}

// grad_deltas_kernel: writes the slopes of the positives' smooth L1, times the upstream gradient over the normalizer; 0
// elsewhere.
// Thread:  one row of image blockIdx.y.
// Order:   deterministic; no atomics.
template <typename T>
__global__ void __launch_bounds__(kThreads) grad_deltas_kernel(const __grid_constant__ LossBackward backward) {
  const LossTask& task = backward.task;
  const int64_t image = blockIdx.y;
  const int row = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  if (row >= task.num_rows) return;
  const int64_t place = image * task.num_rows + row;
  float gradients[4];
  regression_gradients(task, image, row, div(backward.grad_losses[0], task.normalizer[image]), gradients);
  for (int i = 0; i < 4; ++i) store(static_cast<T*>(backward.grad_deltas) + 4 * place + i, gradients[i]);
}

}  // namespace

void multibox_loss_backward_cuda(const LossBackward& backward, Stream stream) {
  const DeviceGuard guard(stream);
  const LossTask& task = backward.task;
  const auto images = static_cast<unsigned>(task.num_images);
  visit_logit_type(task.logits_dtype, [&](auto zero) {
    using T = decltype(zero);
    const bool focal = task.classification == Classification::focal;
    launch(focal ? grad_logits_kernel<T, true> : grad_logits_kernel<T, false>,
           dim3(ceil_div(task.num_rows, kRows), images), dim3(kThreads), 0, stream, backward);
  });
  visit_logit_type(task.deltas_dtype, [&](auto zero) {
    launch(grad_deltas_kernel<decltype(zero)>, dim3(ceil_div(task.num_rows, kThreads), images), dim3(kThreads), 0,
           stream, backward);
  });
}

}  // namespace ssd
