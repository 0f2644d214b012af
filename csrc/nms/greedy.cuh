// Greedy NMS within one block, used by nms_padded (segment_nms), postprocess (nms_tile) and nms (resolve_tile).
#pragma once

#include <cstdint>

#include "common/box_math.h"
#include "common/cuda.cuh"
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

constexpr int kSegmentThreads = 256;
constexpr int kSegmentWords = kSegmentThreads / kWarpSize;
constexpr int kWordPairs = kSegmentWords * (kSegmentWords + 1) / 2;  // of a word and itself or an earlier one
constexpr int kSelectedKeys = 1024;                                  // candidates selected and sorted at a time

struct TileShared {
  Box boxes[kSegmentThreads];
  float areas[kSegmentThreads];
  unsigned suppressors[kWordPairs][kWarpSize];  // of each box of the later word, those of the earlier one
  unsigned alive[kSegmentWords], kept[kSegmentWords];
};

// Where the pair of a word and an earlier one is.
inline __device__ int word_pair(int later, int earlier) { return later * (later + 1) / 2 + earlier; }

// Whether one of the kept boxes suppresses this one. All threads read the same box at a time, a few in advance.
inline __device__ bool is_suppressed(const Box& box, float box_area, const Box* kept_boxes, int num_kept,
                                     const IouThreshold& threshold) {
  constexpr int kInFlight = 4;
  bool suppressed = false;
  for (int first = 0; first < num_kept && !suppressed; first += kInFlight) {
    Box kept[kInFlight];
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) kept[k] = kept_boxes[min(first + k, num_kept - 1)];
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) suppressed |= overlaps(kept[k], area(kept[k]), box, box_area, threshold);
  }
  return suppressed;
}

// Which boxes of a word suppress this thread's own box of another.
inline __device__ unsigned suppressors_of(const TileShared& tile, int own, int word, const IouThreshold& threshold) {
  const Box box = tile.boxes[own];
  const float box_area = tile.areas[own];
  unsigned suppressors = 0;
  for (unsigned rest = tile.alive[word]; rest != 0; rest &= rest - 1) {
    const int bit = __ffs(static_cast<int>(rest)) - 1;
    const int other = word * kWarpSize + bit;
    if (overlaps(tile.boxes[other], tile.areas[other], box, box_area, threshold)) suppressors |= 1u << bit;
  }
  return suppressors;
}

// One tile of greedy NMS: thread t has box t, in score order, unless it is not `valid`; kept_boxes are those kept
// before the tile. Fills tile.kept; tile.boxes stay. The pairs within the tile are shared out in squares of 32 x 32, since the
// later a box, the more there are before it. All threads of a block of kSegmentThreads call it; it ends with a barrier,
// and the tile must have been read before.
inline __device__ void nms_tile(bool valid, const Box& box, const Box* kept_boxes, int num_kept,
                                const IouThreshold& threshold, TileShared& tile) {
  const int thread = static_cast<int>(threadIdx.x);
  const int warp = thread / kWarpSize;
  const int lane = thread % kWarpSize;
  const float box_area = area(box);
  const bool alive = valid && !is_suppressed(box, box_area, kept_boxes, num_kept, threshold);
  const unsigned alive_word = __ballot_sync(kFullWarp, alive);
  tile.boxes[thread] = box;
  tile.areas[thread] = box_area;
  if (lane == 0) tile.alive[warp] = alive_word;
  __syncthreads();
  for (int pair = warp; pair < kWordPairs; pair += kSegmentWords) {
    int later = 0;
    while (word_pair(later + 1, 0) <= pair) ++later;
    const int earlier = pair - word_pair(later, 0);
    unsigned suppressors = 0;
    if (tile.alive[later] != 0) suppressors = suppressors_of(tile, later * kWarpSize + lane, earlier, threshold);
    if (later == earlier) suppressors &= (1u << lane) - 1;
    tile.suppressors[pair][lane] = suppressors;
  }
  // Warp 0 has pair 0 of its own; what other warps have written is read after resolve_tile's first barrier.
  resolve_tile(alive, [&](int word) { return tile.suppressors[word_pair(warp, word)][lane]; }, tile.kept);
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
      nms_tile(valid, box, kept_boxes, num_kept, threshold, shared.tile);
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
