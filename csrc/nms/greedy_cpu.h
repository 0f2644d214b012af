// Greedy NMS on the CPU: candidates in score order, and the kept boxes that each new one is tested against.
#pragma once

#include <cstdint>
#include <vector>

#include "common/overlap.h"

namespace ssd {

// Whether any of `count` boxes, given as columns, has an IoU with the box above the threshold (nms_cpu.cpp).
bool overlaps_any(const BoxOf<float>& box, const float* const columns[5], int64_t count, float iou_threshold);
bool overlaps_any(const BoxOf<double>& box, const double* const columns[5], int64_t count, double iou_threshold);

// A block of the kept boxes of one problem. Problems that are solved together share an array of blocks, in which each
// has its own list.
struct KeptBoxes {
  static constexpr int kSize = 16;
  float x1[kSize], y1[kSize], x2[kSize], y2[kSize], areas[kSize];
  int count;
  int next;  // index of the problem's next block, or -1
};

// Whether any box in the blocks from `first` (-1: none) on has an IoU with the box above the threshold (nms_cpu.cpp).
bool overlaps_any(const Box& box, const KeptBoxes* blocks, int first, const IouThreshold& iou_threshold);

// Adds a box to the problem whose list begins at block `first`, the only one that may have room.
inline void add_kept(const Box& box, std::vector<KeptBoxes>& blocks, int& first) {
  if (first < 0 || blocks[first].count == KeptBoxes::kSize) {
    blocks.push_back(KeptBoxes{});
    blocks.back().next = first;
    first = static_cast<int>(blocks.size()) - 1;
  }
  KeptBoxes& block = blocks[first];
  const int i = block.count++;
  block.x1[i] = box.x1;
  block.y1[i] = box.y1;
  block.x2[i] = box.x2;
  block.y2[i] = box.y2;
  block.areas[i] = area(box);
}

// The kept boxes of one problem. Add candidates best first.
template <typename T>
class GreedyNms {
 public:
  explicit GreedyNms(T iou_threshold) : iou_threshold_(iou_threshold) {}

  void clear() {
    for (auto& column : columns_) column.clear();
  }
  int64_t size() const { return static_cast<int64_t>(columns_[0].size()); }

  bool keep(const BoxOf<T>& box) {
    const T* const pointers[5] = {columns_[0].data(), columns_[1].data(), columns_[2].data(), columns_[3].data(),
                                  columns_[4].data()};
    if (overlaps_any(box, pointers, size(), iou_threshold_)) return false;
    const T values[5] = {box.x1, box.y1, box.x2, box.y2, area(box)};
    for (int i = 0; i < 5; ++i) columns_[i].push_back(values[i]);
    return true;
  }

 private:
  T iou_threshold_;
  std::vector<T> columns_[5];  // x1, y1, x2, y2, area
};

}  // namespace ssd
