// The first stage of postprocess on the CPU: logits -> the candidates of each class.
#pragma once

#include <vector>

#include "postprocess/postprocess_launch.h"

namespace ssd {

struct ClassCandidate {
  int column;
  uint64_t key;  // candidate_key
};

// Appends the candidates of rows [begin, end) of an image, rows ascending and columns ascending within a row.
void score_filter_cpu(const PostprocessTask& task, int64_t image, int begin, int end,
                      std::vector<ClassCandidate>& candidates);

}  // namespace ssd
