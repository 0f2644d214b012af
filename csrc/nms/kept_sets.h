// The boxes that greedy NMS on the CPU has kept, in sets ("segments": classes) that do not affect each other, and the
// question it asks of them: does any box of the segment overlap this one?
//
// Each segment is a list, which questions scan. The boxes of a large one are also in a grid (kept_grid.h).
#pragma once

#include <cstdint>
#include <vector>

#include "nms/kept_blocks.h"
#include "nms/kept_grid.h"

namespace ssd {

template <typename T>
class KeptSets {
 public:
  // A kept box suppresses those whose IoU with it exceeds the threshold.
  explicit KeptSets(T iou_threshold, int num_segments = 1)
      : iou_threshold_(iou_threshold), segments_(num_segments), grid_(iou_threshold) {}

  void clear();  // keeps its memory

  // Whether a box of the segment suppresses this one.
  bool overlaps(int segment, const BoxOf<T>& box) const { return search(*this, segment, box); }

  void add(int segment, const BoxOf<T>& box);
  // Brings what a search for the box looks at first into the cache, if it may not be there.
  void prefetch(int segment, const BoxOf<T>& box) const {
    if (segments_[segment].count > kMostCached) grid_.prefetch(segment, box);
  }
  int64_t count(int segment) const { return segments_[segment].count; }

 private:
  using Block = KeptBlock<T, 64>;
  struct Segment {
    Block* list = nullptr;
    int64_t count = 0;
    bool is_in_grid = false;
  };
  static constexpr int64_t kMostScanned = 1024;  // boxes of a segment without a grid
  static constexpr int64_t kMostCached = 8192;

  // kept_sets.cpp compiles them for each instruction set.
  friend bool search(const KeptSets<float>& sets, int segment, const Box& box);
  friend bool search(const KeptSets<double>& sets, int segment, const BoxOf<double>& box);
  inline bool search_segment(int segment, const BoxOf<T>& box) const;

  T iou_threshold_;
  std::vector<Segment> segments_;
  StableArray<Block> blocks_;
  KeptGrid<T> grid_;
};

bool search(const KeptSets<float>& sets, int segment, const Box& box);
bool search(const KeptSets<double>& sets, int segment, const BoxOf<double>& box);

}  // namespace ssd
