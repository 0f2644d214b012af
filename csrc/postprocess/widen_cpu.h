// Widens logits of any type to floats, in vectors.
#pragma once

#include <cstdint>

#include "common/dtype.h"

namespace ssd {

// Widens `count` logits that lie `stride` apart.
void widen(const float* from, int64_t stride, int count, float* to);
void widen(const Half* from, int64_t stride, int count, float* to);
void widen(const BFloat16* from, int64_t stride, int count, float* to);

}  // namespace ssd
