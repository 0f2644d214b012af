// The second stage of postprocess in CUDA: of each segment of each image the top-k candidates, decoded, through NMS.
#include "nms/greedy.cuh"
#include "postprocess/stages.cuh"

namespace ssd {
namespace {

// segment_nms_kernel: what NMS keeps of a segment, best first.
// Block:   segment blockIdx.x of image blockIdx.y; most have no candidate and end at once.
// Memory:  reads the segment's list, or one column of the logits and what was kept of the rows where the list
//          overflowed; the offsets and default boxes of its top-k.
// Order:   deterministic: keys are distinct.
template <typename T>
__global__ void __launch_bounds__(kSegmentThreads)
    segment_nms_kernel(const __grid_constant__ PostprocessTask task,
                       const __grid_constant__ PostprocessWorkspace workspace) {
  SSD_SHARED(shared, SegmentShared);
  const int64_t image = blockIdx.y;
  const int of_image = static_cast<int>(blockIdx.x);
  const int64_t segment = image * task.num_segments() + of_image;
  const int size = workspace.list_sizes[segment];
  uint64_t* kept_keys = workspace.kept_keys + segment * workspace.kept_capacity;
  Box* kept_boxes = workspace.kept_boxes + segment * workspace.kept_capacity;

  const bool listed = size <= workspace.list_capacity;
  const uint64_t* list = workspace.lists + segment * workspace.list_capacity;
  const uint64_t* least_keys = workspace.least_keys + image * kMaxHeadLevels;
  const auto source = [&](int i) {
    const uint64_t key = listed ? list[i] : rescan_row<T>(task, workspace, image, i, of_image);
    if (task.top_k_scope == TopKScope::segment || key == 0) return key;
    return key >= least_keys[task.scope_of(row_of(task, key))] ? key : 0;
  };
  const auto load = [&](uint64_t key, Box& box) {
    box = decode_candidate(task, image, row_of(task, key));
    return enters_nms(task, box);
  };
  int num_kept = 0;
  if (size > 0) {
    num_kept = segment_nms(
        source, listed ? size : task.num_rows, task.segment_top_k(), workspace.kept_capacity, task.iou_threshold.value,
        load, [&](int rank, uint64_t key) { kept_keys[rank] = key; }, kept_boxes, shared);
  }
  if (threadIdx.x == 0) workspace.kept_sizes[segment] = num_kept;
}

}  // namespace

void segment_nms_stage(const PostprocessTask& task, const PostprocessWorkspace& workspace, Stream stream) {
  visit_logit_type(task.logits_dtype, [&](auto zero) {
    launch(segment_nms_kernel<decltype(zero)>,
           dim3(static_cast<unsigned>(task.num_segments()), static_cast<unsigned>(task.num_images)),
           dim3(kSegmentThreads), 0, stream, task, workspace);
  });
}

}  // namespace ssd
