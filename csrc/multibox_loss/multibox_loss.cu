// The forward pass of multibox_loss in CUDA: two stages on one stream, no sync.
#include "common/arena.h"
#include "multibox_loss/stages.cuh"

namespace ssd {
namespace {

LossWorkspace make_workspace(int64_t num_images, int64_t num_rows, Arena& arena) {
  LossWorkspace workspace;
  workspace.classification = arena.take<float>(num_images * num_rows);
  workspace.regression = arena.take<float>(num_images * num_rows);
  workspace.images = arena.take<ImageSums>(num_images);
  return workspace;
}

}  // namespace

size_t multibox_loss_cuda_workspace(int64_t num_images, int64_t num_rows) {
  Arena arena(nullptr);
  make_workspace(num_images, num_rows, arena);
  return arena.used();
}

void multibox_loss_forward_cuda(const LossForward& forward, void* memory, Stream stream) {
  const DeviceGuard guard(stream);
  Arena arena(memory);
  const LossWorkspace workspace = make_workspace(forward.task.num_images, forward.task.num_rows, arena);
  if (forward.task.num_images > 0 && forward.task.num_rows > 0) row_loss_stage(forward.task, workspace, stream);
  mining_stage(forward, workspace, stream);
}

}  // namespace ssd
