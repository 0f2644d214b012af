// Greedy NMS of as many boxes as a block has threads, for problems that one block solves: nms_padded and postprocess.
#pragma once

#include "common/overlap.h"
#include "nms/resolve.cuh"

namespace ssd {

constexpr int kTileThreads = 512;
constexpr int kTileWords = kTileThreads / kWarpSize;
constexpr int kSelectedKeys = 1024;  // candidates that such a block selects and sorts at a time

struct TileShared {
  Box boxes[kTileThreads];  // to compare with: each warp's own, or kept ones in order
  float areas[kTileThreads];
  unsigned kept[kTileWords];
  int ends[kTileWords + 1];  // where the kept boxes of each word end among those of the tile
  bool regular[kTileWords];  // per word: whether all boxes to compare with are regular
};

// Whether the boxes of all lanes that take part are regular, and comparisons without a check are therefore exact.
inline __device__ bool all_regular(bool takes_part, float box_area, const IouThreshold& threshold) {
  return __all_sync(kFullWarp, !takes_part || is_regular(box_area)) && threshold.half_step > 0.0f;
}

// Which of the tile's boxes `first`, `first` + 1, ... would suppress this thread's box if kept: one bit each, up to 32.
inline __device__ unsigned suppressors_among(const TileShared& tile, int first, int count, bool regular, const Box& box,
                                             float box_area, const IouThreshold& threshold) {
  unsigned suppressors = 0;
  if (regular) {
#pragma unroll 4
    for (int k = 0; k < count; ++k) {
      const bool overlap = regular_overlap(tile.boxes[first + k], tile.areas[first + k], box, box_area, threshold);
      suppressors |= static_cast<unsigned>(overlap) << k;
    }
    return suppressors;
  }
  for (int k = 0; k < count; ++k) {
    const bool overlap = overlaps(tile.boxes[first + k], tile.areas[first + k], box, box_area, threshold);
    suppressors |= static_cast<unsigned>(overlap) << k;
  }
  return suppressors;
}

// With one box per lane: which boxes of the warp come before the lane's and would suppress it if kept. Called by a
// whole warp of the tile; overwrites the warp's part of tile.boxes.
inline __device__ unsigned suppressors_within_warp(bool alive, const Box& box, float box_area,
                                                   const IouThreshold& threshold, TileShared& tile) {
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % kWarpSize;
  const unsigned alive_lanes = __ballot_sync(kFullWarp, alive);
  const bool regular = all_regular(alive, box_area, threshold);
  tile.boxes[thread] = box;
  tile.areas[thread] = box_area;
  __syncwarp();
  const int count = kWarpSize - __clz(static_cast<int>(alive_lanes));
  const unsigned before = alive_lanes & ((1u << lane) - 1);
  return before & suppressors_among(tile, thread - lane, count, regular, box, box_area, threshold);
}

// Greedy NMS of one tile. Thread t < size has box t, in score order, if it is `valid`; a size beyond the tile's counts
// as the tile's. kept_boxes are those kept before the tile. Sets tile.kept, and stops once `wanted` or more are kept.
// All threads of a block of kTileThreads call it. After its last barrier tile.kept is complete; the caller needs
// another barrier before it uses the tile again.
//
// It goes word by word: a warp decides on its own 32 boxes, then all later warps compare theirs with what it keeps.
inline __device__ void nms_tile(int size, bool valid, const Box& box, const Box* kept_boxes, int num_kept, int wanted,
                                const IouThreshold& threshold, TileShared& tile) {
  const int thread = static_cast<int>(threadIdx.x);
  const int warp = thread / kWarpSize;
  const int lane = thread % kWarpSize;
  const float box_area = area(box);
  const bool regular = all_regular(valid, box_area, threshold);
  bool alive = valid;
  const auto compare_with = [&](int first, int count, bool others_regular) {
    if (!__any_sync(kFullWarp, alive)) return;
    alive = alive && suppressors_among(tile, first, count, regular && others_regular, box, box_area, threshold) == 0;
  };

  for (int first = 0; first < num_kept; first += kTileThreads) {
    const int count = min(num_kept - first, kTileThreads);
    const Box kept = thread < count ? kept_boxes[first + thread] : Box{0.0f, 0.0f, 0.0f, 0.0f};
    const float kept_area = area(kept);
    const bool kept_regular = all_regular(thread < count, kept_area, threshold);
    tile.boxes[thread] = kept;
    tile.areas[thread] = kept_area;
    if (lane == 0) tile.regular[warp] = kept_regular;
    __syncthreads();
    for (int word = 0; word * kWarpSize < count; ++word) {
      compare_with(word * kWarpSize, min(count - word * kWarpSize, kWarpSize), tile.regular[word]);
    }
    __syncthreads();
  }

  const unsigned suppressors = suppressors_within_warp(alive, box, box_area, threshold, tile);
  if (thread < kTileWords) tile.kept[thread] = 0;
  if (thread == 0) tile.ends[0] = 0;
  __syncthreads();
  const int words = ceil_div(min(size, kTileThreads), kWarpSize);
  for (int word = 0; word < words; ++word) {
    if (warp == word) {
      const unsigned kept = resolve_warp(alive, suppressors);
      const bool is_kept = kept >> lane & 1;
      const bool kept_regular = all_regular(is_kept, box_area, threshold);
      const int begin = tile.ends[word];
      if (is_kept) {
        const int place = begin + __popc(kept & ((1u << lane) - 1));
        tile.boxes[place] = box;
        tile.areas[place] = box_area;
      }
      if (lane == 0) {
        tile.kept[word] = kept;
        tile.ends[word + 1] = begin + __popc(kept);
        tile.regular[word] = kept_regular;
      }
    }
    __syncthreads();
    const int begin = tile.ends[word];
    const int end = tile.ends[word + 1];
    if (end >= wanted) break;
    if (warp > word) compare_with(begin, end - begin, tile.regular[word]);
  }
}

}  // namespace ssd
