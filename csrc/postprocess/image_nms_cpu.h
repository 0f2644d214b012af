// The second stage of postprocess on the CPU: the candidates of an image -> its detections.
#pragma once

#include <vector>

#include "nms/greedy_cpu.h"
#include "postprocess/score_filter_cpu.h"

namespace ssd {

// Greedy NMS of an image. Candidates of all segments are taken best first, so that it can stop at keep_top_k detections:
// of thousands of candidates the first few hundred usually suffice. One per thread: it has the memory that this takes.
class ImageNms {
 public:
  explicit ImageNms(const PostprocessTask& task);

  // Whether the candidates were enough: to keep keep_top_k of them, or because none had been left out. Reorders them.
  bool run(int64_t image, Candidates& candidates);

  // Writes what the last run has kept.
  void write(int64_t image) const;

 private:
  void keep_top_k_of_scopes(std::vector<uint64_t>& keys);
  void take(int64_t image, const uint64_t* keys, size_t count);
  bool is_full() const { return kept_keys_.size() == static_cast<size_t>(task_.keep_top_k); }

  const PostprocessTask& task_;
  std::vector<int> taken_;           // candidates of each segment so far
  std::vector<int> first_block_;     // of each segment: index into blocks_, or -1
  std::vector<KeptBoxes> blocks_;    // of all segments
  std::vector<uint64_t> kept_keys_;  // detection_key
  std::vector<Box> kept_boxes_;
  std::vector<uint64_t> keys_of_scopes_[kMaxHeadLevels];
};

}  // namespace ssd
