// The rows of a level in memory order, which for NCHW maps is not the order of their indices.
#pragma once

#include <cstdlib>
#include <utility>

#include "postprocess/postprocess_task.h"

namespace ssd {

// Runs of equally spaced rows, `length` rows each.
class RowRuns {
 public:
  RowRuns(const HeadMap& map, const int sizes[3]) {
    int steps[3] = {sizes[1] * sizes[2], sizes[2], 1};
    int used = 0;
    for (int d = 0; d < 3; ++d) {  // merge adjacent dimensions that memory does not tell apart
      if (sizes[d] == 1) continue;
      const Dimension next{sizes[d], steps[d], map.strides[d]};
      if (used > 0 && dimensions_[used - 1].stride == next.stride * next.size) {
        dimensions_[used - 1] = {dimensions_[used - 1].size * next.size, next.step, next.stride};
      } else {
        dimensions_[used++] = next;
      }
    }
    int nearest = 0;
    for (int d = 1; d < used; ++d) {
      if (std::llabs(dimensions_[d].stride) <= std::llabs(dimensions_[nearest].stride)) nearest = d;
    }
    std::swap(dimensions_[nearest], dimensions_[2]);
  }

  int length() const { return dimensions_[2].size; }
  int64_t stride() const { return dimensions_[2].stride; }  // between the rows of a run
  int step() const { return dimensions_[2].step; }          // between their indices

  int first_row(int run) const { return outer(run) * dimensions_[0].step + inner(run) * dimensions_[1].step; }
  int64_t first_offset(int run) const {
    return outer(run) * dimensions_[0].stride + inner(run) * dimensions_[1].stride;
  }

 private:
  struct Dimension {
    int size = 1;
    int step = 0;  // of the index of a row
    int64_t stride = 0;
  };
  int outer(int run) const { return run / dimensions_[1].size; }
  int inner(int run) const { return run % dimensions_[1].size; }

  Dimension dimensions_[3];  // the last one is the run
};

}  // namespace ssd
