// The last stage of postprocess in CUDA: of everything kept of an image the best keep_top_k, written out.
#include "common/sort.cuh"
#include "postprocess/stages.cuh"

namespace ssd {
namespace {

constexpr int kThreads = 256;
constexpr int kMergedKeys = 1024;  // detections selected and sorted at a time

struct MergeShared {
  uint64_t keys[kMergedKeys];
  SelectShared select;
};

// merge_kernel: the detections of image blockIdx.x, best first, padded.
// Block:   one image.
// Memory:  reads the kept keys of the image's segments once a radix-select pass; decodes what it writes once more.
// Order:   deterministic: keys are distinct.
__global__ void __launch_bounds__(kThreads)
    merge_kernel(const __grid_constant__ PostprocessTask task, const __grid_constant__ PostprocessWorkspace workspace) {
  SSD_SHARED(shared, MergeShared);
  const int64_t image = blockIdx.x;
  const int capacity = workspace.kept_capacity;
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t first_segment = image * task.num_segments();
  const auto key_at = [&](int i) {
    const int64_t segment = first_segment + i / capacity;
    const int rank = i % capacity;
    if (rank >= workspace.kept_sizes[segment]) return uint64_t{0};
    return detection_key(task, workspace.kept_keys[segment * capacity + rank]);
  };

  const int count = capacity * task.num_segments();  // 0 without default boxes
  int written = 0;
  uint64_t bound = ~uint64_t{0};
  while (written < task.keep_top_k) {
    const int wanted = min(task.keep_top_k - written, kMergedKeys);
    const int selected = block_select_sorted(key_at, count, bound, wanted, shared.keys, shared.select);
    if (selected == 0) break;
    for (int i = thread; i < selected; i += kThreads) {
      const uint64_t key = candidate_of(task, shared.keys[i]);
      const int row = row_of(task, key);
      const int64_t place = image * task.keep_top_k + written + i;
      task.boxes[place] = apply_stage(task, Stage::after_nms, image, decode_candidate(task, image, row));
      task.scores[place] = score_of(key);
      task.labels[place] = column_of(task, key);
      task.box_idxs[place] = row;
    }
    bound = shared.keys[selected - 1];  // all reads of the keys end before the next selection's first barrier
    written += selected;
    if (selected < wanted) break;
  }
  for (int i = written + thread; i < task.keep_top_k; i += kThreads) {
    const int64_t place = image * task.keep_top_k + i;
    task.boxes[place] = Box{0.0f, 0.0f, 0.0f, 0.0f};
    task.scores[place] = 0.0f;
    task.labels[place] = -1;
    task.box_idxs[place] = -1;
  }
  if (thread == 0) task.counts[image] = written;
}

}  // namespace

void merge_stage(const PostprocessTask& task, const PostprocessWorkspace& workspace, Stream stream) {
  launch(merge_kernel, dim3(static_cast<unsigned>(task.num_images)), dim3(kThreads), 0, stream, task, workspace);
}

}  // namespace ssd
