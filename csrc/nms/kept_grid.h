// A grid over the boxes that NMS on the CPU has kept. Boxes that overlap a given one are in few of its cells, and as
// kept boxes overlap each other little, a cell holds few: a search takes the same time however many boxes there are.
//
// There is a grid for each segment (class) and each pair of levels of width and height (overlap_reach.h), with cells
// according to the levels. A box is in the cell of its center. Cells are grouped into tiles of 8 x 8, with a bit for
// each cell that is not empty, so that a search passes over empty cells fast. Only what is not empty takes memory.
#pragma once

#include <algorithm>
#include <bitset>
#include <cstdint>
#include <limits>

#include "nms/hash_table.h"
#include "nms/kept_blocks.h"
#include "nms/overlap_reach.h"

namespace ssd {

enum class Found { no, yes, unknown };

template <typename T>
class KeptGrid {
 public:
  explicit KeptGrid(T iou_threshold) : iou_threshold_(iou_threshold), reach_(iou_threshold) {}  // from 0 to below 1

  void clear();  // keeps its memory

  // Begins a round of additions. There is one at first, round 0.
  void begin_round() { ++round_; }
  uint32_t round() const { return round_; }

  // Whether a box of the segment that was added since the beginning of a round, and maybe an earlier one, has an IoU with
  // the box above the threshold. Unknown if finding out takes more than `most_tiles`.
  inline Found search(int segment, const BoxOf<T>& box, uint32_t first_round, double most_tiles) const;

  void add(int segment, const BoxOf<T>& box);  // one that has overlaps (overlap_reach.h)

  // Brings what a search for the box looks at first into the cache.
  inline void prefetch(int segment, const BoxOf<T>& box) const;

 private:
  using Block = KeptBlock<T, 8>;
  static constexpr int kTileShift = 3;  // 8 cells
  static constexpr int64_t kTileMask = (1 << kTileShift) - 1;
  static constexpr int kMostLevels = 32;  // along one axis; a search of more is given up
  static constexpr int kPairs = 4096;
  static constexpr int64_t kOutsiders = -1;  // the level of boxes for which the reach does not hold

  struct Levels {  // of the boxes in the grid, along one axis
    int64_t first = std::numeric_limits<int64_t>::max(), last = -1;
    void add(int64_t level) { first = std::min(first, level), last = std::max(last, level); }
  };
  struct CellRange {  // of the grids of a level, along one axis
    int64_t level, first, last;
    int64_t first_tile() const { return first >> kTileShift; }
    int64_t last_tile() const { return last >> kTileShift; }
    double tiles() const { return static_cast<double>(last_tile() - first_tile()) + 1; }
    // The bits of a tile's cells in these columns or rows.
    uint64_t columns_of(int64_t tile) const {
      return (0xFFu >> (kTileMask - last_in(tile)) & 0xFFu << first_in(tile)) * 0x0101010101010101u;
    }
    uint64_t rows_of(int64_t tile) const {
      return ~uint64_t{0} >> 8 * (kTileMask - last_in(tile)) & ~uint64_t{0} << 8 * first_in(tile);
    }
    int64_t first_in(int64_t tile) const { return tile == first_tile() ? first & kTileMask : 0; }
    int64_t last_in(int64_t tile) const { return tile == last_tile() ? last & kTileMask : kTileMask; }
  };
  struct TileBits {
    uint64_t bits = 0;        // of the cells that are not empty
    uint32_t last_round = 0;  // in which a box was added
  };
  struct CellBoxes {  // the first is with its cell: most searches that look at a cell need no other memory
    BoxOf<T> first{};
    Block* others = nullptr;
  };
  struct Cell {
    int segment;
    uint64_t tile;  // hash
    int bit;        // in the tile
    HashKey key() const { return {static_cast<uint32_t>(mix(tile + static_cast<uint64_t>(bit)) >> 32), segment}; }
    HashKey tile_key() const { return {static_cast<uint32_t>(tile >> 32), segment}; }
  };

