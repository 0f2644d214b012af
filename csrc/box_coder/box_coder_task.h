// encode_boxes and decode_boxes: the entry points. Row r of N * P rows belongs to default box r % P.
#pragma once

#include <cstdint>

#include "common/box_math.h"
#include "common/dtype.h"
#include "common/stream.h"

namespace ssd {

struct BoxCoderTask {
  int64_t num_rows;           // N * P
  int64_t num_default_boxes;  // P
  const Box* default_boxes;
  BoxCoder coder;
};

void decode_boxes_cpu(const BoxCoderTask& task, const void* deltas, DType dtype, Box* boxes);
void decode_boxes_cuda(const BoxCoderTask& task, const void* deltas, DType dtype, Box* boxes, Stream stream);
void encode_boxes_cpu(const BoxCoderTask& task, const Box* boxes, float* deltas);
void encode_boxes_cuda(const BoxCoderTask& task, const Box* boxes, float* deltas, Stream stream);

// One row, as every backend computes it.
template <typename T>
SSD_HD Box decode_row(const BoxCoderTask& task, const T* deltas, int64_t row) {
  const T* d = deltas + 4 * row;
  const Deltas offsets = load_deltas(to_float(d[0]), to_float(d[1]), to_float(d[2]), to_float(d[3]), task.coder.yx);
  return decode(offsets, task.default_boxes[row % task.num_default_boxes], task.coder);
}
SSD_HD void encode_row(const BoxCoderTask& task, const Box* boxes, float* deltas, int64_t row) {
  const Deltas offsets = encode(boxes[row], task.default_boxes[row % task.num_default_boxes], task.coder);
  float* d = deltas + 4 * row;
  const bool yx = task.coder.yx;
  d[0] = yx ? offsets.y : offsets.x;
  d[1] = yx ? offsets.x : offsets.y;
  d[2] = yx ? offsets.h : offsets.w;
  d[3] = yx ? offsets.w : offsets.h;
}

}  // namespace ssd
