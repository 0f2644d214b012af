// Maps scores to integers that order as they do, for sorting and selecting on every backend.
#pragma once

#include <cstdint>

#include "common/box_math.h"

namespace ssd {

// Larger is better; -0 and +0 have the same key; NaN, and no other score, has key 0.
SSD_HD uint32_t score_key(float score) {
  if (!(score == score)) return 0;
  const uint32_t bits = float_to_bits(add(score, 0.0f));  // -0 + 0 is +0
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
SSD_HD uint64_t score_key(double score) {
  if (!(score == score)) return 0;
  const uint64_t bits = double_to_bits(add(score, 0.0));
  return bits >> 63 ? ~bits : bits | (uint64_t{1} << 63);
}

}  // namespace ssd
