// NMS of one segment: by a warp if it has few candidates, else by a block.
#pragma once

#include "postprocess/segment_candidates.cuh"

namespace ssd {

// Where the detections of an image go: its part of kept_keys, whose first free place is in kept_sizes.
inline __device__ uint64_t* kept_keys_of(const PostprocessTask& task, const PostprocessWorkspace& workspace,
                                         int64_t image) {
  return workspace.kept_keys + image * task.num_segments() * workspace.kept_capacity;
}

inline __device__ bool load_candidate(const PostprocessTask& task, int64_t image, uint64_t key, Box& box) {
  if (key == 0) return false;
  box = decode_candidate(task, image, row_of(task, key));
  return enters_nms(task, box);
}

// NMS of a segment of up to kFirstKeys candidates, one per lane. Called by a whole warp.
inline __device__ void nms_by_warp(const PostprocessTask& task, const PostprocessWorkspace& workspace,
                                   const Segment& segment, TileShared& tile) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  uint64_t key = lane < segment.size ? workspace.first_keys[segment.index * kFirstKeys + lane] : 0;
  if (key != 0 && !enters_top_k(task, workspace, segment.image, key)) key = 0;
  key = warp_sort_descending(key);
  if (lane >= task.segment_top_k()) key = 0;
  Box box{0.0f, 0.0f, 0.0f, 0.0f};
  const bool alive = load_candidate(task, segment.image, key, box);
  const unsigned suppressors = suppressors_within_warp(alive, box, area(box), task.iou_threshold, tile);
  const unsigned kept = resolve_warp(alive, suppressors);
  const int total = min(__popc(kept), workspace.kept_capacity);
  if (total == 0) return;

  int base = 0;
  if (lane == 0) base = atomicAdd(&workspace.kept_sizes[segment.image], total);
  base = __shfl_sync(kFullWarp, base, 0);
  const int rank = __popc(kept & ((1u << lane) - 1));
  if ((kept >> lane & 1) != 0 && rank < total) {
    kept_keys_of(task, workspace, segment.image)[base + rank] = detection_key(task, key);
  }
}

// Greedy NMS of the `count` sorted keys in shared.keys, when num_kept candidates of the segment have been kept. Returns
// how many are kept now. All threads of the block call it, after a barrier; ends with one.
inline __device__ int nms_of_batch(const PostprocessTask& task, const PostprocessWorkspace& workspace, int64_t image,
                                   int count, int num_kept, BlockShared& shared) {
  const int thread = static_cast<int>(threadIdx.x);
  Box* kept_boxes = workspace.kept_boxes + int64_t{blockIdx.x} * workspace.kept_capacity;
  for (int first = 0; first < count && num_kept < workspace.kept_capacity; first += kTileThreads) {
    const uint64_t key = first + thread < count ? shared.keys[first + thread] : 0;
    Box box{0.0f, 0.0f, 0.0f, 0.0f};
    const bool valid = load_candidate(task, image, key, box);
    const int wanted = workspace.kept_capacity - num_kept;
    nms_tile(count - first, valid, box, kept_boxes, num_kept, wanted, task.iou_threshold, shared.tile);
    int before = 0;
    const int total = min(count_kept(shared.tile.kept, before), wanted);
    if (thread == 0) shared.count = atomicAdd(&workspace.kept_sizes[image], total);
    __syncthreads();
    const bool kept = shared.tile.kept[thread / kWarpSize] >> (thread % kWarpSize) & 1;
    if (kept && before < total) {
      kept_boxes[num_kept + before] = box;
      kept_keys_of(task, workspace, image)[shared.count + before] = detection_key(task, key);
    }
    num_kept += total;
    __syncthreads();  // kept_boxes have been written, the tile has been read
  }
  return num_kept;
}

// NMS of a larger segment. All threads of a block of kTileThreads call it.
template <typename T>
__device__ void nms_by_block(const PostprocessTask& task, const PostprocessWorkspace& workspace, const Segment& segment,
                             const ColumnShared& column, BlockShared& shared) {
  CandidateBatches<T> batches(task, workspace, segment, column, shared);
  int num_kept = 0;
  for (int remaining = task.segment_top_k(); remaining > 0 && num_kept < workspace.kept_capacity;) {
    const int wanted = min(remaining, kSelectedKeys);
    const int selected = batches.take(wanted);
    num_kept = nms_of_batch(task, workspace, segment.image, selected, num_kept, shared);
    if (selected < wanted) break;
    remaining -= wanted;
  }
}

}  // namespace ssd
