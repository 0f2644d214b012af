// nms, batched_nms and nms_padded on the CPU: sort once, then greedy NMS per class. Large classes are solved one after
// the other by all threads, the others in parallel.
#include <algorithm>

#include "common/interrupt.h"
#include "common/parallel.h"
#include "common/shared_work.h"
#include "common/vector.h"
#include "nms/kept_sets.h"
#include "nms/nms_task.h"
#include "nms/sort_candidates_cpu.h"

namespace ssd {
namespace {

constexpr int64_t kLargeClass = 16384;    // candidates
constexpr int64_t kSmallestBatch = 2048;  // of a large class
constexpr int64_t kLargestBatch = 8192;
constexpr int64_t kPart = 256;     // candidates of a batch that a thread takes at a time
constexpr int64_t kFewKept = 256;  // kept boxes that a candidate is tested against so fast that threads do not help
constexpr int64_t kStepsPerCandidate = 1024;
constexpr int64_t kBoxesAhead = 24, kCellsAhead = 8;

// The candidates of one call, and which of them are kept. Candidates are named by their place in the order of classes
// and, within a class, of scores.
template <typename T>
class ScoredBoxes {
 public:
  explicit ScoredBoxes(const NmsTask<T>& task) : task_(task) {
    Vector<Candidate<T>> buffer;
    sort_candidates(task.scores, task.n, candidates_, buffer);
    is_kept_.resize(candidates_.size());
    if (task.classes != nullptr) sort_by_class();
  }

  int64_t size() const { return static_cast<int64_t>(candidates_.size()); }

  // The first place of each class, and behind the last.
  Vector<int64_t> class_starts() const {
    Vector<int64_t> starts{0};
    for (size_t i = 1; i < by_class_.size(); ++i) {
      if (by_class_[i].key != by_class_[i - 1].key) starts.push_back(static_cast<int64_t>(i));
    }
    if (size() > 0) starts.push_back(size());
    return starts;
  }

  // Solves the class at the places [begin, end), or goes on with it.
  void solve(int64_t begin, int64_t end, KeptSets<T>& kept) {
    for (int64_t place = begin; place < end; ++place) {
      if (place % kPart == 0) poll_interrupt();
      prefetch(place, end, kept);
      if (!kept.overlaps(0, box(place))) keep(place, kept);
    }
  }

  // Solves a class on the calling thread until enough is kept to make it worthwhile, then on all threads.
  void solve_large(int64_t begin, int64_t end) {
    KeptSets<T> kept(task_.iou_threshold);
    int64_t first = begin;
    while (first < end && kept.count(0) < kFewKept) {
      const int64_t last = std::min(first + kSmallestBatch, end);
      solve(first, last, kept);
      first = last;
    }
    if (end - first < kLargeClass || parallel_threads() == 1) {
      solve(first, end, kept);
    } else {
      SharedWork::with([&](SharedWork& work) { solve_in_batches(first, end, kept, work); });
    }
  }

  // All threads test a batch against what is kept before it. Those that are left are tested one by one, in order,
  // against what has been kept of the batch.
  void solve_in_batches(int64_t begin, int64_t end, KeptSets<T>& kept, SharedWork& work) {
    Vector<char> is_free(kLargestBatch);
    for (int64_t size, first = begin; first < end; first += size) {
      size = std::min({end - first, std::max(first - begin, kSmallestBatch), kLargestBatch});
      work.run((size + kPart - 1) / kPart, [&](int64_t part) {
        const int64_t from = part * kPart;
        test(first + from, first + std::min(from + kPart, size), kept, is_free.data() + from);
      });
      kept.begin_round();
      for (int64_t i = 0; i < size; ++i) {
        if (i % kPart == 0) poll_interrupt();
        prefetch(first + i, first + size, kept);
        if (is_free[i] && !kept.overlaps_in_round(0, box(first + i))) keep(first + i, kept);
      }
    }
  }

