// default_boxes on the CPU.
#include "common/parallel.h"
#include "default_boxes/default_boxes_task.h"

namespace ssd {

void default_boxes_cpu(const DefaultBoxParams& params, Box* boxes) {
  parallel_for_parts(params.num_rows, 16384, 4, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) boxes[row] = default_box_at(params, static_cast<int>(row));
  });
}

}  // namespace ssd
