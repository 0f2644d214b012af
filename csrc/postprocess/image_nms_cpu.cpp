// The second stage of postprocess on the CPU: sorts no more candidates than needed, decodes their boxes, suppresses.
#include "postprocess/image_nms_cpu.h"

#include <algorithm>
#include <functional>

#include "common/interrupt.h"
#include "common/simd.h"

namespace ssd {
namespace {

constexpr std::greater<uint64_t> kBestFirst;
constexpr size_t kFirstChunk = 64;  // the fewest candidates to sort first; then twice as many, and so on
constexpr int kBatch = 32;          // candidates that are decoded together

SSD_CLONES void decode_candidates(const PostprocessTask& task, int64_t image, const int* rows, int count, Box* boxes) {
  for (int i = 0; i < count; ++i) boxes[i] = decode_candidate(task, image, rows[i]);
}

}  // namespace

ImageNms::ImageNms(const PostprocessTask& task)
    : task_(task), taken_(task.num_segments()), kept_sets_(task.iou_threshold.value, task.num_segments()) {}

bool ImageNms::run(int64_t image, Candidates& candidates) {
  Vector<uint64_t>& keys = candidates.keys;
  if (task_.top_k_scope != TopKScope::segment) keep_top_k_of_scopes(keys);
  if (candidates.complete_from > 0) {
    const auto is_incomplete = [&](uint64_t key) { return key < candidates.complete_from; };
    keys.erase(std::remove_if(keys.begin(), keys.end(), is_incomplete), keys.end());
  }
  std::fill(taken_.begin(), taken_.end(), 0);
  kept_sets_.clear();
  kept_keys_.clear();
  kept_boxes_.clear();
  size_t chunk = std::max(kFirstChunk, static_cast<size_t>(task_.keep_top_k) + task_.keep_top_k / 2);
  for (auto first = keys.begin(); first != keys.end() && !is_full(); chunk *= 2) {
    const auto last = static_cast<size_t>(keys.end() - first) > chunk ? first + chunk : keys.end();
    if (last != keys.end()) std::nth_element(first, last, keys.end(), kBestFirst);
    std::sort(first, last, kBestFirst);
    for (; first < last && !is_full(); first += std::min<int64_t>(kBatch, last - first)) {
      take(image, &*first, std::min<int64_t>(kBatch, last - first));
    }
    if (is_full()) break;
    const auto is_over = [&](uint64_t key) {  // its segment has taken its top_k
      return taken_[task_.segment_of(column_of(task_, candidate_of(task_, key)))] >= task_.segment_top_k();
    };
    keys.erase(std::remove_if(last, keys.end(), is_over), keys.end());
    first = last;
  }
  return is_full() || candidates.complete_from == 0;
}

// Drops the candidates outside the best top_k of their level or image, and turns the others into detection keys.
void ImageNms::keep_top_k_of_scopes(Vector<uint64_t>& keys) {
  for (auto& scope_keys : keys_of_scopes_) scope_keys.clear();
  for (const uint64_t key : keys) keys_of_scopes_[task_.scope_of(row_of(task_, key))].push_back(key);
  keys.clear();
  for (int scope = 0; scope < task_.num_scopes(); ++scope) {
    Vector<uint64_t>& scope_keys = keys_of_scopes_[scope];
    if (static_cast<int64_t>(scope_keys.size()) > task_.top_k) {
      std::nth_element(scope_keys.begin(), scope_keys.begin() + task_.top_k, scope_keys.end(), kBestFirst);
      scope_keys.resize(task_.top_k);
    }
    for (const uint64_t key : scope_keys) keys.push_back(detection_key(task_, key));
  }
}

// Takes up to kBatch more candidates, best first.
void ImageNms::take(int64_t image, const uint64_t* keys, size_t count) {
  poll_interrupt(static_cast<int64_t>(count * (1 + kept_keys_.size())));
  int rows[kBatch] = {}, segments[kBatch];
  uint64_t chosen[kBatch];
  Box boxes[kBatch];
  int num_chosen = 0;
  for (size_t i = 0; i < count; ++i) {
    const uint64_t key = candidate_of(task_, keys[i]);
    const int segment = task_.segment_of(column_of(task_, key));
    chosen[num_chosen] = keys[i];
    rows[num_chosen] = row_of(task_, key);
    segments[num_chosen] = segment;
    num_chosen += taken_[segment]++ < task_.segment_top_k();
  }
  decode_candidates(task_, image, rows, num_chosen, boxes);
  for (int i = 0; i < num_chosen && !is_full(); ++i) {
    if (!enters_nms(task_, boxes[i])) continue;
    if (kept_sets_.overlaps(segments[i], boxes[i])) continue;
    kept_sets_.add(segments[i], boxes[i]);
    kept_keys_.push_back(chosen[i]);
    kept_boxes_.push_back(boxes[i]);
  }
}

void ImageNms::write(int64_t image) const {
  const int64_t begin = image * task_.keep_top_k;
  const auto count = static_cast<int64_t>(kept_keys_.size());
  for (int64_t i = 0; i < count; ++i) {
    const uint64_t key = candidate_of(task_, kept_keys_[i]);
    task_.boxes[begin + i] = apply_stage(task_, Stage::after_nms, image, kept_boxes_[i]);
    task_.scores[begin + i] = score_of(key);
    task_.labels[begin + i] = column_of(task_, key);
    task_.box_idxs[begin + i] = row_of(task_, key);
  }
  const int64_t padding = task_.keep_top_k - count;
  std::fill_n(task_.boxes + begin + count, padding, Box{0, 0, 0, 0});
  std::fill_n(task_.scores + begin + count, padding, 0.0f);
  std::fill_n(task_.labels + begin + count, padding, int64_t{-1});
  std::fill_n(task_.box_idxs + begin + count, padding, int64_t{-1});
  task_.counts[image] = count;
}

}  // namespace ssd
