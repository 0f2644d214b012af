// Candidates as integers that order as they rank, so that sorting and selecting need nothing else.
#pragma once

#include "postprocess/postprocess_task.h"

namespace ssd {

// A score and a place as an integer: larger is better. Scores are not negative, so their bits order as they do; the
// inverted place makes the lower of two tied ones the better.
SSD_HD uint64_t ranking_key(float score, uint32_t place) {
  return static_cast<uint64_t>(float_to_bits(score)) << 32 | static_cast<uint32_t>(~place);
}
SSD_HD float score_of(uint64_t key) { return bits_to_float(static_cast<uint32_t>(key >> 32)); }
SSD_HD uint32_t place_of(uint64_t key) { return ~static_cast<uint32_t>(key); }

// Of equal scores, the candidate of the lower default box comes first, and of one box that of the lower column. P * C is
// below 2^31, so a row and column_bits fit into 32 bits.
SSD_HD uint64_t candidate_key(const PostprocessTask& task, float score, int row, int column) {
  return ranking_key(score, static_cast<uint32_t>(row) << task.column_bits | static_cast<uint32_t>(column));
}
SSD_HD int row_of(const PostprocessTask& task, uint64_t key) {
  return static_cast<int>(place_of(key) >> task.column_bits);
}
SSD_HD int column_of(const PostprocessTask& task, uint64_t key) {
  return static_cast<int>(place_of(key) & ((1u << task.column_bits) - 1));
}

// The order of detections: of equal scores the lower column first, unless columns do not matter.
SSD_HD uint64_t detection_key(const PostprocessTask& task, uint64_t candidate) {
  if (task.class_mode == ClassMode::agnostic) return candidate;
  const auto column = static_cast<uint32_t>(column_of(task, candidate));
  return ranking_key(score_of(candidate), column * task.num_rows + row_of(task, candidate));
}
SSD_HD uint64_t candidate_of(const PostprocessTask& task, uint64_t detection) {
  if (task.class_mode == ClassMode::agnostic) return detection;
  const uint32_t rows = task.num_rows;
  const auto row = static_cast<int>(place_of(detection) % rows), column = static_cast<int>(place_of(detection) / rows);
  return candidate_key(task, score_of(detection), row, column);
}

}  // namespace ssd
