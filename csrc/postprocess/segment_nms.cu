// The second stage of postprocess in CUDA: of each class of each image the top-k candidates, decoded, through NMS.
#include "nms/greedy.cuh"
#include "postprocess/stages.cuh"

namespace ssd {
namespace {

// segment_nms_kernel: what NMS keeps of a segment, best first.
// Block:   class blockIdx.x of image blockIdx.y; most have no candidate and end at once.
// Memory:  reads the segment's list, or one column of the logits and the rows' statistics where the list overflowed;
//          the offsets and default boxes of its top-k.
// Order:   deterministic: keys are distinct.
template <typename T>
__global__ void __launch_bounds__(kSegmentThreads)
    segment_nms_kernel(const __grid_constant__ PostprocessTask task,
                       const __grid_constant__ PostprocessWorkspace workspace) {
  SSD_SHARED(shared, SegmentShared);
  const int column = static_cast<int>(blockIdx.x);
  const int64_t image = blockIdx.y;
  const int64_t segment = image * task.num_columns + column;
  const int size = workspace.list_sizes[segment];
  uint64_t* kept_keys = workspace.kept_keys + segment * workspace.kept_capacity;
  Box* kept_boxes = workspace.kept_boxes + segment * workspace.kept_capacity;

  const bool listed = size <= workspace.list_capacity;
  const uint64_t* list = workspace.lists + segment * workspace.list_capacity;
  const auto rescan = [&](int row) {
    const HeadLevel& level = task.level_of(row);
    const T* data = static_cast<const T*>(level.logits.data);
    const int64_t offset = level.logits.row_offset(image, row - level.first_row, level.sizes);
    const float logit = to_float(data[offset + column * level.logits.column_stride]);
    const int64_t statistics = image * task.num_rows + row;
    const float max = task.sigmoid ? 0.0f : workspace.row_max[statistics];
    const float sum = task.sigmoid ? 0.0f : workspace.row_sum[statistics];
    const float score = score_at(task, logit, max, sum);
    return score > task.score_threshold ? candidate_key(score, row) : uint64_t{0};
  };
  int num_kept = 0;
  if (size > 0) {
    num_kept = segment_nms([&](int i) { return listed ? list[i] : rescan(i); }, listed ? size : task.num_rows,
                           task.top_k, workspace.kept_capacity, task.iou_threshold,
                           [&](uint64_t key) { return decode_candidate(task, image, row_of(key)); },
                           [&](int rank, uint64_t key) { kept_keys[rank] = key; }, kept_boxes, shared);
  }
  if (threadIdx.x == 0) workspace.kept_sizes[segment] = num_kept;
}

}  // namespace

void segment_nms_stage(const PostprocessTask& task, const PostprocessWorkspace& workspace, Stream stream) {
  visit_logit_type(task.logits_dtype, [&](auto zero) {
    launch(segment_nms_kernel<decltype(zero)>,
           dim3(static_cast<unsigned>(task.num_columns), static_cast<unsigned>(task.num_images)), dim3(kSegmentThreads),
           0, stream, task, workspace);
  });
}

}  // namespace ssd
