// postprocess on the CPU in one parallel loop over the rows of all images. The thread that finishes the last rows of an
// image makes its detections.
#include <limits>
#include <mutex>

#include "common/parallel.h"
#include "common/vector.h"
#include "postprocess/image_nms_cpu.h"
#include "postprocess/score_filter_cpu.h"

namespace ssd {
namespace {

constexpr int kRowsPerItem = 64;
// The work that makes a thread worth waking: about 10 microseconds.
constexpr int64_t kLogitsPerThread = 1 << 16;

struct ImageCandidates {
  std::mutex mutex;
  int64_t items_left = 0;  // whose candidates no thread has added yet
  Candidates candidates;
};

// Adds the candidates of some items of an image. Returns whether they were the last ones.
bool add(ImageCandidates& image, Candidates& part, int64_t items) {
  const std::lock_guard<std::mutex> lock(image.mutex);
  Vector<uint64_t>& keys = image.candidates.keys;
  if (keys.empty()) {
    keys.swap(part.keys);
  } else {
    keys.insert(keys.end(), part.keys.begin(), part.keys.end());
  }
  image.candidates.complete_from = std::max(image.candidates.complete_from, part.complete_from);
  return (image.items_left -= items) == 0;
}

}  // namespace

void postprocess_cpu(const PostprocessTask& task) {
  const int64_t items_per_image = std::max(1, (task.num_rows + kRowsPerItem - 1) / kRowsPerItem);
  Vector<ImageCandidates> images(task.num_images);
  for (ImageCandidates& image : images) image.items_left = items_per_image;
  // A top-k over several segments needs all candidates. Else a few times as many as can be kept nearly always suffice.
  const size_t first_capacity =
      task.top_k_scope == TopKScope::segment ? 1024 + size_t{4} * task.keep_top_k : std::numeric_limits<size_t>::max();
  const int64_t grain = 1 + kLogitsPerThread / (int64_t{kRowsPerItem} * task.num_columns);
  parallel_for(task.num_images * items_per_image, grain, [&](int64_t begin, int64_t end) {
    ScoreFilter filter(task);
    ImageNms nms(task);
    Candidates part;
    while (begin < end) {
      const int64_t image = begin / items_per_image;
      const int64_t first = begin % items_per_image;
      const int64_t items = std::min(end - begin, items_per_image - first);
      const auto last_row = std::min<int64_t>(task.num_rows, (first + items) * kRowsPerItem);
      size_t capacity = first_capacity;
      filter.find(image, static_cast<int>(first * kRowsPerItem), static_cast<int>(last_row), capacity, part);
      if (add(images[image], part, items)) {
        Candidates& candidates = images[image].candidates;
        while (!nms.run(image, candidates)) {
          capacity *= 16;
          filter.find(image, 0, task.num_rows, capacity, candidates);
        }
        nms.write(image);
        candidates.keys = {};
      }
      begin += items;
    }
  });
}

}  // namespace ssd
