// The first stage of postprocess in CUDA: logits -> the candidates of each segment.
#include "common/row_tile.cuh"
#include "postprocess/stages.cuh"

namespace ssd {
namespace {

// score_filter_kernel: lists the candidates of every segment, and keeps what a rescan of a row needs.
// Block:   a tile of blockDim.x rows of one level of image blockIdx.y.
// Thread:  one row.
// Memory:  Staged: the tile is read once, coalesced, into shared memory, where three passes run over it (reject, max,
//          sum and emit). Not staged (so many columns that no tile fits): the passes read global memory. Writes 8 B a
//          row and 8 B a candidate.
// Order:   the lists' order depends on the atomics; the sets do not, and the keys are distinct, so results do not
//          either.
template <typename T, bool Staged>
__global__ void __launch_bounds__(kMaxTileRows)
    score_filter_kernel(const __grid_constant__ PostprocessTask task,
                        const __grid_constant__ PostprocessWorkspace workspace, int level_index) {
  SSD_DYN_SHARED(float, tile);
  SSD_SHARED(offsets, int64_t[kMaxTileRows]);
  const HeadLevel& level = task.levels[level_index];
  const HeadMap& map = level.logits;
  const T* data = static_cast<const T*>(map.data);
  const int columns = task.num_columns;
  const int64_t image = blockIdx.y;
  const int thread = static_cast<int>(threadIdx.x);
  const int tile_rows = static_cast<int>(blockDim.x);
  const int first = static_cast<int>(blockIdx.x) * tile_rows;
  const int rows = min(tile_rows, level.num_rows - first);
  if (thread < rows) offsets[thread] = map.row_offset(image, first + thread, level.sizes);
  __syncthreads();

  if (Staged) {
    const bool rows_contiguous = map.column_stride == 1;  // else columns are planes, in which rows are neighbours
    for (int i = thread; i < rows * columns; i += tile_rows) {
      const int row = rows_contiguous ? i / columns : i % rows;
      const int column = rows_contiguous ? i % columns : i / rows;
      tile[row * tile_pitch(columns) + column] = to_float(data[offsets[row] + column * map.column_stride]);
    }
    __syncthreads();
  }
  if (thread >= rows) return;
  const auto logit = [&](int column) {
    return Staged ? tile[thread * tile_pitch(columns) + column]
                  : to_float(data[offsets[thread] + column * map.column_stride]);
  };

  const int row = level.first_row + first + thread;
  const int64_t statistics = image * task.num_rows + row;
  const bool best_only = task.class_mode != ClassMode::per_class;
  if (task.can_reject) {
    const float base = task.sigmoid ? 0.0f : logit(task.background);
    bool any = false;
    for (int c = 0; c < columns; ++c) any |= c != task.background && sub(logit(c), base) >= task.reject_below;
    if (!any) {
      if (best_only) {
        workspace.row_best[statistics] = 0;
      } else if (!task.sigmoid) {  // exp(x - inf) = 0: a rescan finds no candidate here
        workspace.row_max[statistics] = bits_to_float(0x7F800000u);
        workspace.row_sum[statistics] = 1.0f;
      }
      return;
    }
  }
  float max = 0.0f;
  float sum = 0.0f;
  if (!task.sigmoid) {
    softmax_statistics(logit, columns, max, sum);
    if (!best_only) {
      workspace.row_max[statistics] = max;
      workspace.row_sum[statistics] = sum;
    }
  }
  const auto list = [&](uint64_t key, int column) {
    const int64_t segment = image * task.num_segments() + task.segment_of(column);
    const int place = atomicAdd(&workspace.list_sizes[segment], 1);
    if (place < workspace.list_capacity) workspace.lists[segment * workspace.list_capacity + place] = key;
  };
  float best = task.score_threshold;
  int best_column = -1;
  for (int c = 0; c < columns; ++c) {
    if (c == task.background) continue;
    const float score = score_at(task, logit(c), max, sum);
    if (!(score > best)) continue;
    if (best_only) {
      best = score;
      best_column = c;
    } else {
      list(candidate_key(task, score, row, c), c);
    }
  }
  if (best_only) {
    const uint64_t key = best_column < 0 ? 0 : candidate_key(task, best, row, best_column);
    workspace.row_best[statistics] = key;
    if (best_column >= 0) list(key, best_column);
  }
}

template <typename T>
void filter_levels(const PostprocessTask& task, const PostprocessWorkspace& workspace, Stream stream) {
  const RowTiling tiling(task.num_columns);
  for (int i = 0; i < task.num_levels; ++i) {
    const int rows = task.levels[i].num_rows;
    if (rows == 0) continue;
    const dim3 grid(ceil_div(rows, tiling.rows), static_cast<unsigned>(task.num_images));
    if (tiling.staged) {
      launch(score_filter_kernel<T, true>, grid, dim3(tiling.rows), tiling.shared_bytes, stream, task, workspace, i);
    } else {
      launch(score_filter_kernel<T, false>, grid, dim3(tiling.rows), tiling.shared_bytes, stream, task, workspace, i);
    }
  }
}

}  // namespace

void score_filter(const PostprocessTask& task, const PostprocessWorkspace& workspace, Stream stream) {
  visit_logit_type(task.logits_dtype, [&](auto zero) { filter_levels<decltype(zero)>(task, workspace, stream); });
}

}  // namespace ssd
