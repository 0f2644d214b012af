// postprocess in CUDA: two stages on one stream (three if top_k is counted per level or image), no sync, any number of
// candidates.
#include <algorithm>

#include "common/arena.h"
#include "postprocess/stages.cuh"

namespace ssd {
namespace {

// Lays out the workspace. The part that has to be zeroed comes first; `zeroed` is its size in bytes.
PostprocessWorkspace make_workspace(const PostprocessTask& task, Arena& arena, size_t& zeroed) {
  PostprocessWorkspace workspace{};
  const int64_t images = task.num_images;
  const int64_t segments = task.num_rows > 0 ? images * task.num_segments() : 0;
  const int64_t rows = images * task.num_rows;
  const bool per_class = task.class_mode == ClassMode::per_class;
  const int64_t most_candidates = int64_t{task.num_rows} * (per_class ? task.num_columns : 1);
  workspace.pool_capacity = static_cast<int>(std::min<int64_t>(task.pool_capacity, most_candidates));
  workspace.kept_capacity = std::min({task.segment_top_k(), task.num_rows, task.keep_top_k});

  workspace.segment_sizes = arena.take<int>(segments);
  workspace.pool_sizes = arena.take<int>(images);
  workspace.active_segments = arena.take<int>(images);
  workspace.finished_segments = arena.take<int>(images);
  workspace.kept_sizes = arena.take<int>(images);
  workspace.work_size = arena.take<int>(1);
  workspace.survivors = arena.take<unsigned>(images * ceil_div(task.num_rows, kWarpSize));
  zeroed = arena.used();

  workspace.work = arena.take<int>(segments);
  workspace.first_keys = arena.take<uint64_t>(segments * kFirstKeys);
  workspace.pool = arena.take<uint64_t>(images * workspace.pool_capacity);
  if (!per_class) workspace.row_best = arena.take<uint64_t>(rows);
  if (per_class && !task.sigmoid) workspace.statistics = arena.take<RowStatistics>(rows);
  if (task.top_k_scope != TopKScope::segment) workspace.least_keys = arena.take<uint64_t>(images * kMaxHeadLevels);
  workspace.kept_keys = arena.take<uint64_t>(segments * workspace.kept_capacity);
  const int64_t blocks = std::min<int64_t>(segments, kMaxSegmentBlocks);
  workspace.kept_boxes = arena.take<Box>(blocks * workspace.kept_capacity);
  return workspace;
}

}  // namespace

size_t postprocess_cuda_workspace(const PostprocessTask& task) {
  Arena arena(nullptr);
  size_t zeroed = 0;
  make_workspace(task, arena, zeroed);
  return arena.used();
}

void postprocess_cuda(const PostprocessTask& task, void* memory, Stream stream) {
  const DeviceGuard guard(stream);
  Arena arena(memory);
  size_t zeroed = 0;
  const PostprocessWorkspace workspace = make_workspace(task, arena, zeroed);
  zero_async(memory, zeroed, stream);
  if (task.num_rows > 0) {
    score_filter(task, workspace, stream);
    if (task.top_k_scope != TopKScope::segment) top_k_stage(task, workspace, stream);
  }
  segment_stage(task, workspace, stream);
}

}  // namespace ssd
