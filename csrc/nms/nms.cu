// nms and batched_nms in CUDA, for any size in O(n) memory: sorts by score, then compares chunk after chunk of the
// sorted boxes with the boxes kept so far and with itself. No step waits for the host: the number of kept boxes stays
// on the device.
#include "common/arena.h"
#include "nms/resolve.cuh"
#include "nms/sort_candidates.cuh"

namespace ssd {
namespace {

constexpr int kChunk = 1024;                     // boxes decided per step, by one block of as many threads
constexpr int kChunkWords = kChunk / kWarpSize;  // words per row of the chunk's suppression matrix
constexpr int kCompareThreads = 256;
constexpr int kSlices = 64;  // of the kept boxes, each compared by its own blocks

template <typename T>
struct Sorted {  // the candidates in score order
  const SortKey<T>* keys;
  const uint32_t* order;
  const BoxOf<T>* boxes;
  const int64_t* classes;  // null: all have the same class
  int n;
};

template <typename T>
struct Kept {  // the boxes kept so far, and how many; out and count are the op's results
  BoxOf<T>* boxes;
  int64_t* classes;
  int64_t* out;
  int64_t* count;
};

struct Chunk {
  unsigned* matrix;  // [kChunkWords, kChunk] bit b of matrix[w][j]: box 32 w + b precedes box j and would suppress it
  unsigned* dead;    // [kChunkWords] bit b of word w: a kept box suppresses box 32 w + b
};

// gather_kernel: copies boxes and classes into score order.
// Thread:  one box.
// Memory:  reads scattered, writes coalesced.
// Order:   deterministic; no atomics.
template <typename T>
__global__ void __launch_bounds__(kCompareThreads)
    gather_kernel(const __grid_constant__ NmsTask<T> task, const uint32_t* order, BoxOf<T>* boxes, int64_t* classes) {
  const int i = static_cast<int>(blockIdx.x * kCompareThreads + threadIdx.x);
  if (i >= task.n) return;
  boxes[i] = task.boxes[order[i]];
  if (task.classes != nullptr) classes[i] = task.classes[order[i]];
}

// compare_chunk_kernel: fills the matrix and the dead bits of the chunk [first, first + kChunk).
// Grid:    x: 256 boxes of the chunk; y: first the words of the matrix, then the slices of the kept boxes.
// Thread:  one box of the chunk, compared with 32 others or with a slice.
// Memory:  all threads of a block compare with the same boxes: broadcast reads.
// Order:   deterministic: the atomics set bits.
template <typename T>
__global__ void __launch_bounds__(kCompareThreads)
    compare_chunk_kernel(const __grid_constant__ Sorted<T> sorted, const __grid_constant__ Kept<T> kept,
                         T iou_threshold, int first, const __grid_constant__ Chunk chunk) {
  const int j = static_cast<int>(blockIdx.x * kCompareThreads + threadIdx.x);  // within the chunk
  if (first + j >= sorted.n) return;
  const BoxOf<T> box = sorted.boxes[first + j];
  const T box_area = area(box);
  const int64_t box_class = sorted.classes == nullptr ? 0 : sorted.classes[first + j];
  const auto suppresses = [&](const BoxOf<T>& other, int64_t other_class) {
    return other_class == box_class && iou(other, area(other), box, box_area) > iou_threshold;
  };
  const int word = static_cast<int>(blockIdx.y);
  if (word < kChunkWords) {
    unsigned bits = 0;
    const int end = min(kWarpSize, j - word * kWarpSize);
    for (int bit = 0; bit < end; ++bit) {
      const int i = first + word * kWarpSize + bit;
      if (suppresses(sorted.boxes[i], sorted.classes == nullptr ? 0 : sorted.classes[i])) bits |= 1u << bit;
    }
    chunk.matrix[word * kChunk + j] = bits;
    return;
  }
  const int64_t num_kept = *kept.count;
  for (int64_t i = word - kChunkWords; i < num_kept; i += kSlices) {
    if (!suppresses(kept.boxes[i], sorted.classes == nullptr ? 0 : kept.classes[i])) continue;
    atomicOr(&chunk.dead[j / kWarpSize], 1u << (j % kWarpSize));
    return;
  }
}

// resolve_chunk_kernel: appends the chunk's kept boxes to the kept ones, and clears the dead bits for the next chunk.
// Block:   one, with one thread per box.
// Order:   deterministic; positions are counted.
template <typename T>
__global__ void __launch_bounds__(kChunk)
    resolve_chunk_kernel(const __grid_constant__ Sorted<T> sorted, const __grid_constant__ Kept<T> kept, int first,
                         const __grid_constant__ Chunk chunk) {
  SSD_SHARED(kept_words, unsigned[kChunkWords]);
  const int thread = static_cast<int>(threadIdx.x);
  const int i = first + thread;
  const bool dead = chunk.dead[thread / kWarpSize] >> (thread % kWarpSize) & 1;
  const bool alive = i < sorted.n && sorted.keys[i] != kNotACandidate<T> && !dead;
  const int64_t num_kept = *kept.count;
  // Words past this thread's hold no box before its own; rows past the end of the boxes were never written.
  resolve_tile(
      alive, [&](int word) { return alive && word * kWarpSize <= thread ? chunk.matrix[word * kChunk + thread] : 0u; },
      kept_words);
  int before = 0;
  const int total = count_kept(kept_words, before);
  if (kept_words[thread / kWarpSize] >> (thread % kWarpSize) & 1) {
    const int64_t place = num_kept + before;
    kept.boxes[place] = sorted.boxes[i];
    if (sorted.classes != nullptr) kept.classes[place] = sorted.classes[i];
    kept.out[place] = sorted.order[i];
  }
  if (thread < kChunkWords) chunk.dead[thread] = 0;
  if (thread == 0) *kept.count = num_kept + total;
}

// ---- workspace ------------------------------------------------------------------------------------------------------

template <typename T>
struct NmsWorkspace {
  SortBuffers<T> sort;
  BoxOf<T>* sorted_boxes;
  int64_t* sorted_classes;
  BoxOf<T>* kept_boxes;
  int64_t* kept_classes;
  Chunk chunk;

