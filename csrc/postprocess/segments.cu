// The last stage of postprocess in CUDA: NMS of every segment, then the best keep_top_k detections of each image.
#include <algorithm>

#include "common/grid.cuh"
#include "postprocess/merge.cuh"

namespace ssd {
namespace {

constexpr int kWarps = kTileThreads / kWarpSize;
// Up to this many segments get a block each. If there are more, a block takes several per round, since no GPU runs many
// more blocks of this size at once.
constexpr int kBusyBlocks = 128;

struct SegmentsShared {
  BlockShared block;
  int segments[kWarps];  // of this round, by index; -1: none
  int large[kWarps];     // those of them that the whole block works on; -1: none
  int finished[kWarps];  // images whose last segment was among them; -1: none
};

inline __device__ Segment segment_at(const PostprocessTask& task, const PostprocessWorkspace& workspace, int index) {
  const int image = index / task.num_segments();
  return {image, index - image * task.num_segments(), index, workspace.segment_sizes[index]};
}

// segments_kernel: writes the detections of all images, best first, padded.
// Block:   rounds of up to kWarps segments that have candidates. Small ones are a warp's work, then the block takes the
//          others one by one. The block that finishes the last segment of an image merges what was kept of it.
// Memory:  reads the candidates' keys, box offsets and default boxes. If the lists do not hold a segment, it reads the
//          column once, or once per batch of kSelectedKeys if P exceeds kStagedRows.
// Order:   deterministic: keys are distinct, so neither the lists' order matters nor which block merges.
template <typename T>
__global__ void __launch_bounds__(kTileThreads)
    segments_kernel(const __grid_constant__ PostprocessTask task,
                    const __grid_constant__ PostprocessWorkspace workspace) {
  SSD_SHARED(shared, SegmentsShared);
  SSD_DYN_SHARED(uint64_t, column_memory);
  const ColumnShared column = column_shared(column_memory);
  const int thread = static_cast<int>(threadIdx.x);
  const int warp = thread / kWarpSize;
  const int blocks = static_cast<int>(gridDim.x);
  wait_for_predecessor();

  const int work_size = *workspace.work_size;
  const int group = min(max(ceil_div(work_size, kBusyBlocks), 1), kWarps);
  for (int first = static_cast<int>(blockIdx.x) * group; first < work_size; first += blocks * group) {
    const int index = warp < min(group, work_size - first) ? workspace.work[first + warp] : -1;
    bool is_small = false;
    if (index >= 0) {
      const Segment segment = segment_at(task, workspace, index);
      is_small = segment.size <= kFirstKeys;
      if (is_small) nms_by_warp(task, workspace, segment, shared.block.tile);
    }
    if (thread % kWarpSize == 0) {
      shared.segments[warp] = index;
      shared.large[warp] = is_small ? -1 : index;
    }
    __syncthreads();
    for (int i = 0; i < group; ++i) {  // ends with a barrier unless no candidate enters NMS
      if (shared.large[i] < 0) continue;
      const Segment segment = segment_at(task, workspace, shared.large[i]);
      nms_by_block<T>(task, workspace, segment, column, shared.block);
    }

    if (thread < kWarps) {
      const int segment = shared.segments[thread];
      int complete = -1;
      if (segment >= 0) {
        const int image = segment / task.num_segments();
        __threadfence();  // what the block has kept, before the ticket
        const int finished = atomicAdd(&workspace.finished_segments[image], 1) + 1;
        __threadfence();  // the ticket, before what others have kept; the barrier passes this thread's fence on
        if (finished == workspace.active_segments[image]) complete = image;
      }
      shared.finished[thread] = complete;
    }
    __syncthreads();
    for (int i = 0; i < group; ++i) {
      if (shared.finished[i] >= 0) merge_image(task, workspace, shared.finished[i], shared.block);
    }
  }

  for (int image = static_cast<int>(blockIdx.x); image < task.num_images; image += blocks) {
    if (workspace.active_segments[image] == 0) end_detections(task, image, 0);
  }
}

}  // namespace

void segment_stage(const PostprocessTask& task, const PostprocessWorkspace& workspace, Stream stream) {
  const int64_t blocks = std::min<int64_t>(task.num_images * task.num_segments(), kMaxSegmentBlocks);
  visit_logit_type(task.logits_dtype, [&](auto zero) {
    launch(segments_kernel<decltype(zero)>, kProgrammatic, dim3(static_cast<unsigned>(blocks)), dim3(kTileThreads),
           column_bytes(task.num_rows), stream, task, workspace);
  });
}

}  // namespace ssd