  void write_kept() const {
    int64_t count = 0;
    for (int64_t rank = 0; rank < size(); ++rank) {
      if (is_kept_[rank]) task_.kept[count++] = candidates_[rank].index;
    }
    *task_.count = count;
  }

 private:
  void keep(int64_t place, KeptSets<T>& kept) {
    kept.add(0, box(place));
    is_kept_[rank_of(place)] = 1;
  }

  void test(int64_t begin, int64_t end, const KeptSets<T>& kept, char* is_free) const {
    poll_interrupt();
    for (int64_t place = begin; place < end; ++place) {
      prefetch(place, end, kept);
      is_free[place - begin] = !kept.overlaps(0, box(place));
    }
  }

  // Brings into the cache what the places that follow need.
  void prefetch(int64_t place, int64_t end, const KeptSets<T>& kept) const {
    if (place + kBoxesAhead >= end) return;
    __builtin_prefetch(&box(place + kBoxesAhead));
    kept.prefetch(0, box(place + kCellsAhead));
  }

  void sort_by_class() {
    by_class_.resize(candidates_.size());
    for (uint32_t rank = 0; rank < by_class_.size(); ++rank) {
      by_class_[rank] = {static_cast<uint64_t>(task_.classes[candidates_[rank].index]), rank};
    }
    Vector<Ranked<uint64_t>> buffer;
    sort_ranked(by_class_, buffer);
  }

  int64_t rank_of(int64_t place) const { return by_class_.empty() ? place : by_class_[place].index; }
  const BoxOf<T>& box(int64_t place) const { return task_.boxes[candidates_[rank_of(place)].index]; }

  const NmsTask<T>& task_;
  Vector<Candidate<T>> candidates_;    // best first
  Vector<Ranked<uint64_t>> by_class_;  // class and rank; empty if there is one class
  Vector<char> is_kept_;               // by rank
};

template <typename T>
void nms_of(const NmsTask<T>& task) {
  ScoredBoxes<T> boxes(task);
  const Vector<int64_t> starts = boxes.class_starts();
  Vector<int64_t> small_classes;
  for (size_t i = 0; i + 1 < starts.size(); ++i) {
    if (starts[i + 1] - starts[i] >= kLargeClass) {
      boxes.solve_large(starts[i], starts[i + 1]);
    } else {
      small_classes.push_back(static_cast<int64_t>(i));
    }
  }
  parallel_for(static_cast<int64_t>(small_classes.size()), 1, [&](int64_t begin, int64_t end) {
    KeptSets<T> kept(task.iou_threshold);
    for (int64_t i = begin; i < end; ++i) {
      kept.clear();
      boxes.solve(starts[small_classes[i]], starts[small_classes[i] + 1], kept);
    }
  });
  boxes.write_kept();
}

}  // namespace

void nms_cpu(const NmsTask<float>& task) { nms_of(task); }
void nms_cpu(const NmsTask<double>& task) { nms_of(task); }

void nms_padded_cpu(const NmsPaddedTask& task) {
  parallel_for(task.images * task.segments_per_image, 1 + 4096 / (task.n + 1), [&](int64_t begin, int64_t end) {
    Vector<Candidate<float>> candidates, buffer;
    KeptSets<float> kept_set(task.iou_threshold);
    for (int64_t segment = begin; segment < end; ++segment) {
      const Box* boxes = task.boxes + segment / task.segments_per_image * task.n;
      int64_t* kept = task.kept + segment * task.max_output;
      int64_t count = 0;
      sort_candidates(task.scores + segment * task.n, task.n, candidates, buffer);
      kept_set.clear();
      for (const Candidate<float>& candidate : candidates) {
        if (count == task.max_output) break;
        poll_interrupt(kStepsPerCandidate);
        const Box& box = boxes[candidate.index];
        if (kept_set.overlaps(0, box)) continue;
        kept_set.add(0, box);
        kept[count++] = candidate.index;
      }
      std::fill(kept + count, kept + task.max_output, int64_t{-1});
      task.counts[segment] = count;
    }
  });
}

}  // namespace ssd
