// nms_padded in CUDA: one block per problem.
#include "common/ranking_key.h"
#include "common/sort.cuh"
#include "nms/nms_task.h"
#include "nms/score_key.h"
#include "nms/tile.cuh"

namespace ssd {
namespace {

struct PaddedShared {
  uint64_t keys[kSelectedKeys];
  TileShared tile;
  SelectShared select;
};

// Greedy NMS of the candidates source(0 .. count-1), whose keys are as block_select takes them, until max_keep are
// kept. load(key) returns a candidate's box; emit(rank, key) is called once for each kept one. kept_boxes: global
// scratch of max_keep boxes. Returns how many were kept. Called by a whole block of kTileThreads.
//
// Candidates are taken in batches, best first, so that any number of them needs the same shared memory.
template <typename Source, typename Load, typename Emit>
__device__ int nms_in_batches(const Source& source, int count, int max_keep, const IouThreshold& threshold,
                              const Load& load, const Emit& emit, Box* kept_boxes, PaddedShared& shared) {
  const int thread = static_cast<int>(threadIdx.x);
  int num_kept = 0;
  uint64_t bound = ~uint64_t{0};
  while (num_kept < max_keep) {
    const int selected = block_select_sorted(source, count, bound, kSelectedKeys, shared.keys, shared.select);
    if (selected == 0) break;
    for (int first = 0; first < selected && num_kept < max_keep; first += kTileThreads) {
      const bool valid = first + thread < selected;
      const uint64_t key = valid ? shared.keys[first + thread] : 0;
      const Box box = valid ? load(key) : Box{0.0f, 0.0f, 0.0f, 0.0f};
      nms_tile(selected - first, valid, box, kept_boxes, num_kept, max_keep - num_kept, threshold, shared.tile);
      int before = 0;
      const int total = count_kept(shared.tile.kept, before);
      const bool kept = shared.tile.kept[thread / kWarpSize] >> (thread % kWarpSize) & 1;
      if (kept && num_kept + before < max_keep) {
        kept_boxes[num_kept + before] = box;
        emit(num_kept + before, key);
      }
      num_kept = min(num_kept + total, max_keep);
      __syncthreads();  // kept_boxes have been written, the tile has been read
    }
    bound = shared.keys[selected - 1];  // read before the barrier with which the next selection begins
    if (selected < kSelectedKeys) break;
  }
  return num_kept;
}

// nms_padded_kernel: lists the kept indices of each (image, class), best first, padded with -1.
// Block:   one problem. A grid holds 2^31 - 1 blocks; the scores of that many problems do not fit on a GPU.
// Memory:  reads the scores once per radix-select pass (1 to 8), and the boxes that it takes; scratch: the kept boxes.
// Order:   deterministic: keys are distinct, so the order in which atomics arrive does not matter.
__global__ void __launch_bounds__(kTileThreads)
    nms_padded_kernel(const __grid_constant__ NmsPaddedTask task, Box* kept_boxes) {
  SSD_SHARED(shared, PaddedShared);
  const int64_t problem = blockIdx.x;
  const float* scores = task.scores + problem * task.n;
  const Box* boxes = task.boxes + problem / task.segments_per_image * task.n;
  int64_t* kept = task.kept + problem * task.max_output;
  const auto key_at = [&](int i) {
    const uint32_t rank = score_key(scores[i]);
    return rank == 0 ? uint64_t{0} : ranking_key(rank, static_cast<uint32_t>(i));
  };
  const int n = static_cast<int>(task.n);
  const auto load = [&](uint64_t key) { return boxes[static_cast<int>(index_of(key))]; };
  const int num_kept = nms_in_batches(
      key_at, n, static_cast<int>(task.max_output), iou_threshold(task.iou_threshold), load,
      [&](int rank, uint64_t key) { kept[rank] = static_cast<int>(index_of(key)); },
      kept_boxes + problem * task.max_output, shared);
  for (int64_t i = num_kept + threadIdx.x; i < task.max_output; i += kTileThreads) kept[i] = -1;
  if (threadIdx.x == 0) task.counts[problem] = num_kept;
}

}  // namespace

size_t nms_padded_cuda_workspace(int64_t segments, int64_t max_output) {
  return static_cast<size_t>(segments) * static_cast<size_t>(max_output < 0 ? 0 : max_output) * sizeof(Box);
}

void nms_padded_cuda(const NmsPaddedTask& task, void* workspace, Stream stream) {
  const DeviceGuard guard(stream);
  const auto blocks = static_cast<unsigned>(task.images * task.segments_per_image);
  launch(nms_padded_kernel, dim3(blocks), dim3(kTileThreads), 0, stream, task, static_cast<Box*>(workspace));
}

}  // namespace ssd
