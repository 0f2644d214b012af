// The second stage of multibox_loss in CUDA: hard negatives, the sums per image, and the two losses.
#include "common/select.cuh"
#include "common/tree_sum.cuh"
#include "multibox_loss/stages.cuh"

namespace ssd {
namespace {

constexpr int kThreads = 256;

struct MiningShared {
  float tiles[kMaxTreeTiles];
  SelectShared select;
  int num_positives;
};

// mining_kernel: keeps the hardest negatives of image blockIdx.x, and sums the losses of the selected rows.
// Block:   one image.
// Memory:  reads the image's row losses once per radix-select pass (1 to 8, none if all are wanted) and twice more, 5 B
//          per row each time.
// Order:   deterministic: counts are integers, keys are distinct, sums have the order of tree_sum.h.
__global__ void __launch_bounds__(kThreads, 4)
    mining_kernel(const __grid_constant__ LossTask task, const __grid_constant__ LossWorkspace workspace) {
  SSD_SHARED(shared, MiningShared);
  const int64_t image = blockIdx.x;
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t first = image * task.num_rows;
  const float* classification = workspace.classification + first;
  uint8_t* selected = task.selected + first;

  if (thread == 0) shared.num_positives = 0;
  __syncthreads();
  int mine = 0;
  for (int row = thread; row < task.num_rows; row += kThreads) mine += selected[row] == kPositive;
  if (mine > 0) atomicAdd(&shared.num_positives, mine);
  __syncthreads();
  const int num_positives = shared.num_positives;

  const int64_t wanted = wanted_negatives(task, num_positives);
  const auto key_at = [&](int row) {
    return selected[row] == kHardNegative ? mining_key(classification[row], row) : uint64_t{0};
  };
  if (wanted < task.num_rows) {
    uint64_t threshold = ~uint64_t{0};  // no key reaches it
    if (wanted > 0) {
      threshold = block_threshold(key_at, task.num_rows, ~uint64_t{0}, static_cast<int>(wanted), shared.select);
    }
    for (int row = thread; row < task.num_rows; row += kThreads) {
      if (selected[row] == kHardNegative && key_at(row) < threshold) selected[row] = kNotSelected;
    }
  }

  // block_tree_sum begins with a barrier, after which the selection is final.
  const float classification_sum = block_tree_sum(
      [&](int row) { return selected[row] == kNotSelected ? 0.0f : classification[row]; }, task.num_rows, shared.tiles);
  const float regression_sum =
      block_tree_sum([&](int row) { return workspace.regression[first + row]; }, task.num_rows, shared.tiles);
  if (thread == 0) workspace.images[image] = {regression_sum, classification_sum, num_positives};
}

// total_kernel: computes the two losses, and the number that each image's rows are divided by.
// Block:   one.
// Order:   deterministic, as above.
__global__ void __launch_bounds__(kThreads)
    total_kernel(const __grid_constant__ LossForward forward, const __grid_constant__ LossWorkspace workspace) {
  SSD_SHARED(tiles, float[kMaxTreeTiles]);
  SSD_SHARED(batch_normalizer, int);
  const LossTask& task = forward.task;
  const int thread = static_cast<int>(threadIdx.x);
  const int num_images = static_cast<int>(task.num_images);
  if (thread == 0) batch_normalizer = 0;
  __syncthreads();
  int mine = 0;
  for (int image = thread; image < num_images; image += kThreads) {
    mine += normalizer_share(task, workspace.images[image].num_positives);
  }
  if (mine > 0) atomicAdd(&batch_normalizer, mine);
  __syncthreads();
  const float batch = static_cast<float>(max(batch_normalizer, 1));
  for (int image = thread; image < num_images; image += kThreads) {
    task.normalizer[image] = image_normalizer(task, workspace.images[image].num_positives, batch);
  }
  const float regression = block_tree_sum(
      [&](int image) { return loss_share(task, workspace.images[image].regression, image); }, num_images, tiles);
  const float classification = block_tree_sum(
      [&](int image) { return loss_share(task, workspace.images[image].classification, image); }, num_images, tiles);
  if (thread == 0) {
    forward.losses[0] = total_loss(task, regression, batch);
    forward.losses[1] = total_loss(task, classification, batch);
  }
}

}  // namespace

void mining_stage(const LossForward& forward, const LossWorkspace& workspace, Stream stream) {
  const LossTask& task = forward.task;
  if (task.num_images > 0) {
    launch(mining_kernel, dim3(static_cast<unsigned>(task.num_images)), dim3(kThreads), 0, stream, task, workspace);
  }
  launch(total_kernel, dim3(1), dim3(kThreads), 0, stream, forward, workspace);
}

}  // namespace ssd
