// postprocess: the task that the entry points take, and the steps on one row that every backend shares.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/box_math.h"
#include "common/dtype.h"
#include "common/stream.h"

namespace ssd {

constexpr int kMaxHeadLevels = 8;

// Where the elements of one head output lie. A row of a level is (i0, i1, i2) of `sizes`, i2 fastest: (y, x, anchor)
// for rows in HWA order, (anchor, y, x) for AHW, (0, row, 0) for a plain [N, P, columns] tensor. So NCHW, channels-last
// and both channel orders are strides, and no kernel branches on them.
struct HeadMap {
  const void* data;
  int64_t image_stride, column_stride;
  int64_t strides[3];

  SSD_HD int64_t row_offset(int64_t image, int row, const int sizes[3]) const {
    const int i2 = row % sizes[2];
    const int i1 = row / sizes[2] % sizes[1];
    const int i0 = row / sizes[2] / sizes[1];
    return image * image_stride + i0 * strides[0] + i1 * strides[1] + i2 * strides[2];
  }
};

struct HeadLevel {
  HeadMap logits, deltas;
  int sizes[3];
  int first_row, num_rows;  // of this level among the P rows
};

// The window that boxes are clipped to, or the size that they are scaled to: one for all images, or one an image.
struct Sizes {
  const int64_t* per_image;  // [N, 2] (height, width); null: `height` and `width` for all
  float height, width;

  SSD_HD float height_of(int64_t image) const {
    return per_image == nullptr ? height : static_cast<float>(per_image[2 * image]);
  }
  SSD_HD float width_of(int64_t image) const {
    return per_image == nullptr ? width : static_cast<float>(per_image[2 * image + 1]);
  }
};

enum class Stage { never, before_nms, after_nms };

struct PostprocessTask {
  HeadLevel levels[kMaxHeadLevels];
  int num_levels;
  int64_t num_images;
  int num_rows, num_columns;  // P, C
  DType logits_dtype, deltas_dtype;
  const Box* default_boxes;
  BoxCoder coder;

  bool sigmoid;
  int background;         // column, or -1
  float score_threshold;  // candidates exceed it; an inclusive threshold comes as the float before it
  bool can_reject;        // reject_below applies
  float reject_below;     // softmax: no candidate where logit - background logit is below; sigmoid: where logit is
  int top_k;              // at most num_rows
  float iou_threshold;    // IoUs above it suppress; an inclusive threshold comes as the float before it
  int keep_top_k;
  Stage clip, rescale;
  Sizes image_sizes, original_sizes;

  Box* boxes;  // [N, keep_top_k], and so the following
  float* scores;
  int64_t* labels;
  int64_t* box_idxs;
  int64_t* counts;  // [N]

  SSD_HD const HeadLevel& level_of(int row) const {
    int index = 0;
    while (index + 1 < num_levels && row >= levels[index + 1].first_row) ++index;
    return levels[index];
  }
};

// A candidate of one class as an integer: larger is better. Scores are not negative, so their bits order as they do;
// the inverted index makes the lower of two tied default boxes the better one.
SSD_HD uint64_t candidate_key(float score, int row) {
  return static_cast<uint64_t>(float_to_bits(score)) << 32 | ~static_cast<uint32_t>(row);
}
SSD_HD float score_of(uint64_t key) { return bits_to_float(static_cast<uint32_t>(key >> 32)); }
SSD_HD int row_of(uint64_t key) { return static_cast<int>(~static_cast<uint32_t>(key)); }

SSD_HD Box apply_stage(const PostprocessTask& task, Stage stage, int64_t image, Box box) {
  const float height = task.image_sizes.height_of(image);
  const float width = task.image_sizes.width_of(image);
  if (task.clip == stage) box = clip(box, width, height);
  if (task.rescale == stage) {
    box = multiply(box, div(task.original_sizes.width_of(image), width),
                   div(task.original_sizes.height_of(image), height));
  }
  return box;
}

// The box of a row as NMS sees it.
SSD_HD Box decode_candidate(const PostprocessTask& task, int64_t image, int row) {
  const HeadLevel& level = task.level_of(row);
  const HeadMap& map = level.deltas;
  const int64_t offset = map.row_offset(image, row - level.first_row, level.sizes);
  float d[4];
  for (int i = 0; i < 4; ++i) d[i] = load_as_float(map.data, task.deltas_dtype, offset + i * map.column_stride);
  const Box box = decode(load_deltas(d[0], d[1], d[2], d[3], task.coder.yx), task.default_boxes[row], task.coder);
  return apply_stage(task, Stage::before_nms, image, box);
}

void postprocess_cpu(const PostprocessTask& task);
void postprocess_cuda(const PostprocessTask& task, void* workspace, Stream stream);
size_t postprocess_cuda_workspace(int64_t num_images, int64_t num_rows, int64_t num_columns, int64_t keep_top_k);

}  // namespace ssd
