// postprocess in CUDA: three stages on one stream (four, if top_k is of levels or images), no sync, any number of
// candidates.
#include <algorithm>

#include "common/arena.h"
#include "postprocess/stages.cuh"

namespace ssd {
namespace {

PostprocessWorkspace make_workspace(int64_t num_images, int64_t num_rows, int64_t num_segments, int64_t keep_top_k,
                                    Arena& arena) {
  PostprocessWorkspace workspace{};
  workspace.list_capacity = static_cast<int>(std::min<int64_t>(num_rows, kListCapacity));
  workspace.kept_capacity = static_cast<int>(std::min(num_rows, keep_top_k));
  const int64_t segments = num_images * num_segments;
  workspace.list_sizes = arena.take<int>(segments);
  workspace.kept_sizes = arena.take<int>(segments);
  workspace.row_max = arena.take<float>(num_images * num_rows);
  workspace.row_sum = arena.take<float>(num_images * num_rows);
  workspace.row_best = arena.take<uint64_t>(num_images * num_rows);
  workspace.least_keys = arena.take<uint64_t>(num_images * kMaxHeadLevels);
  workspace.lists = arena.take<uint64_t>(segments * workspace.list_capacity);
  workspace.kept_keys = arena.take<uint64_t>(segments * workspace.kept_capacity);
  workspace.kept_boxes = arena.take<Box>(segments * workspace.kept_capacity);
  return workspace;
}

}  // namespace

size_t postprocess_cuda_workspace(int64_t num_images, int64_t num_rows, int64_t num_segments, int64_t keep_top_k) {
  if (num_images <= 0 || num_rows <= 0 || num_segments <= 0 || keep_top_k <= 0) return 0;
  Arena arena(nullptr);
  make_workspace(num_images, num_rows, num_segments, keep_top_k, arena);
  return arena.used();
}

void postprocess_cuda(const PostprocessTask& task, void* memory, Stream stream) {
  const DeviceGuard guard(stream);
  Arena arena(memory);
  const PostprocessWorkspace workspace =
      make_workspace(task.num_images, task.num_rows, task.num_segments(), task.keep_top_k, arena);
  if (task.num_rows > 0) {
    zero_async(workspace.list_sizes, task.num_images * task.num_segments() * sizeof(int), stream);
    score_filter(task, workspace, stream);
    if (task.top_k_scope != TopKScope::segment) top_k_stage(task, workspace, stream);
    segment_nms_stage(task, workspace, stream);
  }
  merge_stage(task, workspace, stream);
}

}  // namespace ssd
