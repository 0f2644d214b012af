// new_op: the entry points, with raw pointers.
#pragma once

#include <cstdint>

#include "common/box_math.h"
#include "common/stream.h"

namespace ssd {

void new_op_cpu(const Box* boxes, int64_t n, float* out);
void new_op_cuda(const Box* boxes, int64_t n, float* out, Stream stream);

}  // namespace ssd
