// The second stage of postprocess on the CPU: turns the candidates of an image into its detections.
#pragma once

#include <vector>

#include "common/vector.h"
#include "nms/kept_sets.h"
#include "postprocess/score_filter_cpu.h"

namespace ssd {

// Greedy NMS of an image. Candidates of all segments are taken best first, so that it can stop at keep_top_k
// detections: of thousands of candidates the first few hundred usually suffice. One per thread, which reuses its
// memory.
class ImageNms {
 public:
  explicit ImageNms(const PostprocessTask& task);

  // Returns whether the candidates sufficed: keep_top_k are kept, or none had been left out. Reorders them.
  bool run(int64_t image, Candidates& candidates);

  // Writes the detections of the last run.
  void write(int64_t image) const;

 private:
  void keep_top_k_of_scopes(Vector<uint64_t>& keys);
  void take(int64_t image, const uint64_t* keys, size_t count);
  bool is_full() const { return kept_keys_.size() == static_cast<size_t>(task_.keep_top_k); }

  const PostprocessTask& task_;
  Vector<int> taken_;           // how many candidates of each segment so far
  KeptSets<float> kept_sets_;   // of all segments
  Vector<uint64_t> kept_keys_;  // detection_key
  Vector<Box> kept_boxes_;
  Vector<uint64_t> keys_of_scopes_[kMaxHeadLevels];
};

}  // namespace ssd
