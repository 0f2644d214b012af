// box_iou on the CPU: one row of the result at a time, over one array per coordinate, so that it vectorizes.
#include "box_iou/box_iou_task.h"
#include "common/parallel.h"
#include "common/simd.h"
#include "common/vector.h"

namespace ssd {
namespace {

template <typename T>
SSD_HD void iou_row(BoxOf<T> box, const T* x1, const T* y1, const T* x2, const T* y2, const T* areas, int64_t m,
                    T* ious) {
  const T box_area = area(box);
  for (int64_t j = 0; j < m; ++j) ious[j] = iou(box, box_area, BoxOf<T>{x1[j], y1[j], x2[j], y2[j]}, areas[j]);
}

// target_clones does not work on templates.
SSD_CLONES void iou_row_of(BoxOf<float> box, const float* x1, const float* y1, const float* x2, const float* y2,
                           const float* areas, int64_t m, float* ious) {
  iou_row(box, x1, y1, x2, y2, areas, m, ious);
}
SSD_CLONES void iou_row_of(BoxOf<double> box, const double* x1, const double* y1, const double* x2, const double* y2,
                           const double* areas, int64_t m, double* ious) {
  iou_row(box, x1, y1, x2, y2, areas, m, ious);
}

template <typename T>
void box_iou_of(const BoxOf<T>* boxes1, int64_t n, const BoxOf<T>* boxes2, int64_t m, T* ious) {
  Vector<T> columns(5 * m);
  T* const x1 = columns.data();
  T *const y1 = x1 + m, *const x2 = y1 + m, *const y2 = x2 + m, *const areas = y2 + m;
  for (int64_t j = 0; j < m; ++j) {
    x1[j] = boxes2[j].x1;
    y1[j] = boxes2[j].y1;
    x2[j] = boxes2[j].x2;
    y2[j] = boxes2[j].y2;
    areas[j] = area(boxes2[j]);
  }
  parallel_for(n, 1 + 65536 / (m + 1), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      iou_row_of(boxes1[i], x1, y1, x2, y2, areas, m, ious + i * m);
      poll_interrupt(m);
    }
  });
}

}  // namespace

void box_iou_cpu(const BoxOf<float>* boxes1, int64_t n, const BoxOf<float>* boxes2, int64_t m, float* ious) {
  box_iou_of(boxes1, n, boxes2, m, ious);
}
void box_iou_cpu(const BoxOf<double>* boxes1, int64_t n, const BoxOf<double>* boxes2, int64_t m, double* ious) {
  box_iou_of(boxes1, n, boxes2, m, ious);
}

}  // namespace ssd
