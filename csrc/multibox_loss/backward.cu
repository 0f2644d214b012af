// The backward pass of multibox_loss in CUDA.
#include "common/cuda.cuh"
#include "multibox_loss/multibox_loss_launch.h"

namespace ssd {
namespace {

constexpr int kThreads = 256;
constexpr int kRows = 32;  // of a block

struct RowGradient {  // what every element of a row needs
  float max, sum, scale;
  int target;  // column; -1: the row is not selected
};

// grad_logits_kernel: softmax minus one-hot of the selected rows, times the upstream gradient over the normalizer,
// rounded once to the logits' dtype; 0 elsewhere.
// Block:   32 rows of image blockIdx.y, whose statistics are staged.
// Thread:  elements, 256 apart.
// Memory:  writes each gradient once, coalesced; reads logits of selected rows only.
// Order:   deterministic; no atomics.
template <typename T>
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
    rows[thread] = {task.row_max[first_place + thread], task.row_sum[first_place + thread],
                    div(backward.grad_losses[1], task.normalizer[image]),
                    selected ? row_target(task, image, first + thread).column : -1};
  }
  __syncthreads();
  const T* logits = static_cast<const T*>(task.logits) + first_place * task.num_columns;
  T* grads = static_cast<T*>(backward.grad_logits) + first_place * task.num_columns;
  for (int i = thread; i < count * task.num_columns; i += kThreads) {
    const RowGradient row = rows[i / task.num_columns];
    float gradient = 0.0f;
    if (row.target >= 0) {
      const bool is_target = i % task.num_columns == row.target;
      gradient = mul(logit_slope(to_float(logits[i]), row.max, row.sum, is_target), row.scale);
    }
    store(grads + i, gradient);
  }
}

// grad_deltas_kernel: the slope of smooth L1 at the positives, times the upstream gradient over the normalizer.
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
    launch(grad_logits_kernel<decltype(zero)>, dim3(ceil_div(task.num_rows, kRows), images), dim3(kThreads), 0, stream,
           backward);
  });
  visit_logit_type(task.deltas_dtype, [&](auto zero) {
    launch(grad_deltas_kernel<decltype(zero)>, dim3(ceil_div(task.num_rows, kThreads), images), dim3(kThreads), 0,
           stream, backward);
  });
}

}  // namespace ssd
