// default_boxes in CUDA.
#include "common/cuda.cuh"
#include "default_boxes/default_boxes_task.h"

namespace ssd {
namespace {

constexpr int kThreads = 256;

// default_boxes_kernel: computes every default box.
// Thread:  one box.
// Memory:  writes 16 B per thread, coalesced; the parameters come in constant memory.
// Order:   deterministic; no atomics.
__global__ void __launch_bounds__(kThreads)
    default_boxes_kernel(const __grid_constant__ DefaultBoxParams params, Box* boxes) {
  const int row = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  if (row < params.num_rows) boxes[row] = default_box_at(params, row);
}

}  // namespace

void default_boxes_cuda(const DefaultBoxParams& params, Box* boxes, Stream stream) {
  const DeviceGuard guard(stream);
  launch(default_boxes_kernel, dim3(ceil_div(params.num_rows, kThreads)), dim3(kThreads), 0, stream, params, boxes);
}

}  // namespace ssd
