// Candidates as integers that order as they rank, so that sorting and selecting need nothing else.
#pragma once

#include "postprocess/postprocess_launch.h"

namespace ssd {

// A score and a place as an integer: larger is better. Scores are not negative, so their bits order as they do; the
// inverted place makes the lower of two tied ones the better.
SSD_HD uint64_t ranking_key(float score, int place) {
  return static_cast<uint64_t>(float_to_bits(score)) << 32 | ~static_cast<uint32_t>(place);
}
SSD_HD float score_of(uint64_t key) { return bits_to_float(static_cast<uint32_t>(key >> 32)); }
SSD_HD int place_of(uint64_t key) { return static_cast<int>(~static_cast<uint32_t>(key)); }

// Of equal scores, the candidate of the lower default box comes first, and of one box that of the lower column.
SSD_HD uint64_t candidate_key(const PostprocessTask& task, float score, int row, int column) {
  return ranking_key(score, row * task.num_columns + column);
}
SSD_HD int row_of(const PostprocessTask& task, uint64_t key) { return place_of(key) / task.num_columns; }
SSD_HD int column_of(const PostprocessTask& task, uint64_t key) { return place_of(key) % task.num_columns; }

// The order of detections: of equal scores the lower column first, unless columns do not matter.
SSD_HD uint64_t detection_key(const PostprocessTask& task, uint64_t candidate) {
  if (task.class_mode == ClassMode::agnostic) return candidate;
  return ranking_key(score_of(candidate), column_of(task, candidate) * task.num_rows + row_of(task, candidate));
}
SSD_HD uint64_t candidate_of(const PostprocessTask& task, uint64_t detection) {
  if (task.class_mode == ClassMode::agnostic) return detection;
  const int place = place_of(detection);
  return candidate_key(task, score_of(detection), place % task.num_rows, place / task.num_rows);
}

}  // namespace ssd
