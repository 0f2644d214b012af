// Storage of the boxes that NMS on the CPU has kept: blocks of columns, linked to lists.
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/box_math.h"
#include "common/vector.h"

namespace ssd {

// Up to kSize boxes of one list, which are tested in groups. Places of a group without a box hold an empty one, which
// overlaps none.
template <typename T, int kSize>
struct KeptBlock {
  static constexpr int kGroup = 8;

  T x1[kSize], y1[kSize], x2[kSize], y2[kSize];
  int count = 0;
  const KeptBlock* next = nullptr;

  bool is_full() const { return count == kSize; }
  BoxOf<T> box(int i) const { return {x1[i], y1[i], x2[i], y2[i]}; }
  void add(const BoxOf<T>& box) {
    if (count % kGroup == 0) {
      for (T* column : {x1, y1, x2, y2}) std::fill_n(column + count, kGroup, T(0));
    }
    x1[count] = box.x1, y1[count] = box.y1, x2[count] = box.x2, y2[count] = box.y2;
    ++count;
  }
};

// Whether a box of the block has an IoU with the box above the threshold, which is not negative.
template <typename T, int kSize>
SSD_HD bool overlaps_block(const KeptBlock<T, kSize>& block, const BoxOf<T>& box, T box_area, T iou_threshold) {
  constexpr int kGroup = KeptBlock<T, kSize>::kGroup;
  const auto test = [&](int i) {
    const BoxOf<T> kept = block.box(i);
    return iou_quotient(kept, area(kept), box, box_area) > iou_threshold;
  };
  int hits = 0;  // the inner loops have a fixed length and no exit, so that they vectorize
  if (kSize > kGroup && block.is_full()) {
    for (int i = 0; i < kSize; ++i) hits |= test(i);
    return hits != 0;
  }
  for (int begin = 0; begin < block.count; begin += kGroup) {
    for (int i = begin; i < begin + kGroup; ++i) hits |= test(i);
  }
  return hits != 0;
}

// The same for the list that begins with a block.
template <typename T, int kSize>
SSD_HD bool overlaps_list(const KeptBlock<T, kSize>* block, const BoxOf<T>& box, T box_area, T iou_threshold) {
  for (; block != nullptr; block = block->next) {
    if (overlaps_block(*block, box, box_area, iou_threshold)) return true;
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

  // Appends an element and returns it. It may have been in use before.
  Element& add() {
    if (size_ / kPage == static_cast<int>(pages_.size())) pages_.emplace_back(kPage);
    return (*this)[size_++];
  }

 private:
  static constexpr int kPage = 8192 / sizeof(Element);  // so small that malloc reuses the memory from call to call

  Vector<Vector<Element>> pages_;
  int size_ = 0;
};

}  // namespace ssd
