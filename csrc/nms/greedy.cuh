// Greedy NMS within one block, used by nms_padded (segment_nms), postprocess (nms_tile) and nms (resolve_tile).
#pragma once

#include <cstdint>

#include "common/cuda.cuh"
#include "common/overlap.h"
#include "common/sort.cuh"

namespace ssd {

// Decides which of 32 boxes are kept: lane l stands for box l, in score order; `alive` says that nothing before the 32
// suppresses it, and bit k of `suppressors` that box k, which is before it, would, if kept. A box is decided as soon as
// every suppressor of it is: typically after two or three rounds, never more than 32. Returns the kept boxes. Called by
// a whole warp.
inline __device__ unsigned resolve_warp(bool alive, unsigned suppressors) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  unsigned undecided = __ballot_sync(kFullWarp, alive);
  unsigned kept = 0;
  while (undecided != 0) {
    const bool open = undecided >> lane & 1;
    const bool dead = open && (suppressors & kept) != 0;
    const bool keep = open && !dead && (suppressors & undecided) == 0;
    const unsigned newly_kept = __ballot_sync(kFullWarp, keep);
    const unsigned newly_dead = __ballot_sync(kFullWarp, dead);
    kept |= newly_kept;
    undecided &= ~(newly_kept | newly_dead);
  }
  return kept;
}

// Decides which boxes of a tile are kept. Thread t stands for box t, in score order; `alive` says that nothing before
// the tile suppresses it, and suppressors(w) is the word of the boxes 32 w .. 32 w + 31 before t that would, if kept.
// Warp after warp resolves its own 32 boxes and then strikes out later ones.
//
// Fills kept[w] with the kept boxes of word w. All threads of the block call it; it ends with a barrier.
template <typename Suppressors>
__device__ void resolve_tile(bool alive, const Suppressors& suppressors, unsigned* kept) {
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int num_warps = static_cast<int>(blockDim.x) / kWarpSize;
  for (int word = 0; word < num_warps; ++word) {
    if (warp == word) {
      const unsigned kept_word = resolve_warp(alive, suppressors(word));
      if (lane == 0) kept[word] = kept_word;
    }
    __syncthreads();
    if (warp > word && (suppressors(word) & kept[word]) != 0) alive = false;
  }
}

// How many boxes of the tile are kept, and how many before this thread's.
inline __device__ int count_kept(const unsigned* kept, int& before) {
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  int total = 0;
  before = 0;
  for (int word = 0; word < static_cast<int>(blockDim.x) / kWarpSize; ++word) {
    const unsigned mask = word < warp ? kFullWarp : word == warp ? (1u << lane) - 1 : 0;
    before += __popc(kept[word] & mask);
    total += __popc(kept[word]);
  }
  return total;
}

// ---- one problem per block ------------------------------------------------------------------------------------------

constexpr int kSegmentThreads = 512;
constexpr int kSegmentWords = kSegmentThreads / kWarpSize;
constexpr int kSelectedKeys = 1024;  // candidates selected and sorted at a time

struct TileShared {
  Box boxes[kSegmentThreads];  // those that others are compared with: a warp's own, or kept ones in order
  float areas[kSegmentThreads];
  unsigned kept[kSegmentWords];
  int ends[kSegmentWords + 1];  // where the kept boxes of each word end among those of the tile
  bool regular[kSegmentWords];  // whether all boxes compared with are regular, by words
};

// Whether the boxes of all lanes of the warp that take part are regular, and comparisons without a check are exact.
inline __device__ bool all_regular(bool takes_part, float box_area, const IouThreshold& threshold) {
  return __all_sync(kFullWarp, !takes_part || is_regular(box_area)) && threshold.half_step > 0.0f;
}

// Which of the boxes `first`, `first` + 1, ... in the tile suppress this thread's box, if kept: of up to 32, a bit each.
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

// Of the boxes of a warp, a lane each, those before the lane's own that suppress it, if kept. Called by a whole warp of
// the tile, whose own part of tile.boxes it overwrites.
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

// One tile of greedy NMS: thread t < size has box t, in score order, unless it is not `valid`; there may be more than a
// tile's. kept_boxes are those kept before the tile. Fills tile.kept, of boxes in order until `wanted` or more are kept. All threads of a block of
// kSegmentThreads call it. It contains a barrier after which tile.kept is complete; the caller has one before it uses
// the tile again.
//
// Word by word: a warp decides on its own 32 boxes, then all later ones compare theirs with what it keeps.
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

  for (int first = 0; first < num_kept; first += kSegmentThreads) {
    const int count = min(num_kept - first, kSegmentThreads);
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
  if (thread < kSegmentWords) tile.kept[thread] = 0;
  if (thread == 0) tile.ends[0] = 0;
  __syncthreads();
  const int words = ceil_div(min(size, kSegmentThreads), kWarpSize);
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

struct SegmentShared {
  uint64_t keys[kSelectedKeys];
  TileShared tile;
  SelectShared select;
};

// Greedy NMS of the candidates source(0 .. count-1), keys as block_select takes them, until max_keep are kept.
// load(key) is a candidate's box. emit(rank, key) is called once for each kept one. kept_boxes: global scratch of max_keep boxes.
// Returns how many were kept. Called by a whole block of kSegmentThreads.
//
// Candidates are taken in batches, best first, so that any number of them needs the same shared memory.
template <typename Source, typename Load, typename Emit>
__device__ int segment_nms(const Source& source, int count, int max_keep, const IouThreshold& threshold,
                           const Load& load, const Emit& emit, Box* kept_boxes, SegmentShared& shared) {
  const int thread = static_cast<int>(threadIdx.x);
  int num_kept = 0;
  uint64_t bound = ~uint64_t{0};
  while (num_kept < max_keep) {
    const int selected = block_select_sorted(source, count, bound, kSelectedKeys, shared.keys, shared.select);
    if (selected == 0) break;
    for (int first = 0; first < selected && num_kept < max_keep; first += kSegmentThreads) {
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
      __syncthreads();  // kept_boxes are written, the tile is read
    }
    bound = shared.keys[selected - 1];  // read before the barrier with which the next selection begins
    if (selected < kSelectedKeys) break;
  }
  return num_kept;
}

}  // namespace ssd
