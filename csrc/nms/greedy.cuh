// Greedy NMS within one block, used by nms_padded and postprocess (segment_nms) and by nms (resolve_tile).
#pragma once

#include <cstdint>

#include "common/box_math.h"
#include "common/cuda.cuh"
#include "common/sort.cuh"

namespace ssd {

// Decides which boxes of a tile are kept. Thread t stands for box t, in score order; `alive` says that nothing before
// the tile suppresses it, and suppressors(w) is the word of the boxes 32 w .. 32 w + 31 before t that would, if kept.
//
// Warp after warp resolves its own 32 boxes and then strikes out later ones. Within a warp a box is decided as soon as
// every suppressor of it is: typically two or three rounds, never more than 32.
//
// Fills kept[w] with the kept boxes of word w. All threads of the block call it; it ends with a barrier.
template <typename Suppressors>
__device__ void resolve_tile(bool alive, const Suppressors& suppressors, unsigned* kept) {
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int num_warps = static_cast<int>(blockDim.x) / kWarpSize;
  for (int word = 0; word < num_warps; ++word) {
    if (warp == word) {
      const unsigned own = suppressors(word);
      unsigned undecided = __ballot_sync(kFullWarp, alive);
      unsigned kept_word = 0;
      while (undecided != 0) {
        const bool open = undecided >> lane & 1;
        const bool dead = open && (own & kept_word) != 0;
        const bool keep = open && !dead && (own & undecided) == 0;
        const unsigned newly_kept = __ballot_sync(kFullWarp, keep);
        const unsigned newly_dead = __ballot_sync(kFullWarp, dead);
        kept_word |= newly_kept;
        undecided &= ~(newly_kept | newly_dead);
      }
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

// ---- one problem a block --------------------------------------------------------------------------------------------

constexpr int kSegmentThreads = 256;
constexpr int kSegmentWords = kSegmentThreads / kWarpSize;
constexpr int kSelectedKeys = 1024;  // candidates selected and sorted at a time

struct SegmentShared {
  uint64_t keys[kSelectedKeys];
  Box tile[kSegmentThreads];
  unsigned kept_words[kSegmentWords];
  SelectShared select;
};

// Greedy NMS of the best `top_k` of the candidates source(0 .. count-1), keys as block_select takes them, until
// max_keep are kept. load(key, box) reads a candidate's box, or says false: then it takes no part. emit(rank, key) is
// called once for each kept one. kept_boxes: global scratch of max_keep boxes. Returns how many were kept. Called by a
// whole block of kSegmentThreads.
//
// Candidates are taken in chunks, best first, so that any number of them needs the same shared memory; one chunk is
// enough where top_k <= kSelectedKeys.
template <typename Source, typename Load, typename Emit>
__device__ int segment_nms(const Source& source, int count, int top_k, int max_keep, float iou_threshold,
                           const Load& load, const Emit& emit, Box* kept_boxes, SegmentShared& shared) {
  const int thread = static_cast<int>(threadIdx.x);
  int num_kept = 0;
  uint64_t bound = ~uint64_t{0};
  for (int remaining = top_k; remaining > 0 && num_kept < max_keep;) {
    const int wanted = min(remaining, kSelectedKeys);
    const int selected = block_select_sorted(source, count, bound, wanted, shared.keys, shared.select);
    if (selected == 0) break;
    for (int first = 0; first < selected && num_kept < max_keep; first += kSegmentThreads) {
      const bool valid = first + thread < selected;
      const uint64_t key = valid ? shared.keys[first + thread] : 0;
      Box box{0, 0, 0, 0};
      bool alive = valid && load(key, box);
      const float box_area = area(box);
      shared.tile[thread] = box;
      for (int i = 0; alive && i < num_kept; ++i) {  // the same box for all threads: one broadcast read
        const Box kept = kept_boxes[i];
        alive = !(iou(kept, area(kept), box, box_area) > iou_threshold);
      }
      __syncthreads();  // the tile is complete
      unsigned suppressors[kSegmentWords];
#pragma unroll
      for (int word = 0; word < kSegmentWords; ++word) {
        unsigned bits = 0;
        const int end = min(kWarpSize, thread - word * kWarpSize);
        for (int bit = 0; alive && bit < end; ++bit) {
          const Box other = shared.tile[word * kWarpSize + bit];
          if (iou(other, area(other), box, box_area) > iou_threshold) bits |= 1u << bit;
        }
        suppressors[word] = bits;
      }
      const auto suppressors_of = [&](int wanted_word) {
        unsigned bits = 0;  // an array indexed by a variable would live in memory: pick the word instead
#pragma unroll
        for (int word = 0; word < kSegmentWords; ++word) bits = word == wanted_word ? suppressors[word] : bits;
        return bits;
      };
      resolve_tile(alive, suppressors_of, shared.kept_words);

      int before = 0;
      const int total = count_kept(shared.kept_words, before);
      const bool kept = shared.kept_words[thread / kWarpSize] >> (thread % kWarpSize) & 1;
      if (kept && num_kept + before < max_keep) {
        kept_boxes[num_kept + before] = box;
        emit(num_kept + before, key);
      }
      num_kept = min(num_kept + total, max_keep);
      __syncthreads();  // kept_boxes are written, the tile and the words are read
    }
    bound = shared.keys[selected - 1];  // read before the barrier with which the next selection begins
    remaining -= selected;
    if (selected < wanted) break;
  }
  return num_kept;
}

}  // namespace ssd
