// Sorts the candidates of NMS on the CPU, best first.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

#include "common/interrupt.h"
#include "common/vector.h"
#include "nms/score_key.h"

namespace ssd {

template <typename Key>
struct Ranked {
  Key key;
  uint32_t index;
  bool operator<(const Ranked& that) const { return key != that.key ? key < that.key : index < that.index; }
};

// Sorts items with ascending indices by ascending key, then index. Uses `buffer` as memory.
template <int kBits, typename Key>
void radix_sort(Vector<Ranked<Key>>& items, Vector<Ranked<Key>>& buffer) {
  constexpr int kPasses = (8 * sizeof(Key) + kBits - 1) / kBits;
  constexpr uint32_t kBins = 1u << kBits;
  const auto digit = [](Key key, int pass) { return static_cast<uint32_t>(key >> (pass * kBits)) & (kBins - 1); };
  std::array<std::array<uint32_t, kBins>, kPasses> counts{};
  for (const Ranked<Key>& item : items) {
    for (int pass = 0; pass < kPasses; ++pass) ++counts[pass][digit(item.key, pass)];
  }
  buffer.resize(items.size());
  for (int pass = 0; pass < kPasses; ++pass) {
    poll_interrupt();
    std::array<uint32_t, kBins>& starts = counts[pass];
    if (starts[digit(items[0].key, pass)] == items.size()) continue;  // all alike
    uint32_t start = 0;
    for (uint32_t& count : starts) start += std::exchange(count, start);
    for (const Ranked<Key>& item : items) buffer[starts[digit(item.key, pass)]++] = item;
    std::swap(items, buffer);
  }
}

// The same, by the fastest means for so many items.
template <typename Key>
void sort_ranked(Vector<Ranked<Key>>& items, Vector<Ranked<Key>>& buffer) {
  if (items.size() < 128) {
    std::sort(items.begin(), items.end());
  } else if (items.size() < 8192) {
    radix_sort<8>(items, buffer);
  } else {
    radix_sort<11>(items, buffer);
  }
}

template <typename T>
using Candidate = Ranked<decltype(score_key(T{}))>;

// Lists the scores that are not NaN, best first, ties by index.
template <typename T>
void sort_candidates(const T* scores, int64_t n, Vector<Candidate<T>>& candidates, Vector<Candidate<T>>& buffer) {
  candidates.resize(n);
  size_t count = 0;
  for (int64_t i = 0; i < n; ++i) {
    candidates[count] = {~score_key(scores[i]), static_cast<uint32_t>(i)};
    count += scores[i] == scores[i];
  }
  candidates.resize(count);
  sort_ranked(candidates, buffer);
}

}  // namespace ssd
