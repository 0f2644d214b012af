// The first stage of multibox_loss in CUDA: the losses of every row, as if it were selected.
#include "common/row_tile.cuh"
#include "multibox_loss/stages.cuh"

namespace ssd {
namespace {

// row_loss_kernel: computes each row's cross-entropy or focal loss, the smooth L1 of positives, and the statistics of a
// softmax that the backward pass needs.
// Block:   a tile of blockDim.x rows of image blockIdx.y.
// Thread:  one row.
// Memory:  if Staged, reads the tile once, coalesced, into shared memory; else the two passes read global memory.
//          Writes 17 B per row, or 9 B if Focal.
// Order:   deterministic; no atomics.
template <typename T, bool Staged, bool Focal>
__global__ void __launch_bounds__(kMaxTileRows)
    row_loss_kernel(const __grid_constant__ LossTask task, const __grid_constant__ LossWorkspace workspace) {
  SSD_DYN_SHARED(float, tile);
  const int columns = task.num_columns;
  const int thread = static_cast<int>(threadIdx.x);
  const int tile_rows = static_cast<int>(blockDim.x);
  const int64_t image = blockIdx.y;
  const int first = static_cast<int>(blockIdx.x) * tile_rows;
  const int rows = min(tile_rows, task.num_rows - first);
  const T* data = static_cast<const T*>(task.logits) + (image * task.num_rows + first) * columns;
  if (Staged) {
    for (int i = thread; i < rows * columns; i += tile_rows) {
      tile[i / columns * tile_pitch(columns) + i % columns] = to_float(data[i]);
    }
    __syncthreads();
  }
  if (thread >= rows) return;
  const auto logit = [&](int column) {
    return Staged ? tile[thread * tile_pitch(columns) + column]
                  : to_float(data[static_cast<int64_t>(thread) * columns + column]);
  };
  const int row = first + thread;
  const int64_t place = image * task.num_rows + row;
  const RowTarget target = row_target(task, image, row);
  float loss = 0.0f;
  if constexpr (Focal) {
    for (int c = 0; c < columns; ++c) loss = add(loss, focal_loss(logit(c), c == target.column, task.focal));
  } else {
    float max;
    float sum;
    softmax_statistics(logit, columns, max, sum);
    task.row_max[place] = max;
    task.row_sum[place] = sum;
    loss = cross_entropy(logit(target.column), max, sum);
  }
  task.selected[place] = target.kind;
  workspace.classification[place] = loss;
  workspace.regression[place] = target.kind == kPositive ? regression_loss(task, image, row, target.gt) : 0.0f;
}

template <bool Staged, bool Focal>
void launch_row_loss(const LossTask& task, const LossWorkspace& workspace, const RowTiling& tiling, Stream stream) {
  const dim3 grid(ceil_div(task.num_rows, tiling.rows), static_cast<unsigned>(task.num_images));
  visit_logit_type(task.logits_dtype, [&](auto zero) {
    launch(row_loss_kernel<decltype(zero), Staged, Focal>, grid, dim3(tiling.rows), tiling.shared_bytes, stream, task,
           workspace);
  });
}

}  // namespace

void row_loss_stage(const LossTask& task, const LossWorkspace& workspace, Stream stream) {
  const RowTiling tiling(task.num_columns);
  const bool focal = task.classification == Classification::focal;
  const auto launch_stage = tiling.staged ? (focal ? launch_row_loss<true, true> : launch_row_loss<true, false>)
                                          : (focal ? launch_row_loss<false, true> : launch_row_loss<false, false>);
  launch_stage(task, workspace, tiling, stream);
}

}  // namespace ssd
