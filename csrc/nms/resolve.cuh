// Decides which boxes of a warp or a block are kept, given which of them would suppress which.
#pragma once

#include <cstdint>

#include "common/cuda.cuh"

namespace ssd {

// Decides which of 32 boxes are kept: lane l stands for box l, in score order; `alive` says that nothing before the 32
// suppresses it, and bit k of `suppressors` that box k, which comes before it, would do so if kept. A box is decided
// once all its suppressors are: typically after two or three rounds, never more than 32. Returns the kept boxes as
// bits. Called by a whole warp.
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
// the tile suppresses it, and suppressors(w) has a bit for each of the boxes 32 w .. 32 w + 31 that comes before t and
// would suppress it if kept. Warp after warp resolves its 32 boxes, and the later warps strike out what those suppress.
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

// Returns how many boxes of the tile are kept; `before` is how many of them come before this thread's.
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

}  // namespace ssd
