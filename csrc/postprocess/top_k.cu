// The top-k stage of postprocess in CUDA, which only a top-k per level or image needs: finds the smallest key of each
// scope that enters NMS.
#include "common/grid.cuh"
#include "common/select.cuh"
#include "postprocess/column.cuh"

namespace ssd {
namespace {

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / kWarpSize;
constexpr int kInFlight = 4;

// Calls use(key) for this thread's share of the candidates in the lists of an image, which hold all of them.
template <typename Use>
__device__ void visit_listed(const PostprocessTask& task, const PostprocessWorkspace& workspace, int64_t image,
                             const Use& use) {
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int segments = task.num_segments();
  const int* sizes = workspace.segment_sizes + image * segments;
  const uint64_t* first_keys = workspace.first_keys + image * segments * kFirstKeys;
  for (int first = warp; first < segments; first += kInFlight * kWarps) {
    bool has_key[kInFlight];
    uint64_t keys[kInFlight];
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) {
      const int segment = first + k * kWarps;
      has_key[k] = segment < segments && lane < sizes[segment];
    }
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) {
      keys[k] = has_key[k] ? first_keys[(first + k * kWarps) * int64_t{kFirstKeys} + lane] : 0;
    }
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) {
      if (keys[k] != 0) use(keys[k]);
    }
  }
  const uint64_t* pool = workspace.pool + image * workspace.pool_capacity;
  for_each_key([&](int i) { return pool[i]; }, workspace.pool_sizes[image], use);
}

// Calls use(key) for the candidates of a row of a level.
template <typename T, typename Use>
__device__ void visit_row(const PostprocessTask& task, const PostprocessWorkspace& workspace, int64_t image,
                          const HeadLevel& level, int row, const Use& use) {
  if (!survives(task, workspace, image, row)) return;
  if (task.class_mode != ClassMode::per_class) {
    const uint64_t key = workspace.row_best[image * task.num_rows + row];
    if (key != 0) use(key);
    return;
  }
  const RowStatistics statistics = statistics_of(task, workspace, image, row);
  const int64_t stride = level.logits.column_stride;
  const T* logits =
      static_cast<const T*>(level.logits.data) + level.logits.row_offset(image, row - level.first_row, level.sizes);
  for (int first = 0; first < task.num_columns; first += kInFlight) {
    float logit[kInFlight];
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) logit[k] = to_float(logits[min(first + k, task.num_columns - 1) * stride]);
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) {
      const int column = first + k;
      if (column >= task.num_columns || column == task.background) continue;
      const float score = candidate_score(task, logit[k], statistics);
      if (score >= 0.0f) use(candidate_key(task, score, row, column));
    }
  }
}

// top_k_kernel: finds the key of the top_k-th best candidate of each level or image.
// Block:   scope blockIdx.x of image blockIdx.y.
// Memory:  reads the image's lists once per radix-select pass, or the scope's surviving rows if its pool overflowed.
// Order:   deterministic: keys are distinct.
template <typename T>
__global__ void __launch_bounds__(kThreads, 2)
    top_k_kernel(const __grid_constant__ PostprocessTask task, const __grid_constant__ PostprocessWorkspace workspace) {
  SSD_SHARED(shared, SelectShared);
  trigger_dependents();
  const int scope = static_cast<int>(blockIdx.x);
  const int64_t image = blockIdx.y;
  wait_for_predecessor();

  const bool of_level = task.top_k_scope == TopKScope::level;
  const int first_level = of_level ? scope : 0;
  const int end_level = of_level ? scope + 1 : task.num_levels;
  const int first_row = task.levels[first_level].first_row;
  const int end_row = task.levels[end_level - 1].first_row + task.levels[end_level - 1].num_rows;
  const bool listed = workspace.pool_sizes[image] <= workspace.pool_capacity;
  const auto visit = [&](const auto& use) {
    if (listed) {
      visit_listed(task, workspace, image, [&](uint64_t key) {
        const int row = row_of(task, key);
        if (row >= first_row && row < end_row) use(key);
      });
      return;
    }
    for (int i = first_level; i < end_level; ++i) {
      const HeadLevel& level = task.levels[i];
      const int end = level.first_row + level.num_rows;
      for (int row = level.first_row + static_cast<int>(threadIdx.x); row < end; row += kThreads) {
        visit_row<T>(task, workspace, image, level, row, use);
      }
    }
  };
  const uint64_t least = threshold_of(visit, ~uint64_t{0}, task.top_k, shared);
  if (threadIdx.x == 0) workspace.least_keys[image * kMaxHeadLevels + scope] = least;
}

}  // namespace

void top_k_stage(const PostprocessTask& task, const PostprocessWorkspace& workspace, Stream stream) {
  const dim3 grid(static_cast<unsigned>(task.num_scopes()), static_cast<unsigned>(task.num_images));
  visit_logit_type(task.logits_dtype, [&](auto zero) {
    launch(top_k_kernel<decltype(zero)>, kProgrammatic, grid, dim3(kThreads), 0, stream, task, workspace);
  });
}

}  // namespace ssd
