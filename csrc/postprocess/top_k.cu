// The stage of postprocess in CUDA that only a top-k over classes needs: of each scope the least key that enters NMS.
#include "common/select.cuh"
#include "postprocess/stages.cuh"

namespace ssd {
namespace {

constexpr int kThreads = 512;

struct TopKShared {
  int longest;
  SelectShared select;
};

// top_k_kernel: the key of the top_k-th best candidate of a level, or of an image.
// Block:   scope blockIdx.x of image blockIdx.y.
// Memory:  reads the lists of the image's segments once a radix-select pass, of those that overflowed the rows.
// Order:   deterministic: keys are distinct.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    top_k_kernel(const __grid_constant__ PostprocessTask task, const __grid_constant__ PostprocessWorkspace workspace) {
  SSD_SHARED(shared, TopKShared);
  const int scope = static_cast<int>(blockIdx.x);
  const int64_t image = blockIdx.y;
  const int64_t first_segment = image * task.num_segments();
  if (threadIdx.x == 0) shared.longest = 0;
  __syncthreads();
  for (int i = threadIdx.x; i < task.num_segments(); i += kThreads) {
    atomicMax(&shared.longest, workspace.list_sizes[first_segment + i]);
  }
  __syncthreads();

  // Place i is candidate i % span of segment i / span: of its list, or of its rows.
  const int span = shared.longest <= workspace.list_capacity ? shared.longest : task.num_rows;
  const auto source = [&](int i) {
    const int of_image = i / span;
    const int place = i % span;
    const int64_t segment = first_segment + of_image;
    const int size = workspace.list_sizes[segment];
    if (size > workspace.list_capacity) {
      return task.scope_of(place) == scope ? rescan_row<T>(task, workspace, image, place, of_image) : 0;
    }
    if (place >= size) return uint64_t{0};
    const uint64_t key = workspace.lists[segment * workspace.list_capacity + place];
    return task.scope_of(row_of(task, key)) == scope ? key : 0;
  };
  const uint64_t least = block_threshold(source, span * task.num_segments(), ~uint64_t{0}, task.top_k, shared.select);
  if (threadIdx.x == 0) workspace.least_keys[image * kMaxHeadLevels + scope] = least;
}

}  // namespace

void top_k_stage(const PostprocessTask& task, const PostprocessWorkspace& workspace, Stream stream) {
  visit_logit_type(task.logits_dtype, [&](auto zero) {
    launch(top_k_kernel<decltype(zero)>,
           dim3(static_cast<unsigned>(task.num_scopes()), static_cast<unsigned>(task.num_images)), dim3(kThreads), 0,
           stream, task, workspace);
  });
}

}  // namespace ssd