  static uint64_t grid_hash(int segment, int64_t level_x, int64_t level_y) {
    return mix(static_cast<uint64_t>(segment) * 0xD6E8FEB86659FD93u +
               static_cast<uint64_t>(level_x) * 0x9E3779B97F4A7C15u + static_cast<uint64_t>(level_y));
  }
  static uint64_t tile_hash(uint64_t grid, int64_t x, int64_t y) {
    return mix(mix(grid + static_cast<uint64_t>(x)) + static_cast<uint64_t>(y));
  }
  static int pair_of(int64_t level_x, int64_t level_y) { return static_cast<int>((level_x * 61 + level_y) % kPairs); }

  inline Cell cell_of(int segment, const Extent& x, const Extent& y) const;
  inline CellRange cells_within_reach(const Extent& extent, int64_t level) const;
  inline uint64_t cells_in_use(HashKey tile, uint32_t first_round) const;
  inline bool search_cell(HashKey cell, const BoxOf<T>& box, T box_area) const;
  double tiles_of_pairs(const CellRange* columns, int num_x, const CellRange* rows, int num_y) const;
  inline bool search_pair(int segment, const CellRange& columns, const CellRange& rows, uint32_t first_round,
                          const BoxOf<T>& box, T box_area) const;
  static Cell outsiders_of(int segment) { return {segment, grid_hash(segment, kOutsiders, kOutsiders), 0}; }

