// The search among kept boxes, compiled for each instruction set, and what adds to them.
#include "nms/kept_sets.h"

#include <algorithm>
#include <utility>

#include "common/simd.h"

namespace ssd {

// target_clones does not work on templates.
SSD_CLONES bool search_list(const ListBlock<float>* list, const Box& box, float iou_threshold) {
  return overlaps_list(list, box, area(box), iou_threshold);
}
SSD_CLONES bool search_list(const ListBlock<double>* list, const BoxOf<double>& box, double iou_threshold) {
  return overlaps_list(list, box, area(box), iou_threshold);
}
SSD_CLONES Found search_grid(const KeptGrid<float>& grid, int segment, const Box& box, uint32_t first_round,
                             double most_tiles) {
  return grid.search(segment, box, first_round, most_tiles);
}
SSD_CLONES Found search_grid(const KeptGrid<double>& grid, int segment, const BoxOf<double>& box, uint32_t first_round,
                             double most_tiles) {
  return grid.search(segment, box, first_round, most_tiles);
}

template <typename T>
void KeptSets<T>::add(int index, const BoxOf<T>& box) {
  if (iou_threshold_ >= 1) return;  // no IoU is above 1
  if (iou_threshold_ >= 0 && !OverlapReach<T>::has_overlaps(box, area(box))) return;
  Segment& segment = segments_[index];
  if (segment.list == nullptr || segment.list->is_full()) {
    ListBlock<T>& block = blocks_.add();
    block.count = 0;
    block.next = std::exchange(segment.list, &block);
  }
  segment.list->add(box);
  ++segment.count;
  if (segment.is_in_grid) {
    grid_.add(index, box);
  } else if (segment.count > kMostScanned) {
    segment.is_in_grid = true;
    for (const ListBlock<T>* block = segment.list; block != nullptr; block = block->next) {
      for (int i = 0; i < block->count; ++i) grid_.add(index, block->box(i));
    }
  }
}

template <typename T>
void KeptSets<T>::clear() {
  std::fill(segments_.begin(), segments_.end(), Segment{});
  blocks_.clear();
  grid_.clear();
}

template <typename T>
void KeptGrid<T>::add(int segment, const BoxOf<T>& box) {
  bool is_new = false;
  Cell cell = outsiders_of(segment);
  if (reach_.holds_for(area(box))) {
    const Extent x = extent_of(box.x1, box.x2), y = extent_of(box.y1, box.y2);
    const int64_t level_x = reach_.level_of(x.side), level_y = reach_.level_of(y.side);
    levels_x_.add(level_x);
    levels_y_.add(level_y);
    has_pair_[pair_of(level_x, level_y)] = true;
    cell = cell_of(segment, x, y);
    TileBits& tile = tiles_.at(cell.tile_key(), {}, is_new);
    tile.bits |= uint64_t{1} << cell.bit;
    tile.last_round = round_;
  } else {
    ++num_outsiders_;
  }
  CellBoxes& boxes = cells_.at(cell.key(), {box, nullptr}, is_new);
  if (is_new) return;
  if (boxes.others == nullptr || boxes.others->is_full()) {
    Block& block = blocks_.add();
    block.count = 0;
    block.next = std::exchange(boxes.others, &block);
  }
  boxes.others->add(box);
}

template <typename T>
void KeptGrid<T>::clear() {
  round_ = 0;
  num_outsiders_ = 0;
  levels_x_ = levels_y_ = {};
  has_pair_.reset();
  tiles_.clear();
  cells_.clear();
  blocks_.clear();
}

template class KeptSets<float>;
template class KeptSets<double>;

}  // namespace ssd
