// The best candidates of one segment, in order, by a whole block.
#pragma once

#include "common/sort.cuh"
#include "nms/greedy.cuh"
#include "postprocess/column.cuh"

namespace ssd {

struct Segment {
  int64_t image;
  int of_image;   // which of the image's segments
  int64_t index;  // among those of all images
  int size;       // candidates
};

// Rows of a column that are in shared memory at a time: all that common models have.
constexpr int kStagedRows = 9216;

struct ColumnShared {  // dynamic shared memory
  float* scores;       // [min(P, kStagedRows)]
  uint64_t* best;      // [kSelectedKeys] out of what was staged before, if P exceeds kStagedRows
};

inline size_t column_bytes(int num_rows) {
  const bool chunked = num_rows > kStagedRows;
  return chunked ? kStagedRows * sizeof(float) + kSelectedKeys * sizeof(uint64_t)
                 : static_cast<size_t>(num_rows > 0 ? num_rows : 1) * sizeof(float);
}

inline __device__ ColumnShared column_shared(float* memory) {
  return {memory, reinterpret_cast<uint64_t*>(memory + kStagedRows)};
}

struct BlockShared {
  uint64_t keys[kSelectedKeys];
  SelectShared select;
  TileShared tile;
  int count;
};

// Sorts all candidates of a segment, which are in its list and in the pool and no more than kSelectedKeys, into
// shared.keys. Returns how many enter NMS. All threads of the block call it, after a barrier; ends with one.
inline __device__ int sort_listed(const PostprocessTask& task, const PostprocessWorkspace& workspace,
                                  const Segment& segment, BlockShared& shared) {
  if (threadIdx.x == 0) shared.count = 0;
  __syncthreads();
  const auto take = [&](uint64_t key) {
    if (task.segment_of(column_of(task, key)) != segment.of_image) return;
    if (enters_top_k(task, workspace, segment.image, key)) shared.keys[atomicAdd(&shared.count, 1)] = key;
  };
  const uint64_t* first_keys = workspace.first_keys + segment.index * kFirstKeys;
  const uint64_t* pool = workspace.pool + segment.image * workspace.pool_capacity;
  for_each_key([&](int i) { return first_keys[i]; }, min(segment.size, kFirstKeys), take);
  for_each_key([&](int i) { return pool[i]; }, workspace.pool_sizes[segment.image], take);
  __syncthreads();
  const int count = shared.count;
  block_pad_and_sort(shared.keys, count);
  return min(count, task.segment_top_k());
}

// The candidates of a segment from its column, best first, a batch at a time.
template <typename T>
class ColumnBatches {
 public:
  __device__ ColumnBatches(const PostprocessTask& task, const PostprocessWorkspace& workspace, const Segment& segment,
                           const ColumnShared& column, BlockShared& shared)
      : task_(task), workspace_(workspace), segment_(segment), column_(column), shared_(shared) {}

  // Sorts the best `wanted` that have not been taken yet into shared.keys. Returns how many there were. All threads of
  // the block call it, after a barrier; thread t may then read the keys t, t + blockDim.x, ...
  __device__ int take(int wanted) {
    const int selected = task_.num_rows <= kStagedRows ? select_at_once(wanted) : select_by_chunks(wanted);
    if (selected == 0) return 0;
    block_pad_and_sort(shared_.keys, selected);
    bound_ = shared_.keys[selected - 1];
    if (task_.class_mode == ClassMode::agnostic) complete(selected);
    return selected;
  }

 private:
  // Whatever was read of the scores before was read in a selection, which ended with a barrier.
  __device__ void stage(int first, int count) const {
    if (task_.class_mode == ClassMode::per_class) {
      stage_column<T>(task_, workspace_, segment_.image, segment_.of_image, first, count, column_.scores);
    } else {
      stage_best(task_, workspace_, segment_.image, segment_.of_image, first, count, column_.scores);
    }
  }

  // The key of a staged score: its column is that of the segment, or 0 where a segment has all columns. Only one of a
  // row is a candidate then, so these keys order as the complete ones do.
  __device__ uint64_t staged_key(int first, int i) const {
    const float score = column_.scores[i];
    return score < 0.0f ? 0 : candidate_key(task_, score, first + i, segment_.of_image);
  }

  __device__ int select_at_once(int wanted) {
    if (!staged_) stage(0, task_.num_rows);
    staged_ = true;
    return block_select([&](int i) { return staged_key(0, i); }, task_.num_rows, bound_, wanted, shared_.keys,
                        shared_.select);
  }

  __device__ int select_by_chunks(int wanted) {
    int found = 0;  // in column_.best: the best of the chunks before
    for (int first = 0; first < task_.num_rows; first += kStagedRows) {
      const int count = min(task_.num_rows - first, kStagedRows);
      stage(first, count);
      const auto key_at = [&](int i) { return i < found ? column_.best[i] : staged_key(first, i - found); };
      found = block_select(key_at, found + count, bound_, wanted, shared_.keys, shared_.select);
      for (int i = static_cast<int>(threadIdx.x); i < found; i += static_cast<int>(blockDim.x)) {
        column_.best[i] = shared_.keys[i];
      }
    }
    return found;
  }

  // Thread t completes the keys t, t + blockDim.x, ..., which are those that it takes to NMS: no barrier follows.
  __device__ void complete(int selected) const {
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
  bool staged_ = false;
};

}  // namespace ssd
