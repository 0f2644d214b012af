// Finds the best candidates of one segment, in order, with a whole block.
#pragma once

#include <algorithm>

#include "common/sort.cuh"
#include "nms/tile.cuh"
#include "postprocess/column.cuh"

namespace ssd {

struct Segment {
  int64_t image;
  int local_index;  // among the segments of its image
  int64_t index;    // among those of all images
  int size;         // in candidates
};

// A segment's candidates are gathered in shared memory, from the lists or from its column. If they do not fit, nearly
// every row holds one, and the column's scores are staged instead, one per row: those of an SSD300 at once, those of an
// SSD512 in three parts.
constexpr int kGatheredKeys = 4480;
constexpr int kStagedRows = 2 * kGatheredKeys;

struct ColumnShared {  // dynamic shared memory
  uint64_t* keys;      // [min(P, kGatheredKeys)] the candidates
  float* scores;       // [min(P, kStagedRows)] in the same place
  uint64_t* best;      // [kSelectedKeys] the best of the parts staged before, if P exceeds kStagedRows
};

inline size_t column_bytes(int num_rows) {
  const int keys = num_rows > kStagedRows ? kGatheredKeys + kSelectedKeys : std::clamp(num_rows, 1, kGatheredKeys);
  return static_cast<size_t>(keys) * sizeof(uint64_t);
}

inline __device__ ColumnShared column_shared(uint64_t* memory) {
  return {memory, reinterpret_cast<float*>(memory), memory + kGatheredKeys};
}

struct BlockShared {
  uint64_t keys[kSelectedKeys];
  SelectShared select;
  TileShared tile;
  int count;
};

// The candidates of a segment, best first, one batch at a time.
template <typename T>
class CandidateBatches {
 public:
  __device__ CandidateBatches(const PostprocessTask& task, const PostprocessWorkspace& workspace,
                              const Segment& segment, const ColumnShared& column, BlockShared& shared)
      : task_(task), workspace_(workspace), segment_(segment), column_(column), shared_(shared) {}

  // Sorts the best `wanted` that have not been taken yet into shared.keys. Returns how many there were. All threads of
  // the block call it, after a barrier; thread t may then read the keys t, t + blockDim.x, ...
  __device__ int take(int wanted) {
    const bool gathered = segment_.size <= kGatheredKeys;
    const int selected = gathered ? select_gathered(wanted) : select_staged(wanted);
    if (selected == 0) return 0;
    block_pad_and_sort(shared_.keys, selected);
    bound_ = shared_.keys[selected - 1];
    if (!gathered && task_.class_mode == ClassMode::agnostic) restore_columns(selected);
    return selected;
  }

 private:
  // Calls use(row, key) for the rows of the segment's column.
  template <typename Use>
  __device__ void visit(int first, int count, const Use& use) const {
    if (task_.class_mode == ClassMode::per_class) {
      visit_column<T>(task_, workspace_, segment_.image, segment_.local_index, first, count, use);
    } else {
      visit_best(task_, workspace_, segment_.image, segment_.local_index, first, count, use);
    }
  }

  __device__ void gather() {
    if (threadIdx.x == 0) shared_.count = 0;
    __syncthreads();
    const auto append = [&](uint64_t key) { column_.keys[atomicAdd(&shared_.count, 1)] = key; };
    const int pool_size = workspace_.pool_sizes[segment_.image];
    if (pool_size <= workspace_.pool_capacity) {
      const auto append_of_segment = [&](uint64_t key) {
        if (task_.segment_of(column_of(task_, key)) != segment_.local_index) return;
        if (enters_top_k(task_, workspace_, segment_.image, key)) append(key);
      };
      const uint64_t* first_keys = workspace_.first_keys + segment_.index * kFirstKeys;
      const uint64_t* pool = workspace_.pool + segment_.image * workspace_.pool_capacity;
      for_each_key([&](int i) { return first_keys[i]; }, min(segment_.size, kFirstKeys), append_of_segment);
      for_each_key([&](int i) { return pool[i]; }, pool_size, append_of_segment);
    } else {
      visit(0, task_.num_rows, [&](int, uint64_t key) {
        if (key != 0) append(key);
      });
    }
    __syncthreads();
    num_gathered_ = shared_.count;
    __syncthreads();  // all have read it: if none enters NMS, the next segment's count may begin at once
  }

  __device__ int select_gathered(int wanted) {
    if (num_gathered_ < 0) gather();
    if (num_gathered_ <= wanted && bound_ == ~uint64_t{0}) {  // all at once
      for (int i = static_cast<int>(threadIdx.x); i < num_gathered_; i += static_cast<int>(blockDim.x)) {
        shared_.keys[i] = column_.keys[i];
      }
      return num_gathered_;
    }
    return block_select([&](int i) { return column_.keys[i]; }, num_gathered_, bound_, wanted, shared_.keys,
                        shared_.select);
  }

  // Needs no barrier before: the last selection, which read the scores, ended with one.
  __device__ void stage(int first, int count) const {
    visit(first, count, [&](int row, uint64_t key) { column_.scores[row - first] = key == 0 ? -1.0f : score_of(key); });
  }

  // The key of a staged score. Its column is the segment's, or 0 where a segment has all columns. Then a row has only
  // one candidate, so these keys order as the complete ones do.
  __device__ uint64_t staged_key(int first, int i) const {
    const float score = column_.scores[i];
    return score < 0.0f ? 0 : candidate_key(task_, score, first + i, segment_.local_index);
  }

  // If the rows are too many to stage at once, the best of the parts before join each part.
  __device__ int select_staged(int wanted) {
    int found = 0;
    for (int first = 0; first < task_.num_rows; first += kStagedRows) {
      const int count = min(task_.num_rows - first, kStagedRows);
      if (staged_ != first) stage(first, count);
      staged_ = first;
      const auto key_at = [&](int i) { return i < found ? column_.best[i] : staged_key(first, i - found); };
      found = block_select(key_at, found + count, bound_, wanted, shared_.keys, shared_.select);
      if (first + count == task_.num_rows) break;
      for (int i = static_cast<int>(threadIdx.x); i < found; i += static_cast<int>(blockDim.x)) {
        column_.best[i] = shared_.keys[i];
      }
    }
    return found;
  }

  // Thread t completes the keys t, t + blockDim.x, ..., which are those that it takes to NMS: no barrier follows.
  __device__ void restore_columns(int selected) const {
    __syncthreads();  // the bound has been read
    const uint64_t* row_best = workspace_.row_best + segment_.image * task_.num_rows;
    for (int i = static_cast<int>(threadIdx.x); i < selected; i += static_cast<int>(blockDim.x)) {
      shared_.keys[i] = row_best[row_of(task_, shared_.keys[i])];
    }
  }

  const PostprocessTask& task_;
  const PostprocessWorkspace& workspace_;
  const Segment& segment_;
  const ColumnShared& column_;
  BlockShared& shared_;
  uint64_t bound_ = ~uint64_t{0};
  int num_gathered_ = -1;
  int staged_ = -1;  // the first row whose score is in column.scores
};

}  // namespace ssd
