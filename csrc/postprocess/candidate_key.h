// The ranking keys of candidates and of detections.
#pragma once

#include "common/ranking_key.h"
#include "postprocess/postprocess_task.h"

namespace ssd {

// Ranks candidates by score, then by the lower row, then by the lower column. Scores are not negative, so their bits
// order as they do. P * C is below 2^31, so a row and column_bits fit into 32 bits.
SSD_HD uint64_t candidate_key(const PostprocessTask& task, float score, int row, int column) {
  const uint32_t place = static_cast<uint32_t>(row) << task.column_bits | static_cast<uint32_t>(column);
  return ranking_key(float_to_bits(score), place);
}
SSD_HD float score_of(uint64_t key) { return bits_to_float(rank_of(key)); }
SSD_HD int row_of(const PostprocessTask& task, uint64_t key) {
  return static_cast<int>(index_of(key) >> task.column_bits);
}
SSD_HD int column_of(const PostprocessTask& task, uint64_t key) {
  return static_cast<int>(index_of(key) & ((1u << task.column_bits) - 1));
}

// Ranks detections by score, then by the lower column (unless suppression ignores columns), then by the lower row.
SSD_HD uint64_t detection_key(const PostprocessTask& task, uint64_t candidate) {
  if (task.class_mode == ClassMode::agnostic) return candidate;
  const auto column = static_cast<uint32_t>(column_of(task, candidate));
  return ranking_key(rank_of(candidate), column * task.num_rows + row_of(task, candidate));
}
SSD_HD uint64_t candidate_of(const PostprocessTask& task, uint64_t detection) {
  if (task.class_mode == ClassMode::agnostic) return detection;
  const uint32_t rows = task.num_rows;
  const uint32_t place = index_of(detection);
  return candidate_key(task, score_of(detection), static_cast<int>(place % rows), static_cast<int>(place / rows));
}

}  // namespace ssd
