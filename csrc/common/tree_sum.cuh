// The sum of tree_sum.h, by one block.
#pragma once

#include "common/box_math.h"
#include "common/cuda.cuh"

namespace ssd {

constexpr int kTreeTile = 1024;      // kSumTile of tree_sum.h
constexpr int kMaxTreeTiles = 1024;  // so a block sums up to 2^20 values

// The sum of the values begin .. end-1 of at most one tile, in lane 0. Called by a whole warp.
template <typename ValueAt>
__device__ float warp_tile_sum(const ValueAt& value_at, int begin, int end) {
  float sum = 0.0f;
  for (int i = begin + static_cast<int>(threadIdx.x) % kWarpSize; i < end; i += kWarpSize) {
    sum = add(sum, value_at(i));
  }
  for (int half = kWarpSize / 2; half > 0; half /= 2) sum = add(sum, __shfl_down_sync(kFullWarp, sum, half));
  return sum;
}

// The sum of value_at(0 .. count-1), count up to 2^20, to all threads. `tiles` is shared memory for kMaxTreeTiles
// floats. All threads of the block call it; begins and ends with a barrier.
template <typename ValueAt>
__device__ float block_tree_sum(const ValueAt& value_at, int count, float* tiles) {
  __syncthreads();  // earlier reads of `tiles` are done
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int num_warps = static_cast<int>(blockDim.x) / kWarpSize;
  const int num_tiles = ceil_div(count, kTreeTile);
  for (int tile = warp; tile < num_tiles; tile += num_warps) {
    const float sum = warp_tile_sum(value_at, tile * kTreeTile, min((tile + 1) * kTreeTile, count));
    if (threadIdx.x % kWarpSize == 0) tiles[tile] = sum;
  }
  __syncthreads();
  if (warp == 0) {  // one tile's sum is its own sum again
    const float sum = warp_tile_sum([&](int i) { return tiles[i]; }, 0, num_tiles);
    if (threadIdx.x == 0) tiles[0] = sum;  // which only this lane has read
  }
  __syncthreads();
  return tiles[0];
}

}  // namespace ssd
