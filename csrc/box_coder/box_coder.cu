// encode_boxes and decode_boxes in CUDA.
#include "box_coder/box_coder_task.h"
#include "common/cuda.cuh"

namespace ssd {
namespace {

constexpr int kThreads = 256;

// decode_kernel: decodes deltas[row] to boxes[row]; encode_kernel does the inverse.
// Thread:  one row: reads 4 offsets (or a box) and a default box, which images share and the cache keeps.
// Memory:  reads and writes coalesced, 16 B per thread (8 B for 16-bit offsets).
// Order:   deterministic; no atomics.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    decode_kernel(const __grid_constant__ BoxCoderTask task, const T* deltas, Box* boxes) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (row < task.num_rows) boxes[row] = decode_row(task, deltas, row);
}

__global__ void __launch_bounds__(kThreads)
    encode_kernel(const __grid_constant__ BoxCoderTask task, const Box* boxes, float* deltas) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (row < task.num_rows) encode_row(task, boxes, deltas, row);
}

dim3 grid_of(const BoxCoderTask& task) {
  return dim3(static_cast<unsigned>(ceil_div(task.num_rows, int64_t{kThreads})));
}

}  // namespace

void decode_boxes_cuda(const BoxCoderTask& task, const void* deltas, DType dtype, Box* boxes, Stream stream) {
  const DeviceGuard guard(stream);
  visit_logit_type(dtype, [&](auto zero) {
    using T = decltype(zero);
    launch(decode_kernel<T>, grid_of(task), dim3(kThreads), 0, stream, task, static_cast<const T*>(deltas), boxes);
  });
}

void encode_boxes_cuda(const BoxCoderTask& task, const Box* boxes, float* deltas, Stream stream) {
  const DeviceGuard guard(stream);
  launch(encode_kernel, grid_of(task), dim3(kThreads), 0, stream, task, boxes, deltas);
}

}  // namespace ssd
