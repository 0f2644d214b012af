// The first stage of postprocess on the CPU: logits -> the candidates.
#pragma once

#include <vector>

#include "postprocess/candidate_key.h"

namespace ssd {

// Appends the candidate keys of rows [begin, end) of an image, rows ascending and columns ascending within a row.
void score_filter_cpu(const PostprocessTask& task, int64_t image, int begin, int end,
                      std::vector<uint64_t>& candidates);

}  // namespace ssd
