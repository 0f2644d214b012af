// box_iou: the entry points, for float and double.
#pragma once

#include <cstdint>

#include "common/box_math.h"
#include "common/stream.h"

namespace ssd {

void box_iou_cpu(const BoxOf<float>* boxes1, int64_t n, const BoxOf<float>* boxes2, int64_t m, float* ious);
void box_iou_cpu(const BoxOf<double>* boxes1, int64_t n, const BoxOf<double>* boxes2, int64_t m, double* ious);
void box_iou_cuda(const BoxOf<float>* boxes1, int64_t n, const BoxOf<float>* boxes2, int64_t m, float* ious,
                  Stream stream);
void box_iou_cuda(const BoxOf<double>* boxes1, int64_t n, const BoxOf<double>* boxes2, int64_t m, double* ious,
                  Stream stream);

}  // namespace ssd
