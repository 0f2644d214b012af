// overlap.h: the question that run_overlap.cpp asks the kernel of overlap.cu.
#pragma once

#include <cstdint>

#include "common/box_math.h"
#include "common/stream.h"

namespace ssd::test {

struct Pair {
  Box a, b;
  float threshold;
};

// decisions[i]: bit 0: a, b overlap by more than the threshold; bit 1: b, a do.
void overlaps_cuda(const Pair* pairs, int count, uint8_t* decisions, Stream stream);

}  // namespace ssd::test
