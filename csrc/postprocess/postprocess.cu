// postprocess in CUDA: three stages on one stream (four, if top_k is of levels or images), no sync, any number of
// candidates.
#include <algorithm>

#include "common/arena.h"
#include "postprocess/stages.cuh"

namespace ssd {
namespace {

PostprocessWorkspace make_workspace(const PostprocessTask& task, Arena& arena) {
  PostprocessWorkspace workspace{};
  workspace.list_capacity = std::min(task.num_rows, kListCapacity);
  workspace.kept_capacity = std::min(task.segment_top_k(), task.keep_top_k);
  const int64_t segments = task.num_images * task.num_segments();
  const int64_t rows = task.num_images * task.num_rows;
  workspace.list_sizes = arena.take<int>(segments);
  workspace.kept_sizes = arena.take<int>(segments);
  if (task.class_mode == ClassMode::per_class) {
    workspace.row_max = arena.take<float>(rows);
    workspace.row_sum = arena.take<float>(rows);
  } else {
    workspace.row_best = arena.take<uint64_t>(rows);
  }
  workspace.least_keys = arena.take<uint64_t>(task.num_images * kMaxHeadLevels);
  workspace.lists = arena.take<uint64_t>(segments * workspace.list_capacity);
  workspace.kept_keys = arena.take<uint64_t>(segments * workspace.kept_capacity);
  workspace.kept_boxes = arena.take<Box>(segments * workspace.kept_capacity);
  return workspace;
}

}  // namespace

size_t postprocess_cuda_workspace(const PostprocessTask& task) {
  Arena arena(nullptr);
  make_workspace(task, arena);
  return arena.used();
}

void postprocess_cuda(const PostprocessTask& task, void* memory, Stream stream) {
  const DeviceGuard guard(stream);
  Arena arena(memory);
  const PostprocessWorkspace workspace = make_workspace(task, arena);
  if (task.num_rows > 0) {
    zero_async(workspace.list_sizes, task.num_images * task.num_segments() * sizeof(int), stream);
    score_filter(task, workspace, stream);
    if (task.top_k_scope != TopKScope::segment) top_k_stage(task, workspace, stream);
    segment_nms_stage(task, workspace, stream);
  }
  merge_stage(task, workspace, stream);
}

}  // namespace ssd
