// A rank and an index in one integer that orders as they rank, so that sorting and selecting need nothing else.
#pragma once

#include <cstdint>

#include "common/box_math.h"

namespace ssd {

// Larger is better: the larger rank, or of two equal ranks the lower index, which is therefore inverted. What the rank
// is, each family defines.
SSD_HD uint64_t ranking_key(uint32_t rank, uint32_t index) { return static_cast<uint64_t>(rank) << 32 | ~index; }
SSD_HD uint32_t rank_of(uint64_t key) { return static_cast<uint32_t>(key >> 32); }
SSD_HD uint32_t index_of(uint64_t key) { return ~static_cast<uint32_t>(key); }

}  // namespace ssd
