// Greedy NMS on the CPU: candidates in score order, and the kept boxes that each new one is tested against.
#pragma once

#include <cstdint>
#include <vector>

#include "common/box_math.h"

namespace ssd {

// Whether any of `count` boxes, given as columns, has an IoU with the box above the threshold (nms_cpu.cpp).
bool overlaps_any(const BoxOf<float>& box, const float* const columns[5], int64_t count, float iou_threshold);
bool overlaps_any(const BoxOf<double>& box, const double* const columns[5], int64_t count, double iou_threshold);

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
