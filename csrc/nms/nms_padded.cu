// nms_padded in CUDA: a block a problem.
#include "nms/greedy.cuh"
#include "nms/nms_launch.h"
#include "nms/score_key.h"

namespace ssd {
namespace {

// nms_padded_kernel: the kept indices of one (image, class), best first, padded with -1.
// Block:   one problem: a grid holds 2^31 - 1, whose scores alone fill a GPU.
// Memory:  reads the scores once a radix-select pass (1 to 8), and the boxes that it takes; scratch: the kept boxes.
// Order:   deterministic: keys are distinct, so the order in which atomics arrive does not matter.
__global__ void __launch_bounds__(kSegmentThreads)
    nms_padded_kernel(const __grid_constant__ NmsPaddedTask task, Box* kept_boxes) {
  SSD_SHARED(shared, SegmentShared);
  const int64_t problem = blockIdx.x;
  const float* scores = task.scores + problem * task.n;
  const Box* boxes = task.boxes + problem / task.segments_per_image * task.n;
  int64_t* kept = task.kept + problem * task.max_output;
  const auto key_at = [&](int i) {
    const uint32_t key = score_key(scores[i]);
    return key == 0 ? uint64_t{0} : static_cast<uint64_t>(key) << 32 | ~static_cast<uint32_t>(i);
  };
  const auto index_of = [](uint64_t key) { return static_cast<int>(~static_cast<uint32_t>(key)); };
  const int n = static_cast<int>(task.n);
  const auto load = [&](uint64_t key) { return boxes[index_of(key)]; };
  const int num_kept = segment_nms(
      key_at, n, static_cast<int>(task.max_output), iou_threshold(task.iou_threshold), load,
      [&](int rank, uint64_t key) { kept[rank] = index_of(key); }, kept_boxes + problem * task.max_output, shared);
  for (int64_t i = num_kept + threadIdx.x; i < task.max_output; i += kSegmentThreads) kept[i] = -1;
  if (threadIdx.x == 0) task.counts[problem] = num_kept;
}

}  // namespace

size_t nms_padded_cuda_workspace(int64_t segments, int64_t max_output) {
  return static_cast<size_t>(segments) * static_cast<size_t>(max_output < 0 ? 0 : max_output) * sizeof(Box);
}

void nms_padded_cuda(const NmsPaddedTask& task, void* workspace, Stream stream) {
  const DeviceGuard guard(stream);
  const auto blocks = static_cast<unsigned>(task.images * task.segments_per_image);
  launch(nms_padded_kernel, dim3(blocks), dim3(kSegmentThreads), 0, stream, task, static_cast<Box*>(workspace));
}

}  // namespace ssd