  NmsWorkspace(int64_t n, Arena& arena) {
    for (int i = 0; i < 2; ++i) {
      sort.keys[i] = arena.take<SortKey<T>>(n);
      sort.order[i] = arena.take<uint32_t>(n);
    }
    sort.histogram = arena.take<uint32_t>(kSortDigits * ceil_div(n, int64_t{kSortTile}));
    sorted_boxes = arena.take<BoxOf<T>>(n);
    sorted_classes = arena.take<int64_t>(n);
    kept_boxes = arena.take<BoxOf<T>>(n);
    kept_classes = arena.take<int64_t>(n);
    chunk.matrix = arena.take<unsigned>(int64_t{kChunkWords} * kChunk);
    chunk.dead = arena.take<unsigned>(kChunkWords);
  }
};

template <typename T>
void run_nms(const NmsTask<T>& task, void* memory, Stream stream) {
  const DeviceGuard guard(stream);
  zero_async(task.count, sizeof(int64_t), stream);
  if (task.n == 0) return;
  Arena arena(memory);
  const NmsWorkspace<T> workspace(task.n, arena);
  const int n = static_cast<int>(task.n);
  sort_candidates(task.scores, task.n, workspace.sort, stream);
  launch(gather_kernel<T>, dim3(ceil_div(n, kCompareThreads)), dim3(kCompareThreads), 0, stream, task,
         workspace.sort.order[0], workspace.sorted_boxes, workspace.sorted_classes);
  zero_async(workspace.chunk.dead, kChunkWords * sizeof(unsigned), stream);

  const int64_t* classes = task.classes == nullptr ? nullptr : workspace.sorted_classes;
  const Sorted<T> sorted{workspace.sort.keys[0], workspace.sort.order[0], workspace.sorted_boxes, classes, n};
  const Kept<T> kept{workspace.kept_boxes, workspace.kept_classes, task.kept, task.count};
  for (int64_t first = 0; first < n; first += kChunk) {
    const int begin = static_cast<int>(first);
    const int slices = first == 0 ? 0 : kSlices;  // nothing is kept before the first chunk
    launch(compare_chunk_kernel<T>, dim3(kChunk / kCompareThreads, kChunkWords + slices), dim3(kCompareThreads), 0,
           stream, sorted, kept, task.iou_threshold, begin, workspace.chunk);
    launch(resolve_chunk_kernel<T>, dim3(1), dim3(kChunk), 0, stream, sorted, kept, begin, workspace.chunk);
  }
}

}  // namespace

size_t nms_cuda_workspace(int64_t n, bool is_double) {
  if (n <= 0) return 0;
  Arena arena(nullptr);
  if (is_double) {
    NmsWorkspace<double>(n, arena);
  } else {
    NmsWorkspace<float>(n, arena);
  }
  return arena.used();
}

void nms_cuda(const NmsTask<float>& task, void* workspace, Stream stream) { run_nms(task, workspace, stream); }
void nms_cuda(const NmsTask<double>& task, void* workspace, Stream stream) { run_nms(task, workspace, stream); }

}  // namespace ssd
