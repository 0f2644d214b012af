// Tiles of logit rows in shared memory, for kernels in which a thread owns a row and reads it several times.
#pragma once

#include "common/cuda.cuh"

namespace ssd {

constexpr int kMaxTileRows = 128;

// An odd distance between rows: threads that read the same column of their rows hit different banks.
inline __host__ __device__ int tile_pitch(int columns) { return columns | 1; }

struct RowTiling {
  int rows;     // per tile, and threads per block
  bool staged;  // a tile fits into shared memory; else the kernel reads global memory repeatedly
  size_t shared_bytes;

  explicit RowTiling(int columns) {
    constexpr size_t kTileBytes = 48 * 1024;
    const size_t row_bytes = tile_pitch(columns) * sizeof(float);
    rows = kMaxTileRows;
    while (rows > kWarpSize && rows * row_bytes > kTileBytes) rows /= 2;
    staged = rows * row_bytes <= kTileBytes;
    shared_bytes = staged ? rows * row_bytes : sizeof(float);
  }
};

}  // namespace ssd
