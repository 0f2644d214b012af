// encode_boxes and decode_boxes on the CPU.
#include "box_coder/box_coder_task.h"
#include "common/parallel.h"
#include "common/simd.h"

namespace ssd {
namespace {

constexpr int64_t kGrain = 8192;  // rows that make a thread worth waking: some 100 microseconds of work

template <typename T>
SSD_HD void decode_range(const BoxCoderTask& task, const T* deltas, Box* boxes, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) boxes[row] = decode_row(task, deltas, row);
}

// target_clones does not work on templates.
SSD_CLONES void decode_range_of(const BoxCoderTask& task, const float* deltas, Box* boxes, int64_t begin, int64_t end) {
  decode_range(task, deltas, boxes, begin, end);
}
SSD_CLONES void decode_range_of(const BoxCoderTask& task, const Half* deltas, Box* boxes, int64_t begin, int64_t end) {
  decode_range(task, deltas, boxes, begin, end);
}
SSD_CLONES void decode_range_of(const BoxCoderTask& task, const BFloat16* deltas, Box* boxes, int64_t begin,
                                int64_t end) {
  decode_range(task, deltas, boxes, begin, end);
}
SSD_CLONES void encode_range(const BoxCoderTask& task, const Box* boxes, float* deltas, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) encode_row(task, boxes, deltas, row);
}

}  // namespace

void decode_boxes_cpu(const BoxCoderTask& task, const void* deltas, DType dtype, Box* boxes) {
  visit_logit_type(dtype, [&](auto zero) {
    const auto* typed = static_cast<const decltype(zero)*>(deltas);
    parallel_for_parts(task.num_rows, kGrain, 4,
                       [&](int64_t begin, int64_t end) { decode_range_of(task, typed, boxes, begin, end); });
  });
}

void encode_boxes_cpu(const BoxCoderTask& task, const Box* boxes, float* deltas) {
  parallel_for_parts(task.num_rows, kGrain, 4,
                     [&](int64_t begin, int64_t end) { encode_range(task, boxes, deltas, begin, end); });
}

}  // namespace ssd
