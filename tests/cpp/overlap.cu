// overlap.cu: decisions about pairs of boxes, as kernels make them.
#include "common/cuda.cuh"
#include "common/overlap.h"
#include "overlap.h"

namespace ssd::test {
namespace {

constexpr int kThreads = 128;

__global__ void __launch_bounds__(kThreads) overlaps_kernel(const Pair* pairs, int count, uint8_t* decisions) {
  const int i = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (i >= count) return;
  const Box a = pairs[i].a;
  const Box b = pairs[i].b;
  const IouThreshold threshold = iou_threshold(pairs[i].threshold);
  const int forward = overlaps(a, area(a), b, area(b), threshold) ? 1 : 0;
  const int backward = overlaps(b, area(b), a, area(a), threshold) ? 2 : 0;
  decisions[i] = static_cast<uint8_t>(forward | backward);
}

}  // namespace

void overlaps_cuda(const Pair* pairs, int count, uint8_t* decisions, Stream stream) {
  launch(overlaps_kernel, dim3(static_cast<unsigned>(ceil_div(count, kThreads))), dim3(kThreads), 0, stream, pairs,
         count, decisions);
}

}  // namespace ssd::test
