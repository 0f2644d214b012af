// The boxes that greedy NMS on the CPU has kept, in sets ("segments": classes) that do not affect each other, and the
// question it asks of them: does any box of the segment overlap this one?
//
// Each segment is a list, which questions scan. The boxes of a large one are also in a grid (kept_grid.h).
#pragma once

#include <cstdint>

#include "common/vector.h"
#include "nms/kept_blocks.h"
#include "nms/kept_grid.h"

namespace ssd {

// The searches, compiled for each instruction set (kept_sets.cpp).
template <typename T>
using ListBlock = KeptBlock<T, 64>;
bool search_list(const ListBlock<float>* list, const Box& box, float iou_threshold);
bool search_list(const ListBlock<double>* list, const BoxOf<double>& box, double iou_threshold);
Found search_grid(const KeptGrid<float>& grid, int segment, const Box& box, uint32_t first_round, double most_tiles);
Found search_grid(const KeptGrid<double>& grid, int segment, const BoxOf<double>& box, uint32_t first_round,
                  double most_tiles);

template <typename T>
class KeptSets {
 public:
  // A kept box suppresses those whose IoU with it exceeds the threshold.
  explicit KeptSets(T iou_threshold, int num_segments = 1)
      : iou_threshold_(iou_threshold), segments_(num_segments), grid_(iou_threshold) {}

  void clear();  // keeps its memory

  // Whether a box of the segment suppresses this one.
  bool overlaps(int segment, const BoxOf<T>& box) const { return overlaps_since(0, segment, box); }

  // The same for one that no box suppressed when the round began: only those added since then need be looked at.
  void begin_round() { grid_.begin_round(); }
  bool overlaps_in_round(int segment, const BoxOf<T>& box) const { return overlaps_since(grid_.round(), segment, box); }

  void add(int segment, const BoxOf<T>& box);
  int64_t count(int segment) const { return segments_[segment].count; }  // without boxes that overlap nothing

  // Brings what a search for the box looks at first into the cache, if it may not be there.
  void prefetch(int segment, const BoxOf<T>& box) const {
    if (segments_[segment].count > kMostCached) grid_.prefetch(segment, box);
  }

 private:
  struct Segment {
    ListBlock<T>* list = nullptr;
    int64_t count = 0;
    bool is_in_grid = false;
  };
  static constexpr int64_t kMostScanned = 1024;  // boxes of a segment without a grid
  static constexpr int64_t kMostCached = 8192;   // boxes of a segment whose grid fits a core's cache

  bool overlaps_since(uint32_t first_round, int index, const BoxOf<T>& box) const {
    const Segment& segment = segments_[index];
    if (iou_threshold_ < 0) return segment.count > 0;  // every IoU is above
    if (segment.is_in_grid) {
      const Found found = search_grid(grid_, index, box, first_round, 16 + segment.count / 96.0);
      if (found != Found::unknown) return found == Found::yes;
    }
    return search_list(segment.list, box, iou_threshold_);
  }

  T iou_threshold_;
  Vector<Segment> segments_;
  StableArray<ListBlock<T>> blocks_;
  KeptGrid<T> grid_;
};

}  // namespace ssd
