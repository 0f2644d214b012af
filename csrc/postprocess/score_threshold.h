// What a score threshold means for the logits: which of them cannot belong to a candidate.
#pragma once

#include <cmath>
#include <limits>

#include "postprocess/postprocess_task.h"

namespace ssd {

// Turns an inclusive threshold into an exclusive one: x >= t is x > the float before t.
inline float exclusive_threshold(double threshold, bool inclusive) {
  const auto value = static_cast<float>(threshold);
  if (!inclusive) return value;
  return value > 0 ? std::nextafter(value, -1.0f) : -1.0f;
}

// Finds the smallest float whose value under a monotone function exceeds the threshold, by bisection over the floats in
// order.
template <typename Function>
float smallest_above(float threshold, Function function) {
  const auto float_at = [](int64_t position) {  // 0 is position 0, larger floats have larger positions
    const float magnitude = bits_to_float(static_cast<unsigned>(position < 0 ? -position : position));
    return position < 0 ? -magnitude : magnitude;
  };
  int64_t below = -0x7F800000;  // -infinity
  int64_t above = 0x7F800000;   // +infinity: taken where no float exceeds the threshold
  while (above - below > 1) {
    const int64_t middle = below + (above - below) / 2;
    (function(float_at(middle)) > threshold ? above : below) = middle;
  }
  return float_at(above);
}

// Sets the threshold that candidates exceed, and the limits of logits that follow from it. The task's activation and
// background must be set.
inline void set_score_threshold(PostprocessTask& task, float threshold) {
  task.score_threshold = threshold;
  // Softmax: the sum is at least exp(0), and exp is monotone, so a score exceeds t only if exp(logit - max) does, and
  // then exp(logit - background logit) does too. Without a background column there is nothing to reject a row by.
  task.can_reject = threshold >= 0 && (task.sigmoid || task.background >= 0);
  task.reject_below = -std::numeric_limits<float>::infinity();
  if (threshold >= 0) {
    task.reject_below = smallest_above(threshold, [&](float x) { return task.sigmoid ? sigmoid(x) : exp(x); });
  }
}

}  // namespace ssd
