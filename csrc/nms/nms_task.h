// nms, batched_nms, nms_padded: the entry points, for float and double.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/box_math.h"
#include "common/stream.h"

namespace ssd {

// nms and batched_nms (classes not null): n boxes; writes the kept indices, best first, and how many there are.
template <typename T>
struct NmsTask {
  const BoxOf<T>* boxes;
  const T* scores;
  const int64_t* classes;  // a box suppresses only boxes of its class; null: all have the same class
  int64_t n;
  T iou_threshold;
  int64_t* kept;   // [n]
  int64_t* count;  // [1]
};

void nms_cpu(const NmsTask<float>& task);
void nms_cpu(const NmsTask<double>& task);
void nms_cuda(const NmsTask<float>& task, void* workspace, Stream stream);
void nms_cuda(const NmsTask<double>& task, void* workspace, Stream stream);
size_t nms_cuda_workspace(int64_t n, bool is_double);

// nms_padded: one problem per segment. The `segments_per_image` segments (classes) of an image share its boxes.
struct NmsPaddedTask {
  const Box* boxes;     // [images, n]
  const float* scores;  // [images, segments_per_image, n]
  int64_t images, segments_per_image, n;
  float iou_threshold;
  int64_t max_output;
  int64_t* kept;    // [images, segments_per_image, max_output], padded with -1
  int64_t* counts;  // [images, segments_per_image]
};

void nms_padded_cpu(const NmsPaddedTask& task);
void nms_padded_cuda(const NmsPaddedTask& task, void* workspace, Stream stream);
size_t nms_padded_cuda_workspace(int64_t segments, int64_t max_output);

}  // namespace ssd
