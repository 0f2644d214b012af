// match in CUDA, without a matrix of IoUs: each default box keeps its best ground truth in registers, each ground truth
// its best default box in one 64-bit word.
#include "common/cuda.cuh"
#include "match/match_task.h"

namespace ssd {
namespace {

using PairKey = unsigned long long;  // the type of CUDA's 64-bit atomics

constexpr int kThreads = 256;
constexpr int kStaged = 128;  // ground truths staged in shared memory at a time

__device__ unsigned warp_max(unsigned value) {  // __reduce_max_sync wants sm_80
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
    value = max(value, __shfl_xor_sync(kFullWarp, value, offset));
  }
  return value;
}

// best_kernel: finds each ground truth's best default box (FindPairs), and matches each default box that no pair has
// taken to its best ground truth, by threshold (Assign). If SomeIgnored, background that an ignored ground truth covers
// is ignored.
// Block:   256 default boxes of image blockIdx.y.
// Thread:  one default box against all ground truths of its image.
// Memory:  reads each ground truth once per block; writes 8 B per default box, and makes one atomic per ground truth
//          and block.
// Order:   deterministic: the maximum of distinct keys does not depend on the atomics' order.
template <bool FindPairs, bool Assign, bool SomeIgnored>
__global__ void __launch_bounds__(kThreads) best_kernel(const __grid_constant__ MatchTask task, PairKey* pairs) {
  SSD_SHARED(staged, Box[kStaged]);
  SSD_SHARED(staged_pairs, PairKey[kStaged]);
  SSD_SHARED(staged_ignored, bool[SomeIgnored ? kStaged : 1]);
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t image = blockIdx.y;
  const int i = static_cast<int>(blockIdx.x) * kThreads + thread;
  const bool valid = i < task.num_default_boxes;
  const Box box = valid ? task.default_boxes[i] : Box{0, 0, 0, 0};
  const float box_area = area(box);
  const GtRange range = gt_range(task.offsets, task.num_gt, image);
  const int64_t first_gt = range.first;
  const int num_gt = static_cast<int>(range.count);
  float best_iou = -1.0f;
  int64_t best_gt = -1;
  bool covered = false;
  for (int begin = 0; begin < num_gt; begin += kStaged) {
    const int count = min(num_gt - begin, kStaged);
    if (thread < count) {
      staged[thread] = task.gt_boxes[first_gt + begin + thread];
      const bool ignored = SomeIgnored && is_ignored(task, first_gt + begin + thread);
      staged_pairs[thread] = ignored ? 0 : pair_key(0.0f, 0);  // no pair, or the best one without overlap
      if (SomeIgnored) staged_ignored[thread] = ignored;
    }
    __syncthreads();
    for (int g = 0; g < count; ++g) {
      const Box gt = staged[g];
      if (SomeIgnored && staged_ignored[g]) {
        covered |= is_covered(task, box, box_area, gt);
        continue;
      }
      const float overlap = iou(gt, area(gt), box, box_area);
      if (overlap > best_iou) {
        best_iou = overlap;
        best_gt = begin + g;
      }
      // IoUs are not negative, so their bits order as they do.
      const unsigned bits = valid ? float_to_bits(overlap) : 0;
      if (FindPairs && __any_sync(kFullWarp, bits != 0)) {  // few warps overlap a given ground truth
        const unsigned largest = warp_max(bits);
        const unsigned holders = __ballot_sync(kFullWarp, bits == largest);
        if (thread % kWarpSize == __ffs(static_cast<int>(holders)) - 1) {
          atomicMax(&staged_pairs[g], static_cast<PairKey>(pair_key(overlap, i)));
        }
      }
    }
    __syncthreads();
    if (FindPairs && thread < count) atomicMax(&pairs[first_gt + begin + thread], staged_pairs[thread]);
  }
  if (!Assign || !valid) return;
  int64_t& matched = task.matched_idxs[image * task.num_default_boxes + i];
  if (!FindPairs && matched >= 0) return;  // taken by a pair
  matched = match_by_threshold(task, best_iou, best_gt);
  if (SomeIgnored && covered && matched == kBackground) matched = kIgnored;
}

// force_kernel: gives each ground truth of image blockIdx.x its best default box.
// Thread:  one ground truth, which gives way if one with precedence has the same best box.
// Order:   deterministic: each box is written by one thread.
__global__ void __launch_bounds__(kThreads) force_kernel(const __grid_constant__ MatchTask task, const PairKey* pairs) {
  const int64_t image = blockIdx.x;
  const GtRange range = gt_range(task.offsets, task.num_gt, image);
  const int64_t first_gt = range.first;
  const int num_gt = static_cast<int>(range.count);
  const auto is_forced = [&](int gt) { return is_pair(task, pairs[first_gt + gt]); };
  for (int gt = static_cast<int>(threadIdx.x); gt < num_gt; gt += kThreads) {
    if (!is_forced(gt)) continue;
    const int box = default_box_of(pairs[first_gt + gt]);
    bool wins = true;
    const int begin = task.last_wins ? gt + 1 : 0;
    const int end = task.last_wins ? num_gt : gt;
    for (int other = begin; wins && other < end; ++other) {
      wins = default_box_of(pairs[first_gt + other]) != box || !is_forced(other);
    }
    if (wins) task.matched_idxs[image * task.num_default_boxes + box] = gt;
  }
}

// The largest key of the block's threads, and the lowest `index` among equal ones. A barrier must come before the next
// call.
struct Best {
  PairKey key;
  int index;
};
__device__ Best block_best(Best mine, Best* shared) {
  const int thread = static_cast<int>(threadIdx.x);
  shared[thread] = mine;
  __syncthreads();
  for (int half = kThreads / 2; half > 0; half /= 2) {
    if (thread < half) {
      const Best other = shared[thread + half];
      const Best best = shared[thread];
      if (other.key > best.key || (other.key == best.key && other.index < best.index)) shared[thread] = other;
    }
    __syncthreads();
  }
  return shared[0];
}

// pair_kernel: matches the ground truths of image blockIdx.x one to one: takes the best pair of a free ground truth and
// a free default box until none is left. Ties go to the lower default box, then to the lower ground truth.
// Block:   one image; a ground truth whose box is taken searches all default boxes for its next best.
// Memory:  reads the P default boxes once each time that a ground truth loses its box.
// Order:   deterministic.
__global__ void __launch_bounds__(kThreads) pair_kernel(const __grid_constant__ MatchTask task, PairKey* pairs) {
  SSD_SHARED(reduction, Best[kThreads]);
  SSD_SHARED(lost, bool[kThreads]);
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t image = blockIdx.x;
  const GtRange range = gt_range(task.offsets, task.num_gt, image);
  const Box* gts = task.gt_boxes + range.first;
  PairKey* image_pairs = pairs + range.first;
  const int num_gt = static_cast<int>(range.count);
  int64_t* matched = task.matched_idxs + image * task.num_default_boxes;
  for (int i = thread; i < task.num_default_boxes; i += kThreads) matched[i] = kBackground;

  for (int round = 0; round < num_gt; ++round) {
    Best mine{0, num_gt};
    for (int gt = thread; gt < num_gt; gt += kThreads) {
      const PairKey key = image_pairs[gt];
      if (key > mine.key) mine = {key, gt};
    }
    const Best best = block_best(mine, reduction);
    if (!is_pair(task, best.key)) return;
    const int box = default_box_of(best.key);
    if (thread == 0) {
      matched[box] = best.index;
      image_pairs[best.index] = 0;  // matched
    }
    // All threads read a chunk's losers from shared memory: if wrong offsets make images overlap, another block writes
    // to the same pairs, and the threads of this one must not diverge even then.
    for (int begin = 0; begin < num_gt; begin += kThreads) {
      __syncthreads();
      const PairKey key = begin + thread < num_gt ? image_pairs[begin + thread] : 0;
      lost[thread] = key != 0 && default_box_of(key) == box;
      __syncthreads();
      for (int g = 0; g < kThreads; ++g) {
        if (!lost[g]) continue;
        const Box gt_box = gts[begin + g];
        Best next{0, 0};
        for (int i = thread; i < task.num_default_boxes; i += kThreads) {
          if (matched[i] >= 0) continue;
          const PairKey candidate = pair_key(iou(gt_box, task.default_boxes[i]), i);
          if (candidate > next.key) next.key = candidate;
        }
        const PairKey found = block_best(next, reduction).key;
        if (thread == 0) image_pairs[begin + g] = found;
        __syncthreads();
      }
    }
  }
}

template <bool SomeIgnored>
void launch_match(const MatchTask& task, PairKey* pairs, Stream stream) {
  const dim3 grid(ceil_div(task.num_default_boxes, kThreads), static_cast<unsigned>(task.num_images));
  const dim3 images(static_cast<unsigned>(task.num_images));
  if (task.bipartite) {
    launch(best_kernel<true, false, SomeIgnored>, grid, dim3(kThreads), 0, stream, task, pairs);
    launch(pair_kernel, images, dim3(kThreads), 0, stream, task, pairs);
    launch(best_kernel<false, true, SomeIgnored>, grid, dim3(kThreads), 0, stream, task, pairs);
    return;
  }
  launch(best_kernel<true, true, SomeIgnored>, grid, dim3(kThreads), 0, stream, task, pairs);
  if (task.force) launch(force_kernel, images, dim3(kThreads), 0, stream, task, pairs);
}

}  // namespace

size_t match_cuda_workspace(int64_t num_gt) { return static_cast<size_t>(num_gt) * sizeof(PairKey); }

void match_cuda(const MatchTask& task, void* workspace, Stream stream) {
  const DeviceGuard guard(stream);
  auto* pairs = static_cast<PairKey*>(workspace);
  zero_async(pairs, match_cuda_workspace(task.num_gt), stream);
  if (task.gt_ignored != nullptr) {
    launch_match<true>(task, pairs, stream);
  } else {
    launch_match<false>(task, pairs, stream);
  }
}

}  // namespace ssd
