// postprocess: the task that the entry points take, and the steps on one row that every backend shares.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/dtype.h"
#include "common/overlap.h"
#include "common/stream.h"

namespace ssd {

constexpr int kMaxHeadLevels = 8;
constexpr int kPoolCapacity = 8192;  // candidates per image that CUDA's pool holds, beside the lists of the segments

// Where the elements of one head output lie. A row of a level is (i0, i1, i2) of `sizes`, i2 fastest: (y, x, anchor)
// for rows in HWA order, (anchor, y, x) for AHW, (0, row, 0) for a plain [N, P, columns] tensor. So NCHW, channels-last
// and both channel orders differ in strides alone, and no kernel branches on them.
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

// The window that boxes are clipped to, or the size that they are scaled to: one for all images, or one per image.
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

// Which columns of a row may be candidates, and which candidates suppress each other.
enum class ClassMode {
  per_class,  // all above the threshold; those of the same column
  argmax,     // the best one; those of the same column
  agnostic,   // the best one; all of an image
};

// What top_k is counted over.
enum class TopKScope { segment, level, image };

struct PostprocessTask {
  HeadLevel levels[kMaxHeadLevels];
  int num_levels;
  int64_t num_images;
  int num_rows, num_columns;  // P, C
  int column_bits;            // columns are below 2^column_bits
  DType logits_dtype, deltas_dtype;
  const Box* default_boxes;
  BoxCoder coder;

  bool sigmoid;
  int background;         // column, or -1
  float score_threshold;  // candidates exceed it; an inclusive threshold comes as the float before it
  // A logit makes no candidate if it (sigmoid), or it minus the row's largest logit (softmax), is below this; -infinity
  // if every number may.
  float reject_below;
  // Whether a row's largest foreground logit can reject the whole row: if it (sigmoid), or it minus the background's
  // logit (softmax with a background column), is below reject_below.
  bool can_reject;
  ClassMode class_mode;
  int top_k;  // at most the candidates that its scope can have
  TopKScope top_k_scope;
  bool has_min_box_size;       // min_box_size applies
  float min_box_size;          // boxes whose sides do not both exceed it do not enter NMS
  IouThreshold iou_threshold;  // IoUs above it suppress; an inclusive threshold comes as the float before it
  int keep_top_k;
  int pool_capacity;  // kPoolCapacity, or less in tests
  Stage clip, rescale;
  Sizes image_sizes, original_sizes;

  Box* boxes;  // [N, keep_top_k], as are the next three
  float* scores;
  int64_t* labels;
  int64_t* box_idxs;
  int64_t* counts;  // [N]

  SSD_HD int level_index(int row) const {
    int index = 0;
    while (index + 1 < num_levels && row >= levels[index + 1].first_row) ++index;
    return index;
  }

  // A segment holds the candidates of an image that may suppress each other.
  SSD_HD int num_segments() const { return class_mode == ClassMode::agnostic ? 1 : num_columns; }
  SSD_HD int segment_of(int column) const { return class_mode == ClassMode::agnostic ? 0 : column; }
  SSD_HD int segment_top_k() const { return top_k_scope == TopKScope::segment ? top_k : num_rows; }

  // The scopes of an image that top_k is counted over, if they are not its segments.
  SSD_HD int num_scopes() const { return top_k_scope == TopKScope::level ? num_levels : 1; }
  SSD_HD int scope_of(int row) const { return top_k_scope == TopKScope::level ? level_index(row) : 0; }
};

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
  const HeadLevel& level = task.levels[task.level_index(row)];
  const HeadMap& map = level.deltas;
  const int64_t offset = map.row_offset(image, row - level.first_row, level.sizes);
  float d[4];
  for (int i = 0; i < 4; ++i) d[i] = load_as_float(map.data, task.deltas_dtype, offset + i * map.column_stride);
  const Box box = decode(load_deltas(d[0], d[1], d[2], d[3], task.coder.yx), task.default_boxes[row], task.coder);
  return apply_stage(task, Stage::before_nms, image, box);
}

SSD_HD bool enters_nms(const PostprocessTask& task, Box box) {
  return !task.has_min_box_size || (sub(box.x2, box.x1) > task.min_box_size && sub(box.y2, box.y1) > task.min_box_size);
}

void postprocess_cpu(const PostprocessTask& task);
void postprocess_cuda(const PostprocessTask& task, void* workspace, Stream stream);
size_t postprocess_cuda_workspace(const PostprocessTask& task);  // of a task that set_problem has set

}  // namespace ssd
