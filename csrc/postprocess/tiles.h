// Divides the rows of the head outputs, for the first stage of postprocess in CUDA, into tiles of neighbors in memory.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <utility>

#include "postprocess/postprocess_task.h"

namespace ssd {

// The rows of a level in memory order: slot (i0, i1, i2) of `sizes`, i2 fastest. In NCHW maps, for example, pixels are
// neighbors, whatever the order of rows.
struct LevelTiles {
  int sizes[3];
  int64_t strides[3];  // in elements
  int row_strides[3];  // in rows
  bool contiguous;     // each slot's columns follow one another, and the next slot's follow them
  bool in_order;       // slots are rows
  int first_tile;

  // The row of a slot, and the offset of its first logit from the image's.
  SSD_HD void find(int slot, int& row, int64_t& offset) const {
    int rest = slot;
    row = 0;
    offset = 0;
    for (int d = 2; d >= 0; --d) {
      const int i = d == 0 ? rest : rest % sizes[d];
      rest /= sizes[d];
      row += i * row_strides[d];
      offset += i * strides[d];
    }
  }
};

struct Tiles {
  LevelTiles levels[kMaxHeadLevels];
  int num_levels;
  int per_image;
  int staged_rows;    // per tile of contiguous rows: a power of two, at most a warp; 0 if a row is too long to stage
  int lanes_per_row;  // that read a staged row together: a power of two
  int staged_bytes;   // per such tile, a multiple of 16

  SSD_HD int rows_of(const LevelTiles& level) const { return level.contiguous ? staged_rows : 32; }
};

inline LevelTiles make_level_tiles(const HeadLevel& level, int columns) {
  const HeadMap& map = level.logits;
  int dimensions[3] = {0, 1, 2};  // slowest first
  std::stable_sort(dimensions, dimensions + 3, [&](int a, int b) {
    if (level.sizes[a] == 1 || level.sizes[b] == 1) return level.sizes[a] == 1 && level.sizes[b] != 1;
    return map.strides[a] > map.strides[b];
  });
  LevelTiles tiles{};
  int64_t next = columns;
  tiles.contiguous = map.column_stride == 1 || columns == 1;
  tiles.in_order = true;
  for (int d = 2; d >= 0; --d) {
    const int from = dimensions[d];
    tiles.sizes[d] = level.sizes[from];
    tiles.strides[d] = map.strides[from];
    tiles.row_strides[d] = 1;
    for (int faster = from + 1; faster < 3; ++faster) tiles.row_strides[d] *= level.sizes[faster];
    if (tiles.sizes[d] == 1) continue;
    if (tiles.strides[d] != next) tiles.contiguous = false;
    next *= tiles.sizes[d];
  }
  int64_t rows = 1;
  for (int d = 2; d >= 0; --d) {
    if (tiles.sizes[d] != 1 && tiles.row_strides[d] != rows) tiles.in_order = false;
    rows *= tiles.sizes[d];
  }
  return tiles;
}

// Lanes that read the same column of neighboring rows meet in a bank of shared memory if the length of a row and the
// number of banks have a common factor. That many lanes per row avoid it. Rows of 16-bit logits that do not fill whole
// words keep their conflicts.
inline int lanes_without_conflict(int columns, int element_bytes) {
  constexpr int kBanks = 32, kBankBytes = 4;
  const int row_bytes = columns * element_bytes;
  return row_bytes % kBankBytes == 0 ? std::gcd(row_bytes / kBankBytes, kBanks) : 1;
}

constexpr int kTileBytes = 16 * 1024;   // per warp: a few warps with this much keep memory busy
constexpr int kLongestRow = 28 * 1000;  // bytes: so that a block's tiles fit into any GPU's shared memory

inline Tiles make_tiles(const PostprocessTask& task) {
  constexpr int kLanes = 32;
  const int element_bytes = size_of(task.logits_dtype);
  const int64_t row_bytes = int64_t{task.num_columns} * element_bytes;
  Tiles tiles{};
  tiles.num_levels = task.num_levels;
  if (row_bytes <= kLongestRow) {
    tiles.staged_rows = kLanes;
    while (tiles.staged_rows > 1 && tiles.staged_rows * row_bytes > kTileBytes) tiles.staged_rows /= 2;
    tiles.lanes_per_row = std::max(kLanes / tiles.staged_rows, lanes_without_conflict(task.num_columns, element_bytes));
  }
  bool staged = false;
  for (int i = 0; i < task.num_levels; ++i) {
    const int rows = task.levels[i].num_rows;
    LevelTiles& level = tiles.levels[i];
    level = make_level_tiles(task.levels[i], task.num_columns);
    if (tiles.staged_rows == 0) level.contiguous = false;
    level.first_tile = tiles.per_image;
    tiles.per_image += (rows + tiles.rows_of(level) - 1) / tiles.rows_of(level);
    staged = staged || (level.contiguous && rows > 0);
  }
  // A tile begins at the same distance from a multiple of 16 bytes as its rows in global memory.
  if (staged) tiles.staged_bytes = static_cast<int>((tiles.staged_rows * row_bytes + 15 + 15) / 16 * 16);
  return tiles;
}

}  // namespace ssd
