// IoU > threshold, as NMS asks it: without a division, yet decided exactly as by the rounded quotient.
#pragma once

#include "common/box_math.h"

namespace ssd {

// A threshold of IoUs, and what a comparison without a division needs.
struct IouThreshold {
  float value;
  float half_step;  // half the distance from `value` to the next larger float; 0 if the comparison has to divide
};
SSD_HD IouThreshold iou_threshold(float value) {
  const bool in_range = value >= 0x1p-20f && value < 1.0f;
  const float step = sub(bits_to_float(float_to_bits(value) + 1), value);
  return {value, in_range ? mul(0.5f, step) : 0.0f};
}

// Whether the IoUs of a box of this area neither underflow nor overflow anywhere: its corners are finite, and the
// product of its sides is neither tiny nor huge. An area of 0 counts as regular: such a box overlaps nothing.
SSD_HD bool is_regular(float box_area) { return box_area == 0.0f || (box_area >= 0x1p-49f && box_area <= 0x1p99f); }

#if defined(__CUDA_ARCH__)  // one instruction each, where nothing is NaN and the sign of a zero does not matter
SSD_HD float smaller(float a, float b) { return fminf(a, b); }
SSD_HD float larger(float a, float b) { return fmaxf(a, b); }
#else
SSD_HD float smaller(float a, float b) { return min_of(a, b); }
SSD_HD float larger(float a, float b) { return max_of(a, b); }
#endif

// iou(a, b) > threshold.value, if both areas are regular and threshold.half_step is not 0. The rounded quotient exceeds
// the threshold t if and only if shared - t * united > half_step * united. The two sides are never equal: a quotient
// halfway between two floats takes one bit more than a float has. The left side is one fma, exact wherever the sides
// are close; the right side is exact, since half_step is a power of two. For disjoint boxes `shared` is 0 or less.
SSD_HD bool regular_overlap(const Box& a, float area_a, const Box& b, float area_b, const IouThreshold& threshold) {
  const float width = sub(smaller(a.x2, b.x2), larger(a.x1, b.x1));
  const float height = larger(sub(smaller(a.y2, b.y2), larger(a.y1, b.y1)), 0.0f);
  const float shared = mul(width, height);
  const float united = sub(add(area_a, area_b), shared);
  return fma(-threshold.value, united, shared) > mul(threshold.half_step, united);
}

// iou(a, area_a, b, area_b) > threshold.value, for any boxes.
SSD_HD bool overlaps(const Box& a, float area_a, const Box& b, float area_b, const IouThreshold& threshold) {
  if (threshold.half_step > 0.0f && is_regular(area_a) && is_regular(area_b)) {
    return regular_overlap(a, area_a, b, area_b, threshold);
  }
  return iou(a, area_a, b, area_b) > threshold.value;
}

}  // namespace ssd
