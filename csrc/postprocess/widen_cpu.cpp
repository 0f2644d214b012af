// Widens logits of any type to floats, in vectors.
#include "postprocess/widen_cpu.h"

#include "common/simd.h"

namespace ssd {
namespace {

template <typename T>
SSD_HD void widen_all(const T* from, int64_t stride, int count, float* to) {
  if (stride == 1) {
    for (int i = 0; i < count; ++i) to[i] = to_float(from[i]);
  } else {
    for (int i = 0; i < count; ++i) to[i] = to_float(from[i * stride]);
  }
}

}  // namespace

// target_clones does not work on templates.
SSD_CLONES void widen(const float* from, int64_t stride, int count, float* to) { widen_all(from, stride, count, to); }
SSD_CLONES void widen(const Half* from, int64_t stride, int count, float* to) { widen_all(from, stride, count, to); }
SSD_CLONES void widen(const BFloat16* from, int64_t stride, int count, float* to) {
  widen_all(from, stride, count, to);
}

}  // namespace ssd
