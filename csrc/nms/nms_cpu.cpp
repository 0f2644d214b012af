// nms, batched_nms and nms_padded on the CPU: sort once, then greedy NMS per class, classes in parallel.
#include <algorithm>
#include <numeric>

#include "common/parallel.h"
#include "common/simd.h"
#include "nms/greedy_cpu.h"
#include "nms/nms_task.h"
#include "nms/score_key.h"

namespace ssd {
namespace {

constexpr int64_t kBlock = 64;  // kept boxes that are tested before the result is looked at

template <typename T>
SSD_HD bool overlaps_any_of(const BoxOf<T>& box, const T* const columns[5], int64_t count, T iou_threshold) {
  const T box_area = area(box);
  const auto test = [&](int64_t i) {
    const BoxOf<T> kept{columns[0][i], columns[1][i], columns[2][i], columns[3][i]};
    return iou(kept, columns[4][i], box, box_area) > iou_threshold;
  };
  int64_t begin = 0;
  for (; begin + kBlock <= count; begin += kBlock) {  // a fixed length and no exit inside, so that it vectorizes
    int hits = 0;
    for (int64_t i = begin; i < begin + kBlock; ++i) hits |= test(i);
    if (hits != 0) return true;
  }
  int hits = 0;
  for (int64_t i = begin; i < count; ++i) hits |= test(i);
  return hits != 0;
}

template <typename T>
struct Candidate {
  decltype(score_key(T{})) key;
  int64_t index;
  bool operator<(const Candidate& that) const { return key != that.key ? key > that.key : index < that.index; }
};

// Lists the scores that are not NaN, best first, ties by index.
template <typename T>
void sort_candidates(const T* scores, int64_t n, std::vector<Candidate<T>>& candidates) {
  candidates.clear();
  for (int64_t i = 0; i < n; ++i) {
    if (scores[i] == scores[i]) candidates.push_back({score_key(scores[i]), i});
  }
  std::sort(candidates.begin(), candidates.end());
}

template <typename T>
void nms_of(const NmsTask<T>& task) {
  std::vector<Candidate<T>> candidates;
  sort_candidates(task.scores, task.n, candidates);

  // Ranks grouped by class, best first within each: the groups are independent problems.
  const auto total = static_cast<int64_t>(candidates.size());
  std::vector<int64_t> ranks(total);
  std::iota(ranks.begin(), ranks.end(), 0);
  const auto class_of = [&](int64_t rank) {
    return task.classes == nullptr ? int64_t{0} : task.classes[candidates[rank].index];
  };
  if (task.classes != nullptr) {
    std::stable_sort(ranks.begin(), ranks.end(), [&](int64_t a, int64_t b) { return class_of(a) < class_of(b); });
  }
  std::vector<int64_t> starts;
  for (int64_t i = 0; i < total; ++i) {
    if (i == 0 || class_of(ranks[i]) != class_of(ranks[i - 1])) starts.push_back(i);
  }
  const auto num_groups = static_cast<int64_t>(starts.size());
  starts.push_back(total);

  std::vector<char> is_kept(total, 0);
  parallel_for(num_groups, 1, [&](int64_t begin, int64_t end) {
    GreedyNms<T> greedy(task.iou_threshold);
    for (int64_t group = begin; group < end; ++group) {
      greedy.clear();
      for (int64_t i = starts[group]; i < starts[group + 1]; ++i) {
        is_kept[ranks[i]] = greedy.keep(task.boxes[candidates[ranks[i]].index]);
        poll_interrupt(1 + greedy.size());
      }
    }
  });
  int64_t count = 0;
  for (int64_t rank = 0; rank < total; ++rank) {
    if (is_kept[rank]) task.kept[count++] = candidates[rank].index;
  }
  *task.count = count;
}

}  // namespace

// target_clones does not work on templates.
SSD_CLONES bool overlaps_any(const BoxOf<float>& box, const float* const columns[5], int64_t count,
                             float iou_threshold) {
  return overlaps_any_of(box, columns, count, iou_threshold);
}
SSD_CLONES bool overlaps_any(const BoxOf<double>& box, const double* const columns[5], int64_t count,
                             double iou_threshold) {
  return overlaps_any_of(box, columns, count, iou_threshold);
}

SSD_CLONES bool overlaps_any(const Box& box, const KeptBoxes* blocks, int first, const IouThreshold& iou_threshold) {
  const float box_area = area(box);
  for (int b = first; b >= 0; b = blocks[b].next) {
    const KeptBoxes& kept = blocks[b];
    int hits = 0;
    for (int i = 0; i < KeptBoxes::kSize; ++i) {
      const Box other{kept.x1[i], kept.y1[i], kept.x2[i], kept.y2[i]};
      hits |= (i < kept.count) & (iou(other, kept.areas[i], box, box_area) > iou_threshold.value);
    }
    if (hits != 0) return true;
  }
  return false;
}

void nms_cpu(const NmsTask<float>& task) { nms_of(task); }
void nms_cpu(const NmsTask<double>& task) { nms_of(task); }

void nms_padded_cpu(const NmsPaddedTask& task) {
  parallel_for(task.images * task.segments_per_image, 1 + 4096 / (task.n + 1), [&](int64_t begin, int64_t end) {
    std::vector<Candidate<float>> candidates;
    GreedyNms<float> greedy(task.iou_threshold);
    for (int64_t segment = begin; segment < end; ++segment) {
      const Box* boxes = task.boxes + segment / task.segments_per_image * task.n;
      int64_t* kept = task.kept + segment * task.max_output;
      sort_candidates(task.scores + segment * task.n, task.n, candidates);
      greedy.clear();
      for (const Candidate<float>& candidate : candidates) {
        if (greedy.size() == task.max_output) break;
        poll_interrupt(1 + greedy.size());
        if (greedy.keep(boxes[candidate.index])) kept[greedy.size() - 1] = candidate.index;
      }
      std::fill(kept + greedy.size(), kept + task.max_output, int64_t{-1});
      task.counts[segment] = greedy.size();
    }
  });
}

}  // namespace ssd
