// postprocess on the CPU in three parallel stages: candidates of row tiles, NMS of segments, merge of images.
#include <algorithm>
#include <functional>
#include <vector>

#include "common/parallel.h"
#include "common/simd.h"
#include "nms/greedy_cpu.h"
#include "postprocess/postprocess_launch.h"
#include "postprocess/score_filter_cpu.h"

namespace ssd {
namespace {

constexpr int kRowsPerTask = 512;
// What a thread must have to do to be worth waking: about 20 microseconds.
constexpr int64_t kLogitsPerThread = 1 << 16;
constexpr int64_t kCandidatesPerThread = 512;
constexpr size_t kFirstChunk = 512;  // candidates of a segment that are sorted first; then twice as many, and so on

struct Kept {
  uint64_t key;  // detection_key
  Box box;
  bool operator<(const Kept& that) const { return key > that.key; }  // best first
};

struct Segment {  // candidates of one image that may suppress each other
  int64_t image;
  std::vector<uint64_t> keys;
  std::vector<Kept> kept;
};

using KeyLists = std::vector<std::vector<uint64_t>>;  // the candidates of each tile of rows, images ascending

KeyLists filter_all(const PostprocessTask& task, int64_t tasks_per_image) {
  KeyLists lists(task.num_images * tasks_per_image);
  const int64_t grain = 1 + kLogitsPerThread / (int64_t{kRowsPerTask} * task.num_columns);
  parallel_for(static_cast<int64_t>(lists.size()), grain, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const int begin = static_cast<int>(i % tasks_per_image) * kRowsPerTask;
      score_filter_cpu(task, i / tasks_per_image, begin, std::min(begin + kRowsPerTask, task.num_rows), lists[i]);
    }
  });
  return lists;
}

constexpr std::greater<uint64_t> kBestFirst;

// Drops what is not among the best top_k of its level, or of its image.
void keep_top_k_of_scopes(const PostprocessTask& task, int64_t tasks_per_image, KeyLists& lists) {
  std::vector<uint64_t> of_scope[kMaxHeadLevels];
  for (int64_t image = 0; image < task.num_images; ++image) {
    const auto begin = lists.begin() + image * tasks_per_image, end = begin + tasks_per_image;
    for (auto& keys : of_scope) keys.clear();
    for (auto list = begin; list != end; ++list) {
      for (const uint64_t key : *list) of_scope[task.scope_of(row_of(task, key))].push_back(key);
    }
    uint64_t least[kMaxHeadLevels] = {};
    for (int scope = 0; scope < task.num_scopes(); ++scope) {
      std::vector<uint64_t>& keys = of_scope[scope];
      if (static_cast<int64_t>(keys.size()) <= task.top_k) continue;
      const auto last = keys.begin() + task.top_k - 1;
      std::nth_element(keys.begin(), last, keys.end(), kBestFirst);
      least[scope] = *last;
    }
    for (auto list = begin; list != end; ++list) {
      const auto drops = [&](uint64_t key) { return key < least[task.scope_of(row_of(task, key))]; };
      list->erase(std::remove_if(list->begin(), list->end(), drops), list->end());
    }
  }
}

// The non-empty segments, images ascending.
std::vector<Segment> group_by_segment(const PostprocessTask& task, int64_t tasks_per_image, const KeyLists& lists) {
  std::vector<Segment> segments;
  std::vector<int> index_of(task.num_segments());
  for (int64_t image = 0; image < task.num_images; ++image) {
    std::fill(index_of.begin(), index_of.end(), -1);
    for (int64_t i = 0; i < tasks_per_image; ++i) {
      for (const uint64_t key : lists[image * tasks_per_image + i]) {
        int& index = index_of[task.segment_of(column_of(task, key))];
        if (index < 0) {
          index = static_cast<int>(segments.size());
          segments.push_back({image, {}, {}});
        }
        segments[index].keys.push_back(key);
      }
    }
  }
  return segments;
}

SSD_CLONES void decode_candidates(const PostprocessTask& task, int64_t image, const uint64_t* keys, size_t count,
                                  Box* boxes) {
  for (size_t i = 0; i < count; ++i) boxes[i] = decode_candidate(task, image, row_of(task, keys[i]));
}