  T iou_threshold_;
  OverlapReach<T> reach_;
  uint32_t round_ = 0;
  int64_t num_outsiders_ = 0;
  Levels levels_x_, levels_y_;
  std::bitset<kPairs> has_pair_;  // of levels, by a hash: without its bit, a pair has no box
  HashTable<TileBits> tiles_;
  HashTable<CellBoxes> cells_;
  StableArray<Block> blocks_;
};

// The cell of a position along an axis. Positions beyond 2^62 cells, where infinite ones are, share the last one.
SSD_HD int64_t cell_at(double position, double cells_per_unit) {
  const double cell = clamp(position, -0x1p1023, 0x1p1023) * cells_per_unit;  // not infinity times 0
  const auto truncated = static_cast<int64_t>(clamp(cell, -0x1p62, 0x1p62));
  return truncated - (static_cast<double>(truncated) > cell);
}

template <typename T>
SSD_HD typename KeptGrid<T>::Cell KeptGrid<T>::cell_of(int segment, const Extent& x, const Extent& y) const {
  const int64_t level_x = reach_.level_of(x.side), level_y = reach_.level_of(y.side);
  const int64_t column = cell_at(x.center, reach_.cells_per_unit(level_x));
  const int64_t row = cell_at(y.center, reach_.cells_per_unit(level_y));
  const uint64_t grid = grid_hash(segment, level_x, level_y);
  return {segment, tile_hash(grid, column >> kTileShift, row >> kTileShift),
          static_cast<int>((row & kTileMask) << kTileShift | (column & kTileMask))};
}

template <typename T>
SSD_HD typename KeptGrid<T>::CellRange KeptGrid<T>::cells_within_reach(const Extent& extent, int64_t level) const {
  const double distance = reach_.distance(extent, level);
  const double cells_per_unit = reach_.cells_per_unit(level);
  return {level, cell_at(extent.center - distance, cells_per_unit), cell_at(extent.center + distance, cells_per_unit)};
}

template <typename T>
SSD_HD bool KeptGrid<T>::search_cell(HashKey cell, const BoxOf<T>& box, T box_area) const {
  const CellBoxes* boxes = cells_.find(cell);
  if (boxes == nullptr) return false;
  if (iou_quotient(boxes->first, area(boxes->first), box, box_area) > iou_threshold_) return true;
  return overlaps_list(boxes->others, box, box_area, iou_threshold_);
}

// The bits of a tile's cells, or none if no box was added to the tile since the beginning of the round.
template <typename T>
SSD_HD uint64_t KeptGrid<T>::cells_in_use(HashKey tile, uint32_t first_round) const {
  const TileBits* in_use = tiles_.find(tile);
  return in_use != nullptr && in_use->last_round >= first_round ? in_use->bits : 0;
}

template <typename T>
SSD_HD void KeptGrid<T>::prefetch(int segment, const BoxOf<T>& box) const {
  if (!OverlapReach<T>::has_overlaps(box, area(box))) return;
  cells_.prefetch(cell_of(segment, extent_of(box.x1, box.x2), extent_of(box.y1, box.y2)).key());
}

// How many tiles a search visits.
template <typename T>
double KeptGrid<T>::tiles_of_pairs(const CellRange* columns, int num_x, const CellRange* rows, int num_y) const {
  double tiles = 0;
  for (int i = 0; i < num_x; ++i) {
    for (int j = 0; j < num_y; ++j) {
      if (has_pair_[pair_of(columns[i].level, rows[j].level)]) tiles += columns[i].tiles() * rows[j].tiles();
    }
  }
  return tiles;
}

template <typename T>
SSD_HD bool KeptGrid<T>::search_pair(int segment, const CellRange& columns, const CellRange& rows, uint32_t first_round,
                                     const BoxOf<T>& box, T box_area) const {
  const uint64_t grid = grid_hash(segment, columns.level, rows.level);
  for (int64_t tile_y = rows.first_tile(); tile_y <= rows.last_tile(); ++tile_y) {
    for (int64_t tile_x = columns.first_tile(); tile_x <= columns.last_tile(); ++tile_x) {
      Cell cell{segment, tile_hash(grid, tile_x, tile_y), 0};
      uint64_t bits = cells_in_use(cell.tile_key(), first_round) & columns.columns_of(tile_x) & rows.rows_of(tile_y);
      for (; bits != 0; bits &= bits - 1) {
        cell.bit = __builtin_ctzll(bits);
        if (search_cell(cell.key(), box, box_area)) return true;
      }
    }
  }
  return false;
}

template <typename T>
SSD_HD Found KeptGrid<T>::search(int segment, const BoxOf<T>& box, uint32_t first_round, double most_tiles) const {
  const T box_area = area(box);
  if (!OverlapReach<T>::has_overlaps(box, box_area)) return Found::no;
  if (!reach_.holds_for(box_area)) return Found::unknown;
  const Extent x = extent_of(box.x1, box.x2), y = extent_of(box.y1, box.y2);
  const Cell own = cell_of(segment, x, y);  // where most boxes that overlap it are
  const bool own_in_use = (cells_in_use(own.tile_key(), first_round) >> own.bit & 1) != 0;
  if (own_in_use && search_cell(own.key(), box, box_area)) return Found::yes;

  const int64_t first_x = max_of(levels_x_.first, reach_.lowest_level(x.side));
  const int64_t last_x = min_of(levels_x_.last, reach_.highest_level(x.side));
  const int64_t first_y = max_of(levels_y_.first, reach_.lowest_level(y.side));
  const int64_t last_y = min_of(levels_y_.last, reach_.highest_level(y.side));
  if (last_x - first_x >= kMostLevels || last_y - first_y >= kMostLevels) return Found::unknown;
  CellRange columns[kMostLevels], rows[kMostLevels];
  int num_x = 0, num_y = 0;
  double tiles_x = 0, tiles_y = 0;
  for (int64_t level = first_x; level <= last_x; ++level) {
    columns[num_x] = cells_within_reach(x, level);
    tiles_x += columns[num_x++].tiles();
  }
  for (int64_t level = first_y; level <= last_y; ++level) {
    rows[num_y] = cells_within_reach(y, level);
    tiles_y += rows[num_y++].tiles();
  }
  if (tiles_x * tiles_y > most_tiles && tiles_of_pairs(columns, num_x, rows, num_y) > most_tiles) return Found::unknown;
  for (int i = 0; i < num_x; ++i) {
    for (int j = 0; j < num_y; ++j) {
      if (!has_pair_[pair_of(columns[i].level, rows[j].level)]) continue;
      if (search_pair(segment, columns[i], rows[j], first_round, box, box_area)) return Found::yes;
    }
  }
  const bool found = num_outsiders_ > 0 && search_cell(outsiders_of(segment).key(), box, box_area);
  return found ? Found::yes : Found::no;
}

}  // namespace ssd
