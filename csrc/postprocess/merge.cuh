// Merges what NMS has kept of an image's segments into its detections.
#pragma once

#include "postprocess/segment_nms.cuh"

namespace ssd {

// Writes the detections of keys[0, count), sorted, to the places from `first` on.
inline __device__ void write_detections(const PostprocessTask& task, int64_t image, int first, int count,
                                        const uint64_t* keys) {
  for (int i = static_cast<int>(threadIdx.x); i < count; i += static_cast<int>(blockDim.x)) {
    const uint64_t key = candidate_of(task, keys[i]);
    const int row = row_of(task, key);
    const int64_t place = image * task.keep_top_k + first + i;
    task.boxes[place] = apply_stage(task, Stage::after_nms, image, decode_candidate(task, image, row));
    task.scores[place] = score_of(key);
    task.labels[place] = column_of(task, key);
    task.box_idxs[place] = row;
  }
}

// Pads an image's detections after the first `count`, and writes the count.
inline __device__ void end_detections(const PostprocessTask& task, int64_t image, int count) {
  for (int i = count + static_cast<int>(threadIdx.x); i < task.keep_top_k; i += static_cast<int>(blockDim.x)) {
    const int64_t place = image * task.keep_top_k + i;
    task.boxes[place] = Box{0.0f, 0.0f, 0.0f, 0.0f};
    task.scores[place] = 0.0f;
    task.labels[place] = -1;
    task.box_idxs[place] = -1;
  }
  if (threadIdx.x == 0) task.counts[image] = count;
}

// Writes the best keep_top_k of an image's kept keys, in order. All threads of the block call it.
inline __device__ void merge_image(const PostprocessTask& task, const PostprocessWorkspace& workspace, int64_t image,
                                   BlockShared& shared) {
  const uint64_t* keys = kept_keys_of(task, workspace, image);
  const int count = workspace.kept_sizes[image];
  const auto key_at = [&](int i) { return keys[i]; };
  int written = 0;
  uint64_t bound = ~uint64_t{0};
  while (written < min(count, task.keep_top_k)) {
    int selected = min(count - written, kSelectedKeys);
    if (count <= kSelectedKeys) {
      __syncthreads();  // shared.keys have been read
      for (int i = static_cast<int>(threadIdx.x); i < count; i += kTileThreads) shared.keys[i] = keys[i];
      block_pad_and_sort(shared.keys, count);
    } else {
      selected = min(selected, task.keep_top_k - written);
      block_select_sorted(key_at, count, bound, selected, shared.keys, shared.select);
      bound = shared.keys[selected - 1];  // read before the barrier with which the next selection begins
    }
    selected = min(selected, task.keep_top_k - written);
    write_detections(task, image, written, selected, shared.keys);
    written += selected;
  }
  end_detections(task, image, written);
}

}  // namespace ssd