// Candidates are sorted and decoded a chunk at a time: of thousands the first hundreds usually fill keep_top_k, more than
// which of one segment could not be among the image's best.
void suppress(const PostprocessTask& task, Segment& segment, GreedyNms<float>& greedy) {
  std::vector<uint64_t>& keys = segment.keys;
  const size_t end = std::min<size_t>(keys.size(), task.segment_top_k());
  std::vector<Box> boxes;
  greedy.clear();
  for (size_t first = 0, count = kFirstChunk; first < end && greedy.size() < task.keep_top_k; count *= 2) {
    const size_t last = std::min(first + count, end);
    if (last < keys.size()) std::nth_element(keys.begin() + first, keys.begin() + last, keys.end(), kBestFirst);
    std::sort(keys.begin() + first, keys.begin() + last, kBestFirst);
    boxes.resize(last - first);
    decode_candidates(task, segment.image, &keys[first], last - first, boxes.data());
    for (size_t i = 0; first < last && greedy.size() < task.keep_top_k; ++i, ++first) {
      if (enters_nms(task, boxes[i]) && greedy.keep(boxes[i])) {
        segment.kept.push_back({detection_key(task, keys[first]), boxes[i]});
      }
    }
  }
}

void write_image(const PostprocessTask& task, int64_t image, const Segment* begin, const Segment* end) {
  std::vector<Kept> kept;
  for (const Segment* segment = begin; segment != end; ++segment) {
    kept.insert(kept.end(), segment->kept.begin(), segment->kept.end());
  }
  const size_t count = std::min<size_t>(kept.size(), task.keep_top_k);
  std::partial_sort(kept.begin(), kept.begin() + count, kept.end());
  const int64_t first = image * task.keep_top_k;
  for (size_t i = 0; i < static_cast<size_t>(task.keep_top_k); ++i) {
    const bool filled = i < count;
    const uint64_t key = filled ? candidate_of(task, kept[i].key) : 0;
    task.boxes[first + i] = filled ? apply_stage(task, Stage::after_nms, image, kept[i].box) : Box{0, 0, 0, 0};
    task.scores[first + i] = filled ? score_of(key) : 0.0f;
    task.labels[first + i] = filled ? column_of(task, key) : -1;
    task.box_idxs[first + i] = filled ? row_of(task, key) : -1;
  }
  task.counts[image] = static_cast<int64_t>(count);
}

}  // namespace

void postprocess_cpu(const PostprocessTask& task) {
  const int64_t tasks_per_image = (task.num_rows + kRowsPerTask - 1) / kRowsPerTask;
  KeyLists lists = filter_all(task, tasks_per_image);
  if (task.top_k_scope != TopKScope::segment) keep_top_k_of_scopes(task, tasks_per_image, lists);
  std::vector<Segment> segments = group_by_segment(task, tasks_per_image, lists);

  int64_t num_candidates = 0;
  for (const Segment& segment : segments) num_candidates += static_cast<int64_t>(segment.keys.size());
  const auto num_segments = static_cast<int64_t>(segments.size());
  const int64_t grain = 1 + num_segments * kCandidatesPerThread / (num_candidates + 1);
  parallel_for(num_segments, grain, [&](int64_t begin, int64_t end) {
    GreedyNms<float> greedy(task.iou_threshold.value);
    for (int64_t i = begin; i < end; ++i) suppress(task, segments[i], greedy);
  });

  std::vector<int64_t> first_segment(task.num_images + 1, 0);
  for (const Segment& segment : segments) ++first_segment[segment.image + 1];
  for (int64_t image = 0; image < task.num_images; ++image) first_segment[image + 1] += first_segment[image];
  parallel_for(task.num_images, 1 + task.num_images * kCandidatesPerThread / (num_candidates + 1),
               [&](int64_t begin, int64_t end) {
                 for (int64_t image = begin; image < end; ++image) {
                   write_image(task, image, segments.data() + first_segment[image],
                               segments.data() + first_segment[image + 1]);
                 }
               });
}

}  // namespace ssd
