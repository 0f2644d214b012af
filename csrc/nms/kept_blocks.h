// Storage of the boxes that NMS on the CPU has kept: blocks of columns, linked to lists.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "common/box_math.h"

namespace ssd {

// Up to kSize boxes of one list. Places without a box hold an empty one, which overlaps none.
template <typename T, int kSize>
struct KeptBlock {
  T x1[kSize] = {}, y1[kSize] = {}, x2[kSize] = {}, y2[kSize] = {};
  int count = 0;
  const KeptBlock* next = nullptr;

  bool is_full() const { return count == kSize; }
  BoxOf<T> box(int i) const { return {x1[i], y1[i], x2[i], y2[i]}; }
  void add(const BoxOf<T>& box) {
    x1[count] = box.x1, y1[count] = box.y1, x2[count] = box.x2, y2[count] = box.y2;
    ++count;
  }
};

// Whether a box of the list that begins with this block has an IoU with the box above the threshold, which is not
// negative.
template <typename T, int kSize>
SSD_HD bool overlaps_list(const KeptBlock<T, kSize>* first, const BoxOf<T>& box, T box_area, T iou_threshold) {
  for (const auto* block = first; block != nullptr; block = block->next) {
    int hits = 0;
    for (int i = 0; i < kSize; ++i) {  // a fixed length and no exit inside, so that it vectorizes
      const BoxOf<T> kept{block->x1[i], block->y1[i], block->x2[i], block->y2[i]};
      hits |= iou(kept, area(kept), box, box_area) > iou_threshold;
    }
    if (hits != 0) return true;
  }
  return false;
}

// An array that grows without moving its elements, and keeps its memory when it is cleared.
template <typename Element>
class StableArray {
 public:
  int size() const { return size_; }
  void clear() { size_ = 0; }

  Element& operator[](int i) { return pages_[i / kPage][i % kPage]; }
  const Element& operator[](int i) const { return pages_[i / kPage][i % kPage]; }

  // Appends an element and returns it.
  Element& add() {
    if (size_ / kPage == static_cast<int>(pages_.size())) pages_.emplace_back(new Element[kPage]);
    Element& added = (*this)[size_++];
    added = Element{};
    return added;
  }

 private:
  static constexpr int kPage = 64;  // so small that malloc reuses the memory from call to call

  std::vector<std::unique_ptr<Element[]>> pages_;
  int size_ = 0;
};

}  // namespace ssd
