// box_iou in CUDA.
#include <algorithm>

#include "box_iou/box_iou_task.h"
#include "common/cuda.cuh"

namespace ssd {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMaxGridY = 65535;

// box_iou_kernel: computes ious[i][j] for every pair of boxes.
// Block:   256 columns of the rows blockIdx.y, blockIdx.y + gridDim.y, ...
// Thread:  one column; its box and area stay in registers.
// Memory:  reads each box2 once per row of blocks, and one broadcast box1 per row; writes coalesced.
// Order:   deterministic; no atomics.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    box_iou_kernel(const BoxOf<T>* boxes1, int64_t n, const BoxOf<T>* boxes2, int64_t m, T* ious) {
  const int64_t j = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (j >= m) return;
  const BoxOf<T> box = boxes2[j];
  const T box_area = area(box);
  for (int64_t i = blockIdx.y; i < n; i += gridDim.y) {
    const BoxOf<T> other = boxes1[i];
    ious[i * m + j] = iou(other, area(other), box, box_area);
  }
}

template <typename T>
void launch_box_iou(const BoxOf<T>* boxes1, int64_t n, const BoxOf<T>* boxes2, int64_t m, T* ious, Stream stream) {
  const DeviceGuard guard(stream);
  const dim3 grid(static_cast<unsigned>(ceil_div(m, int64_t{kThreads})), static_cast<unsigned>(std::min(n, kMaxGridY)));
  launch(box_iou_kernel<T>, grid, dim3(kThreads), 0, stream, boxes1, n, boxes2, m, ious);
}

}  // namespace

void box_iou_cuda(const BoxOf<float>* boxes1, int64_t n, const BoxOf<float>* boxes2, int64_t m, float* ious,
                  Stream stream) {
  launch_box_iou(boxes1, n, boxes2, m, ious, stream);
}
void box_iou_cuda(const BoxOf<double>* boxes1, int64_t n, const BoxOf<double>* boxes2, int64_t m, double* ious,
                  Stream stream) {
  launch_box_iou(boxes1, n, boxes2, m, ious, stream);
}

}  // namespace ssd
