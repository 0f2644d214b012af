// The first stage of nms: candidates in score order.
#pragma once

#include "common/cuda.cuh"
#include "nms/nms_task.h"
#include "nms/score_key.h"

namespace ssd {

// Keys of scores, inverted so that the best is the smallest; NaN scores have the largest key and so come last.
template <typename T>
using SortKey = decltype(score_key(T{}));
template <typename T>
constexpr SortKey<T> kNotACandidate = ~SortKey<T>{0};

template <typename T>
struct SortBuffers {
  SortKey<T>* keys[2];  // [n] each; the sorted ones are in keys[0]
  uint32_t* order[2];   // [n] each; indices in score order are in order[0]
  uint32_t* histogram;  // [kSortDigits, tiles]
};

constexpr int kSortDigits = 256;
constexpr int kSortTile = 2048;  // keys that a block sorts per pass

// Sorts stably by score, descending, ties by index: an LSD radix sort, 4 passes for float and 8 for double.
template <typename T>
void sort_candidates(const T* scores, int64_t n, const SortBuffers<T>& buffers, Stream stream);

}  // namespace ssd
